"""A cache of a remote store's objects as local files, which can be mapped.

Only ``fetch`` is served from it: who maps a file verifies its checksum and calls ``refetch`` if the
copy is damaged. Everything else goes to the store. What this process puts or deletes, its copy
goes; other processes never change an object.

The files together are never larger than the bound, downloads under way included: a download
reserves its size first. If that passes the high water level files go until the low one is met,
first those that nobody holds (:mod:`elanus.storage.objects.copies`), then those whose holders let
go of them, each by when they were used last; where only other downloads or reads could make room it
waits for them. A file without a holder that goes while it is mapped stays readable through the
mapping. A key is downloaded once however many ask for it, and for as long as somebody may ask: a
caller that gives up doesn't stop the download.

A restart adopts what lies in the directory. It is one process's own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from elanus.errors import DiskFull, ResourceInsufficient, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer, ObjectInfo, ObjectStore, ObjectStream
from elanus.storage.objects.cache_files import CacheFiles
from elanus.storage.objects.copies import CopyStats, Holder, LocalCopies
from elanus.storage.objects.keys import check_key
from elanus.storage.uncancelled import run_to_end

log = structlog.get_logger(__name__)

# Each holds a few chunks in memory.
MAX_DOWNLOADS = 4


class CachedObjectStore(ObjectStore, LocalCopies):
    """Open with :meth:`open`; closing it closes the store behind it.

    low, high: the water levels, as parts of ``max_bytes``.
    """

    maps_files = True

    def __init__(
        self,
        world: World,
        objects: ObjectStore,
        files: CacheFiles,
        max_bytes: int,
        *,
        low: float = 1.0,
        high: float = 1.0,
    ) -> None:
        self._world = world
        self._objects = objects
        self._files = files
        self.max_bytes = max_bytes
        self.high_bytes = int(max_bytes * high)
        self.low_bytes = min(int(max_bytes * low), self.high_bytes)
        self.copies = self
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by name, used longest ago first
        self._used_bytes = 0
        self._reserved_bytes = 0
        self._downloads: dict[str, asyncio.Task[Path]] = {}
        self._slots = asyncio.Semaphore(MAX_DOWNLOADS)
        # Held while files appear and go, so that no removal meets a new file of its name.
        self._files_change = asyncio.Lock()
        self._room_came = asyncio.Event()
        self._holders: dict[str, Holder] = {}  # by name
        self.stats = CopyStats()
        self.request_stats = objects.request_stats

    @classmethod
    async def open(
        cls,
        world: World,
        objects: ObjectStore,
        directory: Path,
        max_bytes: int,
        *,
        low: float = 1.0,
        high: float = 1.0,
    ) -> "CachedObjectStore":
        files = CacheFiles(directory)
        store = cls(world, objects, files, max_bytes, low=low, high=high)
        for file in await world.executor.run("io", files.adopt):
            store._sizes[file.name] = file.size_bytes
            store._used_bytes += file.size_bytes
        async with store._files_change:
            await store._evict(store._used_bytes - max_bytes)
        return store

    @property
    def used_bytes(self) -> int:
        return self._used_bytes + self._reserved_bytes

    # --- holders --------------------------------------------------------------------------------

    def hold(self, key: str, holder: Holder) -> None:
        self._holders[self._files.name_of(key)] = holder

    def release(self, key: str, holder: Holder) -> None:
        name = self._files.name_of(key)
        if self._holders.get(name) is holder:
            del self._holders[name]
            self.note_room()

    def note_room(self) -> None:
        self.is_short = False
        self._room_came.set()

    @property
    def held_bytes(self) -> int:
        return sum(self._sizes.get(name, 0) for name in self._holders)

    # --- local files ----------------------------------------------------------------------------

    async def fetch(self, key: str) -> Path:
        name = self._files.name_of(check_key(key))
        if name in self._sizes:
            self._sizes.move_to_end(name)
            if await self._world.executor.run("io", self._files.touch, name):
                self.stats.hits += 1
                return self._files.path_of(name)
            await self._forget([name])
        return await self._download_once(key, name)

    async def refetch(self, key: str) -> Path:
        name = self._files.name_of(check_key(key))
        if name not in self._downloads:
            log.warning("cached copy of an object is fetched again", key=key)
            await self._forget([name])
        return await self._download_once(key, name)

    async def _download_once(self, key: str, name: str) -> Path:
        task = self._downloads.get(name)
        if task is None:
            self.stats.misses += 1
            task = asyncio.get_running_loop().create_task(self._download(key, name))
            self._downloads[name] = task
            task.add_done_callback(lambda done: self._download_ended(name, done))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by close, not our caller
                raise Unavailable(f"object {key}: the cache was closed") from None
            raise

    def _download_ended(self, name: str, task: asyncio.Task[Path]) -> None:
        if self._downloads.get(name) is task:
            del self._downloads[name]
        if not task.cancelled():
            task.exception()  # told to those who wait, if any still do

    async def _download(self, key: str, name: str) -> Path:
        async with self._slots, self._objects.stream(key) as stream:
            if await self._reserve_now(key, stream.size_bytes):
                return await self._write(name, stream, stream.size_bytes)
        # Whoever waits for room must not keep others from the downloads that they wait for.
        await self._reserve(key, stream.size_bytes)
        reserved_bytes = stream.size_bytes
        try:
            async with self._slots, self._objects.stream(key) as again:
                if again.size_bytes == reserved_bytes:
                    written, reserved_bytes = reserved_bytes, 0
                    return await self._write(name, again, written)
            raise Unavailable(f"object {key} has changed while it was fetched")
        finally:
            self._release(reserved_bytes)

    async def _write(self, name: str, stream: ObjectStream, reserved_bytes: int) -> Path:
        """The file of what is in ``stream``, for which room is reserved."""
        path = self._files.unfinished()
        try:
            await self._append(path, b"")
            async for chunk in stream.chunks:
                await self._append(path, chunk)
                self.stats.fetched_bytes += memoryview(chunk).nbytes
            async with self._files_change:
                await self._publish(path, name, reserved_bytes)
        except BaseException:
            async with self._files_change:
                await self._world.executor.run("io", self._files.remove, [path])
                self._release(reserved_bytes)
            raise
        self.stats.fetched += 1
        return self._files.path_of(name)

    async def _publish(self, path: Path, name: str, size_bytes: int) -> None:
        """Give the file its name; its reservation becomes its size. The lock is held."""
        await self._world.executor.run("io", self._files.publish, path, name)
        self._used_bytes += size_bytes - self._sizes.pop(name, 0)
        self._sizes[name] = size_bytes
        self._release(size_bytes)

    def _release(self, size_bytes: int) -> None:
        self._reserved_bytes -= size_bytes
        self.note_room()

    async def _append(self, path: Path, chunk: Buffer) -> None:
        """On a full disk the cache shrinks, whatever its bound is."""
        while True:
            try:
                await self._world.executor.run("io", self._files.append, path, chunk)
            except DiskFull:
                async with self._files_change:
                    if not await self._evict(max(1, memoryview(chunk).nbytes)):
                        raise
                log.warning("disk of the object cache is full, files were removed")
            else:
                return

    # --- room -----------------------------------------------------------------------------------

    async def _reserve(self, key: str, size_bytes: int) -> None:
        while not await self._reserve_now(key, size_bytes):
            await self._room_came.wait()

    async def _reserve_now(self, key: str, size_bytes: int) -> bool:
        """False: there will be room once somebody has noted it."""
        if size_bytes > self.max_bytes:
            raise ResourceInsufficient(
                f"object {key} has {size_bytes} bytes, the cache holds {self.max_bytes} at most "
                f"(localStorage.cache.maxSize)"
            )
        async with self._files_change:
            # Before files are asked for: room that comes meanwhile is not missed.
            self._room_came.clear()
            wanted_bytes = self.used_bytes + size_bytes
            if wanted_bytes > self.high_bytes:
                self.is_short = True
                await self._evict(wanted_bytes - self.low_bytes)
            if self.used_bytes + size_bytes > self.max_bytes:
                return False
            self._reserved_bytes += size_bytes
            return True

    async def _evict(self, size_bytes: int) -> bool:
        """Remove files until ``size_bytes`` are free or nothing is left that may go; False if there
        was nothing. The lock is held."""
        freed_bytes = 0
        victims: list[Path] = []
        unmapped: list[Any] = []
        for name in self._evictable() if size_bytes > 0 else ():
            if freed_bytes >= size_bytes:
                break
            holder = self._holders.get(name)
            if holder is not None:
                mapped = holder.let_go()
                if mapped is None:
                    continue
                unmapped += mapped
                del mapped
            victims.append(self._files.path_of(name))
            freed_bytes += self._sizes.pop(name)
        await self._world.executor.run("io", self._remove, victims, unmapped)
        self._used_bytes -= freed_bytes
        self.stats.evicted += len(victims)
        self.stats.evicted_bytes += freed_bytes
        return bool(victims)

    def _evictable(self) -> list[str]:
        """Names in the order in which they should go."""
        free = [name for name in self._sizes if name not in self._holders]
        held = [(self._holders[name].used, name) for name in self._sizes if name in self._holders]
        return free + [name for _, name in sorted(held)]

    def _remove(self, victims: list[Path], unmapped: list[Any]) -> None:
        """Runs in a thread. Unmapping a large file takes long, so that it is done here too."""
        unmapped.clear()
        self._files.remove(victims)

    async def _forget(self, names: Sequence[str]) -> None:
        """Remove the copies, also those that are being downloaded now."""
        await run_to_end(self._forget_now(names))

    async def _forget_now(self, names: Sequence[str]) -> None:
        for name in names:
            task = self._downloads.get(name)
            if task is not None:
                await asyncio.wait([task])
        async with self._files_change:
            known = [name for name in names if name in self._sizes]
            self._used_bytes -= sum(self._sizes.pop(name) for name in known)
            paths = [self._files.path_of(name) for name in known]
            await self._world.executor.run("io", self._files.remove, paths)
            self.note_room()

    # --- the store behind -----------------------------------------------------------------------

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        try:
            await self._objects.put(key, parts, create_only=create_only)
        finally:
            if not create_only:  # replaced, perhaps even if it failed
                await self._forget([self._files.name_of(key)])

    async def put_file(self, key: str, path: Path) -> None:
        """The file becomes the cached copy: who built it often loads it next."""
        name = self._files.name_of(check_key(key))
        try:
            await self._objects.put_file(key, path)
        finally:
            await self._forget([name])
        await run_to_end(self._adopt(key, path, name))

    async def _adopt(self, key: str, path: Path, name: str) -> None:
        try:
            size_bytes = await self._world.executor.run("io", self._files.size_of, path)
            await self._reserve(key, size_bytes)
            async with self._files_change:
                try:
                    await self._publish(path, name, size_bytes)
                except Unavailable:
                    self._release(size_bytes)
                    raise
        except Unavailable as error:
            # The object is safe: only its copy is missing, as when the file lies on another disk.
            log.warning("file was not taken into the object cache", key=key, reason=str(error))

    async def delete(self, keys: Sequence[str]) -> None:
        await self._objects.delete(keys)
        await self._forget([self._files.name_of(key) for key in keys])

    async def get(self, key: str) -> bytes:
        return await self._objects.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return await self._objects.get_range(key, start, length)

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        return await self._objects.get_ranges(key, ranges)

    @asynccontextmanager
    async def stream(self, key: str) -> AsyncIterator[ObjectStream]:
        async with self._objects.stream(key) as stream:
            yield stream

    async def list(self, prefix: str) -> list[ObjectInfo]:
        return await self._objects.list(prefix)

    async def holds(self, key: str, parts: Sequence[Buffer]) -> bool:
        return await self._objects.holds(key, parts)

    async def close(self) -> None:
        """Downloads end here; whoever waits for one is told."""
        tasks = list(self._downloads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._objects.close()
