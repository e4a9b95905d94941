"""Copies objects: each is verified where it is read and where it was written.

What a manifest or an index record says of an object (size, CRC-32) must be true of it on both
sides; of other objects the two sides' checksums must be equal. Objects that are in the target
already, with the right size and checksum, stay. Keys are the same on both sides.

Memory is bounded: objects of at most ``CHUNK_BYTES`` go through memory, larger ones chunk by chunk
through a file in the scratch directory, which the target's store then takes.
"""

import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from elanus.errors import CorruptData
from elanus.roles.migration.parallel import for_each
from elanus.roles.migration.progress import Progress, Summary
from elanus.runtime.world import World
from elanus.storage.formats.manifest import FileEntry
from elanus.storage.objects.base import ObjectInfo, ObjectNotFound, ObjectStore

CHUNK_BYTES = 8 << 20
_DELETE_BATCH = 256


class ObjectCopier:
    """``files``: what is known of objects, by key. ``scratch``: a directory for large ones, on
    the device of a local target."""

    def __init__(
        self,
        world: World,
        source: ObjectStore,
        target: ObjectStore,
        files: Mapping[str, FileEntry],
        scratch: Path,
        summary: Summary,
        progress: Progress,
    ) -> None:
        self._world = world
        self._source = source
        self._target = target
        self._files = files
        self._scratch = scratch
        self._summary = summary
        self._progress = progress
        self._scratch_files = 0

    async def copy(self, objects: list[ObjectInfo], existing: list[ObjectInfo]) -> None:
        """Make the target hold ``objects``, verified, and nothing else of ``existing``."""
        there = {info.key: info for info in existing}

        async def copy_one(info: ObjectInfo) -> None:
            await self._copy_unless_there(info, there.get(info.key))
            self._summary.objects.add(1, info.size_bytes)
            self._progress.advance(1, info.size_bytes)

        await for_each(objects, copy_one)
        # An earlier attempt may have copied what the source has deleted since.
        extra = sorted(there.keys() - {info.key for info in objects})
        for start in range(0, len(extra), _DELETE_BATCH):
            await self._target.delete(extra[start : start + _DELETE_BATCH])

    async def verify(self, objects: list[ObjectInfo], existing: list[ObjectInfo]) -> None:
        """Compare both sides, byte for byte by their checksums. Raises CorruptData."""
        require_same_objects(objects, existing)

        async def verify_one(info: ObjectInfo) -> None:
            checksum = await self._checksum(self._source, info, "source")
            self._require_known(info, checksum)
            await self._require_copied(info, checksum)
            self._summary.objects.add(1, info.size_bytes)
            self._progress.advance(1, info.size_bytes)

        await for_each(objects, verify_one)

    async def _copy_unless_there(self, info: ObjectInfo, there: ObjectInfo | None) -> None:
        if there is not None and there.size_bytes == info.size_bytes:
            entry = self._files.get(info.key)
            if entry is not None and entry.size_bytes == info.size_bytes:
                expected = entry.crc32
            else:
                expected = await self._checksum(self._source, info, "source")
            if await self._checksum(self._target, info, "target") == expected:
                self._summary.checksums += 1
                return
        self._world.failpoints.hit("migrate.before_object")
        if info.size_bytes <= CHUNK_BYTES:
            checksum = await self._copy_in_memory(info)
        else:
            checksum = await self._copy_through_file(info)
        self._world.failpoints.hit("migrate.after_object")
        await self._require_copied(info, checksum)
        self._summary.copied.add(1, info.size_bytes)

    async def _copy_in_memory(self, info: ObjectInfo) -> int:
        parts = [chunk async for chunk in self._chunks(self._source, info, "source")]
        checksum = await self._world.executor.run("compute", zlib.crc32, b"".join(parts))
        self._require_known(info, checksum)
        await self._target.put(info.key, parts)
        return checksum

    async def _copy_through_file(self, info: ObjectInfo) -> int:
        run = self._world.executor.run
        self._scratch_files += 1
        path = self._scratch / f"object-{self._scratch_files}"
        checksum = 0
        try:
            file = await run("io", path.open, "wb")
            try:
                async for chunk in self._chunks(self._source, info, "source"):
                    checksum = await run("compute", zlib.crc32, chunk, checksum)
                    await run("io", file.write, chunk)
            finally:
                await run("io", file.close)
            self._require_known(info, checksum)
            await self._target.put_file(info.key, path)
        finally:
            await run("io", lambda: path.unlink(missing_ok=True))
        return checksum

    async def _checksum(self, store: ObjectStore, info: ObjectInfo, side: str) -> int:
        checksum = 0
        async for chunk in self._chunks(store, info, side):
            checksum = await self._world.executor.run("compute", zlib.crc32, chunk, checksum)
        return checksum

    async def _chunks(
        self, store: ObjectStore, info: ObjectInfo, side: str
    ) -> AsyncIterator[bytes]:
        """The object in order. Raises CorruptData unless it has ``info.size_bytes``."""
        read_bytes = 0
        try:
            while read_bytes < info.size_bytes:
                length = min(CHUNK_BYTES, info.size_bytes - read_bytes)
                chunk = await store.get_range(info.key, read_bytes, length)
                if not chunk:
                    break
                read_bytes += len(chunk)
                yield chunk
        except ObjectNotFound as error:
            raise CorruptData(f"object {info.key} has vanished from the {side}") from error
        if read_bytes != info.size_bytes:
            raise CorruptData(
                f"object {info.key} of the {side} ends after {read_bytes} of "
                f"{info.size_bytes} bytes"
            )

    def _require_known(self, info: ObjectInfo, checksum: int) -> None:
        """What was read from the source is what its segment says of it."""
        entry = self._files.get(info.key)
        if entry is None or (entry.size_bytes, entry.crc32) == (info.size_bytes, checksum):
            return
        raise CorruptData(
            f"object {info.key} of the source is damaged: {info.size_bytes} bytes with checksum "
            f"{checksum:08x}, expected {entry.size_bytes} bytes with {entry.crc32:08x}"
        )

    async def _require_copied(self, info: ObjectInfo, checksum: int) -> None:
        found = await self._checksum(self._target, info, "target")
        if found != checksum:
            raise CorruptData(
                f"object {info.key} of the target has checksum {found:08x}, "
                f"in the source it has {checksum:08x}"
            )
        self._summary.checksums += 1


def require_same_objects(source: list[ObjectInfo], target: list[ObjectInfo]) -> None:
    """Both sides have the same keys and sizes. Raises CorruptData that names the first
    difference."""
    sizes = {info.key: info.size_bytes for info in source}
    found = {info.key: info.size_bytes for info in target}
    for key in sorted(sizes.keys() | found.keys()):
        if sizes.get(key) != found.get(key):
            raise CorruptData(
                f"object {key} has {_size(sizes.get(key))} in the source, "
                f"{_size(found.get(key))} in the target"
            )


def _size(size_bytes: int | None) -> str:
    return "no copy" if size_bytes is None else f"{size_bytes} bytes"
