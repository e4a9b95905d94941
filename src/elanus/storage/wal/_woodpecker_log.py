"""What writer, readers and upkeep of one log share: names, format, and counted requests."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from elanus.config.storage import WoodpeckerSettings
from elanus.errors import CorruptData
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer, ObjectInfo, ObjectStore
from elanus.storage.wal._fragments import (
    HEADER_SIZE,
    Fragment,
    FragmentFormat,
    Header,
    Kind,
)
from elanus.storage.wal._woodpecker_layout import Layout, Names, Unit

MAX_INLINE_BYTES = 256 << 10
"""Checksums of more are made in a thread."""


@dataclass(slots=True)
class Counters:
    """Requests to the object store by kind, and what they carried. A list counts as one request,
    whatever its number of pages. ``merges``: objects that were made of several fragments."""

    appends: int = 0
    records: int = 0
    fragments: int = 0
    merges: int = 0
    puts: int = 0
    gets: int = 0
    ranged_gets: int = 0
    lists: int = 0
    deletes: int = 0
    bytes_put: int = 0
    bytes_got: int = 0

    @property
    def requests(self) -> int:
        return self.puts + self.gets + self.ranged_gets + self.lists + self.deletes

    def as_dict(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


class LogObjects:
    """The objects of the log ``name`` under ``root``, in ``store``."""

    def __init__(
        self,
        world: World,
        store: ObjectStore,
        settings: WoodpeckerSettings,
        cluster_id: bytes,
        name: str,
        counters: Counters,
    ) -> None:
        self.name = name
        self.names = Names(f"{settings.root_path}/{name}/")
        self.settings = settings
        self.world = world
        self.counters = counters
        self.format = FragmentFormat(cluster_id, name)
        self._store = store

    async def layout(self) -> Layout:
        return self.names.parse(await self._list(self.names.prefix))

    async def start(self) -> int:
        """The number of the segment that the log begins with."""
        return self.names.parse(await self._list(self.names.starts)).start

    async def _list(self, prefix: str) -> list[ObjectInfo]:
        self.counters.lists += 1
        return await self._store.list(prefix)

    async def put(self, key: str, header: Header, body: Sequence[Buffer] = ()) -> None:
        """Raises ObjectExists if another object has the key."""
        await self.put_parts(key, [self.format.encode(header), *body])

    async def put_parts(self, key: str, parts: Sequence[Buffer]) -> None:
        self.counters.puts += 1
        self.counters.bytes_put += sum(memoryview(part).nbytes for part in parts)
        await self._store.put(key, parts, create_only=True)

    async def get(self, key: str) -> bytes:
        self.counters.gets += 1
        data = await self._store.get(key)
        self.counters.bytes_got += len(data)
        return data

    async def header(self, segment: int, number: int) -> Header:
        """Raises ObjectNotFound, or CorruptData if there is no right header."""
        return await self._header(self.names.fragment(segment, number), number)

    async def start_header(self, segment: int) -> Header:
        """As ``header``, of the mark that the log begins with ``segment``."""
        return await self._header(self.names.start(segment), segment)

    async def _header(self, key: str, number: int) -> Header:
        self.counters.ranged_gets += 1
        data = await self._store.get_range(key, 0, HEADER_SIZE)
        self.counters.bytes_got += len(data)
        header = self.format.decode_header(data, key)
        if header.number != number:
            raise CorruptData(f"{key} holds fragment {header.number} instead of {number}")
        return header

    async def fragments(self, unit: Unit) -> list[Fragment]:
        data = await self.get(unit.key)
        return await self.decode(unit.key, data, unit.first, unit.last)

    async def decode(self, key: str, data: bytes, first: int, last: int) -> list[Fragment]:
        if len(data) <= MAX_INLINE_BYTES:
            return self.format.decode(data, key, first, last)
        run = self.world.executor.run
        return await run("compute", self.format.decode, data, key, first, last)

    async def delete(self, keys: Sequence[str]) -> None:
        self.counters.deletes += len(keys)
        await self._store.delete(keys)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may write to a segment: whoever ended the one before."""

    writer: bytes
    term: int

    @classmethod
    def of(cls, header: Header) -> "Owner":
        return cls(header.writer, header.term)

    def header(
        self,
        kind: Kind,
        segment: int,
        number: int,
        *,
        tail_count: int = 0,
        complete_before: int = 0,
    ) -> Header:
        return Header(
            kind,
            self.writer,
            self.term,
            segment,
            number,
            tail_count=tail_count,
            complete_before=complete_before,
        )


NOBODY = Owner(bytes(16), 0)
