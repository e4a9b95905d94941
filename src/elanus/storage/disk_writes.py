"""Writing to an open file: every byte, in calls that the system likes, and durably."""

import fcntl
import os
from collections.abc import Iterator, Sequence

from elanus.storage.objects.base import Buffer

_MAX_PARTS_PER_CALL = 512
_MAX_WRITE_BYTES = 1 << 20
"""Of one call: the system now and then takes ten times as long for one that is much larger."""


def sync_descriptor(descriptor: int) -> None:
    """Everything written to the file is durable on return. Raises OSError."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone stops at the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def write_all(descriptor: int, parts: Sequence[Buffer]) -> int:
    """Write every byte of ``parts``, of which the system may take fewer at a time; their number.

    Raises OSError; part of it may be written then.
    """
    total = sum([len(part) if type(part) is bytes else memoryview(part).nbytes for part in parts])
    written = 0
    if total <= _MAX_WRITE_BYTES and len(parts) <= _MAX_PARTS_PER_CALL:
        written = os.writev(descriptor, parts)
    if written < total:
        _write_rest(descriptor, list(_cut(parts)), written)
    return total


def _write_rest(descriptor: int, views: list[memoryview], written: int) -> None:
    """Write what comes behind the first ``written`` bytes of ``views``."""
    index = 0
    while True:
        while index < len(views) and written >= len(views[index]):
            written -= len(views[index])
            index += 1
        if index == len(views):
            return
        views[index] = views[index][written:]
        written = os.writev(descriptor, _take(views, index))


def _cut(parts: Sequence[Buffer]) -> Iterator[memoryview]:
    """The bytes of ``parts``, in pieces that one call may write."""
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), _MAX_WRITE_BYTES):
            yield view[start : start + _MAX_WRITE_BYTES]


def _take(views: list[memoryview], start: int) -> list[memoryview]:
    """What the next call writes."""
    stop = start
    size_bytes = 0
    while stop < min(len(views), start + _MAX_PARTS_PER_CALL):
        size_bytes += len(views[stop])
        if size_bytes > _MAX_WRITE_BYTES and stop > start:
            break
        stop += 1
    return views[start:stop]
