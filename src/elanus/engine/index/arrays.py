"""A file of named arrays that is used where it is mapped.

::

    magic 8s · header length u32 · header (msgpack) · then each array at a multiple of 64 bytes

A file that is truncated or of another kind is refused by name. A flipped bit is for the checksum
to find, before the file is opened.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from elanus.errors import CorruptData

_MAGIC = b"ELANARR1"
_PREFIX = struct.Struct("<8sI")
_ALIGNMENT = 64


class _Entry(msgspec.Struct, array_like=True):
    """``offset``: from the first aligned place behind the header."""

    name: str
    dtype: str
    shape: list[int]
    offset: int


class _Header(msgspec.Struct):
    kind: str
    facts: dict[str, int | str]
    entries: list[_Entry]


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """``facts``: what the writer said of the whole. ``arrays``: by name, read-only."""

    facts: dict[str, int | str]
    arrays: dict[str, npt.NDArray[Any]]


def write_arrays(
    path: str, kind: str, facts: Mapping[str, int | str], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Write the file at ``path``; the caller makes it durable. ``kind``: what it is a file of."""
    entries, offset = [], 0
    for name, array in arrays.items():
        entries.append(_Entry(name, array.dtype.str, list(array.shape), offset))
        offset += _padded(array.nbytes)
    header = msgspec.msgpack.encode(_Header(kind, dict(facts), entries))
    with open(path, "wb") as file:
        file.write(_PREFIX.pack(_MAGIC, len(header)) + header)
        file.write(bytes(_padded(file.tell()) - file.tell()))
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            file.write(bytes(_padded(array.nbytes) - array.nbytes))


def open_arrays_of(path: str, kind: str, row_count: int) -> ArrayFile:
    """As ``open_arrays``; raises CorruptData too if its fact ``rows`` is another number."""
    file = open_arrays(path, kind)
    if file.facts.get("rows") != row_count:
        raise CorruptData(
            f"index file {path} has {file.facts.get('rows')} rows, the segment has {row_count}"
        )
    return file


def open_arrays(path: str, kind: str) -> ArrayFile:
    """Map the file at ``path``. Raises CorruptData if it is no whole file of this kind."""
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise CorruptData(f"index file {path} can't be opened: {error}") from error
    try:
        magic, size = _PREFIX.unpack_from(data)
        if magic != _MAGIC:
            raise CorruptData(f"index file {path} has no known form")
        header = msgspec.msgpack.decode(data[_PREFIX.size : _PREFIX.size + size], type=_Header)
        start = _padded(_PREFIX.size + size)
        arrays = {entry.name: _array(data, start, entry) for entry in header.entries}
    except (struct.error, msgspec.DecodeError, ValueError, TypeError) as error:
        raise CorruptData(f"index file {path} is damaged: {error}") from error
    if header.kind != kind:
        raise CorruptData(f"index file {path} holds {header.kind}, not {kind}")
    return ArrayFile(header.facts, arrays)


def _array(data: memoryview, start: int, entry: _Entry) -> npt.NDArray[Any]:
    dtype = np.dtype(entry.dtype)
    count = int(np.prod(entry.shape, dtype=np.int64))
    if not count:
        return np.empty(entry.shape, dtype)
    return np.frombuffer(data, dtype, count, start + entry.offset).reshape(entry.shape)


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT
