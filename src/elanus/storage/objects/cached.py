"""A cache of a remote store's objects as local files, which can be mapped.

Only ``fetch`` is served from it: who maps a file verifies its checksum and calls ``refetch`` if the
copy is damaged. Everything else goes to the store. What this process puts or deletes, its copy
goes; other processes never change an object.

The files together are never larger than the bound, downloads under way included: a download
reserves its size first, for which files go that were used longest ago; when only other downloads
could make room it waits for them. A file that goes while it is mapped stays readable through the
mapping. A key is downloaded once however many ask for it, and for as long as somebody may ask: a
caller that gives up doesn't stop the download.

A restart adopts what lies in the directory. It is one process's own.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from elanus.errors import DiskFull, ResourceInsufficient, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer, ObjectInfo, ObjectStore, ObjectStream
from elanus.storage.objects.cache_files import CacheFiles
from elanus.storage.objects.keys import check_key
from elanus.storage.uncancelled import run_to_end

log = structlog.get_logger(__name__)

# Each holds a few chunks in memory.
MAX_DOWNLOADS = 4


@dataclass
class CacheStats:
    """What the cache did since the process began."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    downloaded_bytes: int = 0


class CachedObjectStore(ObjectStore):
    """Open with :meth:`open`; closing it closes the store behind it."""

    maps_files = True

    def __init__(
        self, world: World, objects: ObjectStore, files: CacheFiles, max_bytes: int
    ) -> None:
        self._world = world
        self._objects = objects
        self._files = files
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by name, used longest ago first
        self._used_bytes = 0
        self._reserved_bytes = 0
        self._downloads: dict[str, asyncio.Task[Path]] = {}
        self._slots = asyncio.Semaphore(MAX_DOWNLOADS)
        # Held while files appear and go, so that no removal meets a new file of its name.
        self._files_change = asyncio.Lock()
        self._room = asyncio.Condition(self._files_change)
        self.stats = CacheStats()
        self.request_stats = objects.request_stats

    @classmethod
    async def open(
        cls, world: World, objects: ObjectStore, directory: Path, max_bytes: int
    ) -> "CachedObjectStore":
        files = CacheFiles(directory)
        store = cls(world, objects, files, max_bytes)
        for file in await world.executor.run("io", files.adopt):
            store._sizes[file.name] = file.size_bytes
            store._used_bytes += file.size_bytes
        async with store._files_change:
            await store._evict(store._used_bytes - max_bytes)
        return store

    @property
    def used_bytes(self) -> int:
        """Size of the files, and of the downloads under way as they will be."""
        return self._used_bytes + self._reserved_bytes

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
            await self._reserve(key, stream.size_bytes)
            path = self._files.unfinished()
            try:
                await self._append(path, b"")
                async for chunk in stream.chunks:
                    await self._append(path, chunk)
                    self.stats.downloaded_bytes += memoryview(chunk).nbytes
                async with self._room:
                    await self._publish(path, name, stream.size_bytes)
            except BaseException:
                async with self._room:
                    await self._world.executor.run("io", self._files.remove, [path])
                    self._release(stream.size_bytes)
                raise
        return self._files.path_of(name)

    async def _publish(self, path: Path, name: str, size_bytes: int) -> None:
        """Give the file its name; its reservation becomes its size. The lock is held."""
        await self._world.executor.run("io", self._files.publish, path, name)
        self._used_bytes += size_bytes - self._sizes.pop(name, 0)
        self._sizes[name] = size_bytes
        self._release(size_bytes)

    def _release(self, size_bytes: int) -> None:
        self._reserved_bytes -= size_bytes
        self._room.notify_all()

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
        if size_bytes > self._max_bytes:
            raise ResourceInsufficient(
                f"object {key} has {size_bytes} bytes, the cache holds {self._max_bytes} at most "
                f"(localStorage.cache.maxSize)"
            )
        async with self._room:
            while True:
                await self._evict(self.used_bytes + size_bytes - self._max_bytes)
                if self.used_bytes + size_bytes <= self._max_bytes:
                    self._reserved_bytes += size_bytes
                    return
                await self._room.wait()

    async def _evict(self, size_bytes: int) -> bool:
        """Remove what was used longest ago until ``size_bytes`` are free or nothing is left; False
        if there was nothing. The lock is held."""
        victims = []
        freed_bytes = 0
        while freed_bytes < size_bytes and self._sizes:
            name, size = self._sizes.popitem(last=False)
            victims.append(self._files.path_of(name))
            freed_bytes += size
        await self._world.executor.run("io", self._files.remove, victims)
        self._used_bytes -= freed_bytes
        self.stats.evictions += len(victims)
        return bool(victims)

    async def _forget(self, names: Sequence[str]) -> None:
        """Remove the copies, also those that are being downloaded now."""
        await run_to_end(self._forget_now(names))

    async def _forget_now(self, names: Sequence[str]) -> None:
        for name in names:
            task = self._downloads.get(name)
            if task is not None:
                await asyncio.wait([task])
        async with self._room:
            known = [name for name in names if name in self._sizes]
            self._used_bytes -= sum(self._sizes.pop(name) for name in known)
            paths = [self._files.path_of(name) for name in known]
            await self._world.executor.run("io", self._files.remove, paths)
            self._room.notify_all()

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
            async with self._room:
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
