"""Arrow arrays as NumPy views: values, validity and offsets without a copy where bits allow it."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bools: TypeAlias = npt.NDArray[np.bool_]
"""bool (rows,)."""


BLOCK_ROWS = 16_384


def by_blocks(values: Any, decide: Callable[[Any], Bools]) -> Bools:
    """``decide`` of an array, block by block, so that what it needs stays in the cache."""
    if len(values) <= BLOCK_ROWS:
        return decide(values)
    result = np.empty(len(values), np.bool_)
    for start in range(0, len(values), BLOCK_ROWS):
        end = start + BLOCK_ROWS
        result[start:end] = decide(values[start:end])
    return result


def values_of(column: pa.Array) -> Any:
    """The values of a fixed-width column, (rows,); those of null rows are arbitrary."""
    if pa.types.is_boolean(column.type):
        return bits(column.buffers()[1], column.offset, len(column))
    dtype = np.dtype(column.type.to_pandas_dtype())
    buffer = column.buffers()[1]
    if buffer is None:
        return np.zeros(len(column), dtype)
    return np.frombuffer(buffer, dtype, len(column), column.offset * dtype.itemsize)


def validity(column: pa.Array) -> Bools | None:
    """Which rows aren't null; None if no row is."""
    if column.null_count == 0:
        return None
    return bits(column.buffers()[0], column.offset, len(column))


def truth(column: pa.Array) -> Bools:
    """The values of a boolean column; arbitrary where it is null."""
    return bits(column.buffers()[1], column.offset, len(column))


def bits(buffer: Any, offset: int, length: int) -> Bools:
    """``length`` bits from bit ``offset``, least significant bit first."""
    if length == 0:
        return np.zeros(0, np.bool_)
    first = offset // 8
    packed = np.frombuffer(buffer, np.uint8, (offset + length + 7) // 8 - first, first)
    skipped = offset % 8
    unpacked = np.unpackbits(packed, count=skipped + length, bitorder="little")
    return unpacked[skipped:].view(np.bool_)


def offsets_of(column: pa.Array) -> npt.NDArray[np.int32]:
    """The offsets of a list or binary column, int32 (rows + 1,)."""
    if len(column) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)


def lengths_of(column: pa.Array) -> npt.NDArray[np.int64]:
    """The number of elements of each row of a list column, int64 (rows,); 0 where it is null."""
    lengths = np.diff(offsets_of(column)).astype(np.int64)
    valid = validity(column)
    if valid is not None:
        lengths[~valid] = 0  # the offsets of a null row may span values
    return lengths
