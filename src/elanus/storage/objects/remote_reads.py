"""The reading half of a remote object store, see ``remote.py``.

Large objects are read in pieces, a few at a time: a single connection to a store far away is slow,
and the memory stays bounded when the reader passes the pieces on.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from elanus.errors import DiskFull, ElanusError, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.backends import Backends
from elanus.storage.objects.base import (
    Buffer,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    ObjectStream,
)
from elanus.storage.objects.failures import Failure, Kind, RequestFailed
from elanus.storage.objects.keys import check_key
from elanus.storage.objects.ranges import Span, merge, split
from elanus.storage.objects.retry import Requests, RetryBudget, RetryPolicy
from elanus.storage.objects.stats import ObjectStats

if TYPE_CHECKING:
    from obstore import GetOptions, ListStream, ObjectMeta

CHUNK_BYTES = 8 << 20
# Not a key that users can have, so listings leave it out.
PROBE_KEY = ".create-only"

_READ_AHEAD = 4
_MAX_GAP_BYTES = 1 << 20
_LIST_PAGE = 1_000


class RemoteReading(ObjectStore):
    """Reads of ``backends``, whose requests ``policy`` and ``budget`` rule."""

    def __init__(
        self,
        world: World,
        backends: Backends,
        policy: RetryPolicy,
        budget: RetryBudget | None = None,
    ) -> None:
        self._world = world
        self._backend = backends.single
        self._backend_for_parts = backends.parts
        self.where = backends.where
        self.stats = self.request_stats = ObjectStats()
        budget = budget or RetryBudget(world.clock)
        self._requests = Requests(world, policy, self.stats, budget)

    async def get(self, key: str) -> bytes:
        async with self.stream(key) as stream:
            chunks = [chunk async for chunk in stream.chunks]
        if stream.size_bytes <= CHUNK_BYTES:
            return b"".join(chunks)
        return await self._world.executor.run("io", b"".join, chunks)

    @asynccontextmanager
    async def stream(self, key: str) -> AsyncIterator[ObjectStream]:
        with self._translated(check_key(key)):
            async with self._stream(key) as stream:
                yield stream

    @asynccontextmanager
    async def _stream(self, key: str) -> AsyncIterator[ObjectStream]:
        """The first request tells the size; the others follow a few ahead of the reader, and read
        the same version of the object or fail."""

        async def attempt() -> tuple[memoryview, int, str | None]:
            answer = await self._backend.get_async(key, options={"range": (0, CHUNK_BYTES)})
            data = memoryview(await answer.bytes_async())
            return data, answer.meta["size"], answer.meta["e_tag"]

        try:
            first, size_bytes, version = await self._requests.run(
                "get", key, attempt, size_bytes=CHUNK_BYTES
            )
        except RequestFailed as error:
            if error.failure.kind is not Kind.OUT_OF_RANGE:
                raise
            first, size_bytes, version = memoryview(b""), 0, None
        self.stats.add_bytes(received=first.nbytes)
        async with aclosing(self._read_ahead(key, first, size_bytes, version)) as chunks:
            yield ObjectStream(size_bytes, chunks)

    async def _read_ahead(
        self, key: str, first: memoryview, size_bytes: int, version: str | None
    ) -> AsyncGenerator[Buffer, None]:
        rest = iter(split(CHUNK_BYTES, size_bytes - CHUNK_BYTES, CHUNK_BYTES))
        spawn = asyncio.get_running_loop().create_task
        running = deque(spawn(self._read(key, span, version)) for span in islice(rest, _READ_AHEAD))
        try:
            yield first
            while running:
                data = await running.popleft()
                running.extend(spawn(self._read(key, span, version)) for span in islice(rest, 1))
                yield data
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _read(self, key: str, span: Span, version: str | None = None) -> memoryview:
        """The bytes of ``span``, fewer at the end of the object."""

        async def attempt() -> memoryview:
            if version is None:  # one call less than the other
                start, end = span.start, span.end
                return memoryview(await self._backend.get_range_async(key, start=start, end=end))
            options: GetOptions = {"range": (span.start, span.end), "if_match": version}
            answer = await self._backend.get_async(key, options=options)
            return memoryview(await answer.bytes_async())

        try:
            data = await self._requests.run("get", key, attempt, size_bytes=span.length)
        except RequestFailed as error:
            if error.failure.kind is Kind.OUT_OF_RANGE:
                return memoryview(b"")
            raise
        self.stats.add_bytes(received=data.nbytes)
        return data

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        check_key(key)
        with self._translated(key):
            pieces = split(start, length, CHUNK_BYTES)
            found = await asyncio.gather(*(self._read(key, piece) for piece in pieces))
        if length <= CHUNK_BYTES:
            return b"".join(found)
        return await self._world.executor.run("io", b"".join, found)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_key(key)
        spans = merge(ranges, _MAX_GAP_BYTES, CHUNK_BYTES)
        with self._translated(key):
            found = await asyncio.gather(*(self._read(key, span) for span in spans))
        starts = [span.start for span in spans]

        def cut(start: int, length: int) -> bytes:
            if length == 0:
                return b""
            index = bisect_right(starts, start) - 1
            offset = start - starts[index]
            return bytes(found[index][offset : offset + length])

        def cut_all() -> list[bytes]:
            return [cut(start, length) for start, length in ranges]

        return await self._world.executor.run("io", cut_all)

    async def list(self, prefix: str) -> list[ObjectInfo]:
        # The client lists whole path segments.
        directory = prefix.rpartition("/")[0]
        found: dict[str, ObjectInfo] = {}
        with self._translated(prefix):
            await self._list_directory(directory, found)
        matching = (info for info in found.values() if info.key.startswith(prefix))
        return sorted(
            (info for info in matching if info.key != PROBE_KEY), key=lambda info: info.key
        )

    async def _list_directory(self, directory: str, found: dict[str, ObjectInfo]) -> None:
        """Page by page. After an error it goes on behind the last key that it has: all these
        stores list in the order of keys."""
        pages: ListStream[Sequence[ObjectMeta]] | None = None

        async def attempt() -> bool:
            nonlocal pages
            current = pages
            if current is None:
                last = next(reversed(found), None)
                current = self._backend.list(directory or None, offset=last, chunk_size=_LIST_PAGE)
            pages = None
            page: Sequence[ObjectMeta] = await anext(current, [])
            for meta in page:
                modified_ms = int(meta["last_modified"].timestamp() * 1_000)
                found[meta["path"]] = ObjectInfo(meta["path"], meta["size"], modified_ms)
            pages = current
            return len(page) == _LIST_PAGE

        while await self._requests.run("list", directory, attempt):
            pass

    async def close(self) -> None:
        pass

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        try:
            yield
        except RequestFailed as error:
            if error.failure.kind is Kind.MISSING:
                raise ObjectNotFound(f"{key} in {self.where}") from None
            raise self._error(error.failure, key) from None

    def _error(self, failure: Failure, key: str) -> ElanusError:
        if failure.kind is Kind.FULL:
            return DiskFull(self.where)
        return Unavailable(f"object {key} in {self.where}: {failure.reason}")
