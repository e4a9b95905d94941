"""Storage knows whose it is: metadata, WAL and objects carry one cluster id and format version.

A first start gives all three the same new identity, in an order that a crash can't confuse:
metadata first, marked unfinished; then WAL and objects; then metadata, marked finished. Later
starts compare. A part that is another cluster's, or has lost its mark while others have theirs,
refuses the start: starting afresh beside what is left would look like lost data. So does metadata
into which a migration is under way: it says so until everything is there.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import msgspec

from elanus.errors import CorruptData, InternalError, Unavailable
from elanus.runtime.world import World
from elanus.storage.disk import Disk, FileMissing
from elanus.storage.meta.base import Compare, MetaStore, Put
from elanus.storage.objects.base import ObjectNotFound, ObjectStore

FORMAT_VERSION = 1
META_KEY = "storage/identity"
MARK_NAME = "cluster.json"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """``complete`` is false while parts may lack their mark; ``migrating`` is true while another
    storage's data is being copied here."""

    cluster_id: str
    format_version: int = FORMAT_VERSION
    complete: bool = True
    migrating: bool = False


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
        self._revision: int | None = None

    async def read(self) -> Identity | None:
        pair = await self._meta.get(META_KEY)
        self._revision = 0 if pair is None else pair.modified_revision
        return None if pair is None else decode_identity(pair.value, self.name)

    async def write(self, identity: Identity) -> None:
        """Only over what was read last: of processes that start together, one creates the id."""
        if self._revision is None:
            await self.read()
        compare = Compare(META_KEY, self._revision or 0)
        result = await self._meta.transact([Put(META_KEY, encode_identity(identity))], [compare])
        if not result.succeeded:
            raise InternalError("another process is starting on the same metadata")
        self._revision = result.revision

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
        return decode_identity(data, str(path))

    async def write(self, identity: Identity) -> None:
        await self._world.executor.run("io", self._write, encode_identity(identity))

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
        return decode_identity(data, f"{self._key} of {self.name}")

    async def write(self, identity: Identity) -> None:
        await self._objects.put(self._key, [encode_identity(identity)])

    async def holds_data(self) -> bool:
        return any(
            info.key != self._key and not info.key.startswith(self._beside)
            for info in await self._objects.list(self._prefix)
        )


async def ensure_identity(world: World, meta: IdentityMark, *others: IdentityMark) -> str:
    """The cluster id that all parts carry; a first start creates it.

    Raises CorruptData if the parts don't belong together, and says which one is wrong;
    Unavailable if a migration into them is not finished.
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
    _require_finished(known, meta.name)
    for mark in others:
        if await _is_marked(mark, known, meta.name):
            continue
        if await mark.holds_data():
            raise CorruptData(f"{mark.name} holds data of an unknown cluster")
        await mark.write(Identity(cluster_id=known.cluster_id))
    if not known.complete:
        await meta.write(Identity(cluster_id=known.cluster_id))
    return known.cluster_id


async def read_identity(meta: IdentityMark, *others: IdentityMark) -> str:
    """The cluster id that all parts carry; nothing is changed.

    Raises CorruptData if there is none or the parts don't belong together, Unavailable if a
    first start or a migration is not finished.
    """
    known = await meta.read()
    if known is None:
        raise CorruptData(f"{meta.name} has no cluster id: there is no cluster here")
    _require_finished(known, meta.name)
    if not known.complete:
        raise Unavailable(f"{meta.name} is that of a first start that was not finished: start it")
    for mark in others:
        await _is_marked(mark, known, meta.name)
    return known.cluster_id


async def _is_marked(mark: IdentityMark, known: Identity, where: str) -> bool:
    """Whether ``mark`` is there, and then it is of ``known``, which ``where`` carries."""
    found = await mark.read()
    if found is not None:
        require_version(found, mark.name)
        if found.cluster_id != known.cluster_id:
            raise CorruptData(
                f"{mark.name} belongs to cluster {found.cluster_id}, "
                f"{where} to cluster {known.cluster_id}"
            )
        return True
    if known.complete:
        raise CorruptData(
            f"{mark.name} is empty or has lost its mark {MARK_NAME}, but {where} "
            f"belongs to cluster {known.cluster_id}, which has data there; put it back"
        )
    return False


def _require_finished(known: Identity, where: str) -> None:
    require_version(known, where)
    if known.migrating:
        raise Unavailable(
            f"{where} holds an unfinished migration of cluster {known.cluster_id}: finish it "
            f"with `elanus migrate`, or empty this storage; what it is copied from is whole"
        )


def _new_uuid(world: World) -> UUID:
    return UUID(int=world.random.getrandbits(128), version=4)


def require_version(identity: Identity, where: str) -> None:
    if identity.format_version != FORMAT_VERSION:
        raise CorruptData(
            f"{where} has format version {identity.format_version}, "
            f"this program reads version {FORMAT_VERSION}"
        )


def encode_identity(identity: Identity) -> bytes:
    return msgspec.json.encode(identity)


def decode_identity(data: bytes, where: str) -> Identity:
    try:
        return msgspec.json.decode(data, type=Identity)
    except msgspec.DecodeError as error:
        raise CorruptData(f"the cluster id of {where} is damaged: {error}") from error
