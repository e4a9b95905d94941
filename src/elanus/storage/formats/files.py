"""Objects with a checksum: written with it, and never used before it was verified.

Where the object store is local, a verified file is mapped. It is read through a descriptor for the
verification, so that its pages count as the system's cache and not as memory of this process.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from elanus.errors import CorruptData, Unavailable
from elanus.runtime.world import World
from elanus.storage.formats.manifest import FileEntry
from elanus.storage.objects.base import Buffer, ObjectNotFound, ObjectStore

_CHUNK_BYTES = 1 << 20
_MAX_ATTEMPTS = 3


async def write_file(
    world: World, objects: ObjectStore, key: str, parts: Sequence[Buffer]
) -> FileEntry:
    """Store ``parts`` under the new key ``key``."""
    entry = await world.executor.run("compute", _describe, key, parts)
    await objects.put(key, parts, create_only=True)
    return entry


def _describe(key: str, parts: Sequence[Buffer]) -> FileEntry:
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    size_bytes = sum(memoryview(part).nbytes for part in parts)
    return FileEntry(key=key, size_bytes=size_bytes, crc32=checksum)


async def checked_buffer(world: World, objects: ObjectStore, entry: FileEntry) -> Any:
    """The object as a ``pyarrow.Buffer``, mapped if it is local. Raises CorruptData with its
    name if it is missing or damaged."""
    for _ in range(_MAX_ATTEMPTS):
        path = await checked_path(world, objects, entry)
        if path is None:
            break
        buffer = await world.executor.run("io", _map, path)
        if buffer is not None:
            return buffer
    else:
        raise Unavailable(f"object {entry.key}: a cache too small lets its copy go at once")
    try:
        data = await objects.get(entry.key)
    except ObjectNotFound as error:
        raise CorruptData(f"object {entry.key} is missing") from error
    checksum = await world.executor.run("compute", zlib.crc32, data)
    _compare(entry, len(data), checksum, entry.key)
    return pa.py_buffer(data)


async def checked_path(world: World, objects: ObjectStore, entry: FileEntry) -> Path | None:
    """The verified local file of an object; None if the store has no local files."""
    try:
        path = await objects.fetch(entry.key)
    except ObjectNotFound as error:
        raise CorruptData(f"object {entry.key} is missing") from error
    if path is None:
        return None
    try:
        await world.executor.run("io", _verify, entry, path)
    except CorruptData:
        path = await objects.refetch(entry.key)
        if path is None:
            raise
        await world.executor.run("io", _verify, entry, path)
    return path


def _verify(entry: FileEntry, path: Path) -> None:
    size_bytes, checksum = checksum_of_file(path)
    _compare(entry, size_bytes, checksum, str(path))


def checksum_of_file(path: Path) -> tuple[int, int]:
    """Size in bytes and crc32 of a local file, which must exist. Blocks."""
    size_bytes, checksum = 0, 0
    chunk = bytearray(_CHUNK_BYTES)
    view = memoryview(chunk)
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(chunk):
                checksum = zlib.crc32(view[:count], checksum)
                size_bytes += count
    except FileNotFoundError as error:
        raise CorruptData(f"file {path} is missing") from error
    except OSError as error:
        raise Unavailable(f"file {path} can't be read: {error.strerror or error}") from error
    return size_bytes, checksum


def _compare(entry: FileEntry, size_bytes: int, checksum: int, name: str) -> None:
    if size_bytes != entry.size_bytes:
        raise CorruptData(
            f"file {name} is damaged: it has {size_bytes} bytes, expected {entry.size_bytes}"
        )
    if checksum != entry.crc32:
        raise CorruptData(
            f"file {name} is damaged: its checksum is {checksum:08x}, expected {entry.crc32:08x}"
        )


def _map(path: Path) -> Any:
    """None if the file is gone: a cache may let go what nobody has mapped yet."""
    try:
        with pa.memory_map(str(path), "r") as file:
            return file.read_buffer()
    except FileNotFoundError:
        return None
