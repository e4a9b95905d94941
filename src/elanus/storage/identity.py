"""Storage knows whose it is: metadata, WAL and objects carry one cluster id and format version.

A first start gives all three the same new identity, in an order that a crash can't confuse:
metadata first, marked unfinished; then WAL and objects; then metadata, marked finished. Later
starts compare. A part that is another cluster's, or has lost its mark while others have theirs,
refuses the start: starting afresh beside what is left would look like lost data.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from elanus.errors import CorruptData, InternalError
from elanus.runtime.world import World
from elanus.storage.disk import Disk, FileMissing
from elanus.storage.meta.base import Compare, MetaStore, Put
from elanus.storage.objects.base import ObjectNotFound, ObjectStore

FORMAT_VERSION = 1
META_KEY = "storage/identity"
MARK_NAME = "cluster.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    cluster_id: str
    format_version: int = FORMAT_VERSION
    complete: bool = True


class IdentityMark(ABC):
    """Where one part of the storage keeps its identity."""

    name: str

    @abstractmethod
    async def read(self) -> Identity | None: ...

    @abstractmethod
    async def write(self, identity: Identity) -> None:
        """Durable on return."""

    @abstractmethod
    async def holds_data(self) -> bool:
        """Whether there is anything else than the mark."""


class MetaMark(IdentityMark):
    def __init__(self, meta: MetaStore) -> None:
        self.name = "metadata"
        self._meta = meta

    async def read(self) -> Identity | None:
        pair = await self._meta.get(META_KEY)
        return None if pair is None else _decode(pair.value, self.name)

    async def write(self, identity: Identity) -> None:
        pair = await self._meta.get(META_KEY)
        compare = Compare(META_KEY, pair.modified_revision if pair else 0)
        result = await self._meta.transact([Put(META_KEY, _encode(identity))], [compare])
        if not result.succeeded:
            raise InternalError("another process is starting on the same metadata")

    async def holds_data(self) -> bool:
        pairs = await self._meta.range("", limit=2)
        return any(pair.key != META_KEY for pair in pairs)


class DirectoryMark(IdentityMark):
    """The mark of a local WAL: a file in its directory."""

    def __init__(self, world: World, disk: Disk, directory: Path) -> None:
        self.name = f"WAL {directory}"
        self._world = world
        self._disk = disk
        self._directory = directory

    async def read(self) -> Identity | None:
        path = self._directory / MARK_NAME
        try:
            data = await self._world.executor.run("io", self._disk.read_file, path)
        except FileMissing:
            return None
        return _decode(data, str(path))

    async def write(self, identity: Identity) -> None:
        await self._world.executor.run("io", self._write, _encode(identity))

    def _write(self, data: bytes) -> None:
        self._disk.make_directories(self._directory)
        self._disk.write_file_durably(self._directory / MARK_NAME, [data])

    async def holds_data(self) -> bool:
        run = self._world.executor.run
        names = await run("io", self._disk.list_directory, self._directory)
        return any(not name.startswith(MARK_NAME) for name in names)


class ObjectsMark(IdentityMark):
    """The mark of what lies under ``prefix`` of an object store, which is empty or ends with a
    slash. ``beside``: prefixes under it that have marks of their own, and are not looked into."""

    def __init__(
        self,
        objects: ObjectStore,
        where: str = "",
        *,
        prefix: str = "",
        beside: Sequence[str] = (),
    ) -> None:
        self.name = f"object storage {where}".rstrip()
        self._objects = objects
        self._prefix = prefix
        self._key = f"{prefix}{MARK_NAME}"
        self._beside = tuple(beside)

    async def read(self) -> Identity | None:
        try:
            data = await self._objects.get(self._key)
        except ObjectNotFound:
            return None
        return _decode(data, f"{self._key} of {self.name}")

    async def write(self, identity: Identity) -> None:
        await self._objects.put(self._key, [_encode(identity)])

    async def holds_data(self) -> bool:
        return any(
            info.key != self._key and not info.key.startswith(self._beside)
            for info in await self._objects.list(self._prefix)
        )


async def ensure_identity(world: World, meta: IdentityMark, *others: IdentityMark) -> str:
    """The cluster id that all parts carry; a first start creates it.

    Raises CorruptData if the parts don't belong together, and says which one is wrong.
    """
    known = await meta.read()
    if known is None:
        for mark in (meta, *others):
            if await mark.read() is not None or await mark.holds_data():
                raise CorruptData(
                    f"metadata has no cluster id, but {mark.name} holds data: the metadata is "
                    f"lost or this is the wrong place for it; put it back, or start on an "
                    f"empty data directory"
                )
        known = Identity(cluster_id=str(_new_uuid(world)), complete=False)
        await meta.write(known)
    _require_version(known, meta.name)
    for mark in others:
        found = await mark.read()
        if found is not None:
            _require_version(found, mark.name)
            if found.cluster_id != known.cluster_id:
                raise CorruptData(
                    f"{mark.name} belongs to cluster {found.cluster_id}, "
                    f"{meta.name} to cluster {known.cluster_id}"
                )
        elif known.complete:
            raise CorruptData(
                f"{mark.name} is empty or has lost its mark {MARK_NAME}, but {meta.name} "
                f"belongs to cluster {known.cluster_id}, which has data there; put it back"
            )
        elif await mark.holds_data():
            raise CorruptData(f"{mark.name} holds data of an unknown cluster")
        else:
            await mark.write(Identity(cluster_id=known.cluster_id))
    if not known.complete:
        await meta.write(Identity(cluster_id=known.cluster_id))
    return known.cluster_id


def _new_uuid(world: World) -> UUID:
    return UUID(int=world.random.getrandbits(128), version=4)


def _require_version(identity: Identity, where: str) -> None:
    if identity.format_version != FORMAT_VERSION:
        raise CorruptData(
            f"{where} has format version {identity.format_version}, "
            f"this program reads version {FORMAT_VERSION}"
        )


def _encode(identity: Identity) -> bytes:
    return msgspec.json.encode(identity)


def _decode(data: bytes, where: str) -> Identity:
    try:
        return msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise CorruptData(f"the cluster id of {where} is damaged: {error}") from error
