"""Fast tests of string columns on their buffers.

The values of an Arrow string column lie one after another, so that one byte of each value is
gathered in one step, and a text is looked for in all values at once. Everything is exact. Results
are arbitrary where the column is null.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter.arrays import Bools, offsets_of, truth

BLOCK_ROWS = 131_072
FEW_TEXTS = 3
"""Of a list; so many are compared one by one."""
SEARCH_PIECE_BYTES = 1 << 18
"""A search goes through the values in pieces that stay in the cache."""
SAMPLE_BYTES = 4_096
"""Tell which bytes are rare."""
SPARSE_BELOW = 1 / 32
"""Share of the bytes below which a search goes on only where the text may still be."""
NARROW_BELOW = 1 / 4
"""Share of the rows below which only those that are left are compared further."""
DENSE_BYTES = 12
"""Of the values of a column times those of a text, for each row: for so few, comparing the text at
every place is cheaper than looking up bytes of each row."""
SHORT = 3
"""Bytes of a text that its key tells of."""
FEW_KEYS = 32
"""So many keys are compared one by one."""
MANY_POSITIONS = 1 / 8
"""For each row, from which on their rows are found by counting instead of bisection."""
STEPS_BACK = 8
"""From the last row that begins near a position; then bisection, as rows may be empty."""
HASH_BITS = 16
_HASH_FACTOR = np.uint32(0x9E3779B1)

Ints = npt.NDArray[np.int64]
_ARROW = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}


class StringBuffers:
    """The buffers of a string column. ``offsets`` int32 (rows + 1,) into ``data``, uint8."""

    def __init__(self, column: pa.Array) -> None:
        self.column = column
        self.offsets = offsets_of(column)
        buffer = column.buffers()[2] if len(column) else None
        # Never quite empty, so that any place can be looked at.
        self.data = np.frombuffer(buffer if buffer is not None and buffer.size else b"\0", np.uint8)

    def test(self, decide: Callable[["StringBuffers"], Bools]) -> Bools:
        """``decide`` of all rows, block by block, so that what it needs stays in the cache."""
        if len(self.column) <= BLOCK_ROWS:
            return decide(self)
        result = np.empty(len(self.column), np.bool_)
        for start, block in self.blocks():
            result[start : start + len(block.column)] = decide(block)
        return result

    def blocks(self) -> Iterator[tuple[int, "StringBuffers"]]:
        """The rows in blocks, each with its first row."""
        for start in range(0, len(self.column), BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, len(self.column))
            block = copy.copy(self)
            block.column = self.column.slice(start, end - start)
            block.offsets = self.offsets[start : end + 1]
            yield start, block

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.diff(self.offsets)

    def bytes_at(self, places: Ints) -> npt.NDArray[np.uint8]:
        """The byte at each place; the nearest one for a place outside."""
        return self.data.take(places, mode="clip")


def equals(column: pa.Array, text: str) -> Bools:
    """Which values are ``text``."""
    wanted = text.encode()

    def decide(block: StringBuffers) -> Bools:
        same: Bools = block.lengths == len(wanted)
        return begin_with(block, wanted, same, block.offsets[:-1])

    return StringBuffers(column).test(decide)


def starts_with(column: pa.Array, text: str) -> Bools:
    """Which values begin with ``text``."""
    wanted = text.encode()

    def decide(block: StringBuffers) -> Bools:
        return begin_with(block, wanted, block.lengths >= len(wanted), block.offsets[:-1])

    return StringBuffers(column).test(decide)


def ends_with(column: pa.Array, text: str) -> Bools:
    """Which values end with ``text``."""
    wanted = text.encode()

    def decide(block: StringBuffers) -> Bools:
        starts = np.maximum(block.offsets[1:] - len(wanted), 0)
        return begin_with(block, wanted, block.lengths >= len(wanted), starts)

    return StringBuffers(column).test(decide)


def begin_with(
    buffers: StringBuffers, wanted: bytes, fitting: Bools, starts: npt.NDArray[np.int32]
) -> Bools:
    """Which of the rows ``fitting`` have ``wanted`` from ``starts`` on."""
    size = int(buffers.offsets[-1]) - int(buffers.offsets[0])
    if wanted and size * len(wanted) <= DENSE_BYTES * len(fitting):
        return _begin_densely_with(buffers, wanted, fitting, starts)
    result, left = _narrowed(buffers, wanted, fitting, starts)
    if left:
        rows = _rows_with(buffers, wanted, left, np.flatnonzero(result), starts)
        result = np.zeros(len(result), np.bool_)
        result[rows] = True
    return result


def rows_that_begin_with(
    buffers: StringBuffers, wanted: bytes, fitting: Bools, starts: npt.NDArray[np.int32]
) -> Ints:
    """The same as ascending rows, int64."""
    result, left = _narrowed(buffers, wanted, fitting, starts)
    return _rows_with(buffers, wanted, left, np.flatnonzero(result), starts)


def _narrowed(
    buffers: StringBuffers, wanted: bytes, fitting: Bools, starts: npt.NDArray[np.int32]
) -> tuple[Bools, list[int]]:
    """(the rows that may have ``wanted``, which of its bytes are still to be compared)."""
    if len(wanted) > len(buffers.data):
        return np.zeros(len(fitting), np.bool_), []
    # The last byte first: texts begin alike more often than they end alike.
    left = list(range(len(wanted)))
    while left and np.count_nonzero(fitting) >= NARROW_BELOW * len(fitting):
        at = left.pop()
        fitting = fitting & (buffers.data[at:].take(starts, mode="clip") == wanted[at])
    return fitting, left


def _rows_with(
    buffers: StringBuffers,
    wanted: bytes,
    left: list[int],
    rows: Ints,
    starts: npt.NDArray[np.int32],
) -> Ints:
    """Those of ``rows`` that have the bytes ``left`` of ``wanted``."""
    places = starts.take(rows).astype(np.int64)
    for at in reversed(left):
        same = buffers.data[at:].take(places, mode="clip") == wanted[at]
        if not same.all():
            passing = np.flatnonzero(same)
            rows, places = rows.take(passing), places.take(passing)
    return rows


def _begin_densely_with(
    buffers: StringBuffers, wanted: bytes, fitting: Bools, starts: npt.NDArray[np.int32]
) -> Bools:
    first, count = int(buffers.offsets[0]), int(buffers.offsets[-1]) - len(wanted) + 1
    if first >= count:
        return np.zeros(len(fitting), np.bool_)
    found: Bools = buffers.data[first:count] == wanted[0]
    for at in range(1, len(wanted)):
        found &= buffers.data[first + at : count + at] == wanted[at]
    return fitting & found.take(starts - np.int32(first), mode="clip")


def ordered(column: pa.Array, operator: str, text: str) -> Bools:
    """``value operator text`` by bytes, for ``<``, ``<=``, ``>``, ``>=``."""
    return truth(_ARROW[operator](column, pa.scalar(text, column.type)))


def member(column: pa.Array, wanted: pa.Array) -> Bools:
    """Which values are among ``wanted``, a string array without nulls."""
    if len(wanted) == 0:
        return np.zeros(len(column), np.bool_)
    if len(wanted) <= FEW_TEXTS:
        found = [equals(column, text) for text in wanted.to_pylist()]
        result: Bools = np.logical_or.reduce(found)
        return result
    if len(wanted) > 1 << (HASH_BITS - 4):
        return truth(pc.is_in(column, value_set=wanted))
    keys = _keys(StringBuffers(wanted))
    table = np.zeros(1 << HASH_BITS, np.bool_)
    table[_hashes(keys)] = True
    told = int(pc.max(pc.binary_length(wanted)).as_py()) <= SHORT
    ascending = np.sort(keys)

    def decide(block: StringBuffers) -> Bools:
        keys = _keys(block)
        if told and len(ascending) <= FEW_KEYS:
            return _among(keys, ascending)
        result = table[_hashes(keys)]
        rows = np.flatnonzero(result)
        if told:
            result[rows] = _among(keys[rows], ascending)
        elif len(rows):
            result[rows] = truth(pc.is_in(block.column.take(pa.array(rows)), value_set=wanted))
        return result

    return StringBuffers(column).test(decide)


def _among(keys: npt.NDArray[np.uint32], wanted: npt.NDArray[np.uint32]) -> Bools:
    """Which keys are among ``wanted``, ascending."""
    if len(wanted) > FEW_KEYS:
        at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
        found: Bools = wanted[at] == keys
        return found
    found = keys == wanted[0]
    same = np.empty_like(found)
    for key in wanted[1:]:
        found |= np.equal(keys, key, out=same)
    return found


def _keys(buffers: StringBuffers) -> npt.NDArray[np.uint32]:
    """A number of each value, of its length, its first and its last two bytes. The number of a
    value of at most SHORT bytes is no other value's."""
    lengths = buffers.lengths
    starts = buffers.offsets[:-1].astype(np.int64)
    lasts = buffers.offsets[1:].astype(np.int64)
    lasts -= 1
    parts = np.empty((len(lengths), 4), np.uint8)
    parts[:, 0] = np.minimum(lengths, 255)
    parts[:, 1] = buffers.bytes_at(starts)
    parts[:, 2] = buffers.bytes_at(lasts)
    lasts -= 1
    parts[:, 3] = buffers.bytes_at(np.maximum(lasts, starts, out=lasts))
    keys = parts.view(np.uint32).ravel()
    if lengths.min(initial=1) == 0:
        keys[lengths == 0] = 0
    return keys


def _hashes(keys: npt.NDArray[np.uint32]) -> Ints:
    return ((keys * _HASH_FACTOR) >> np.uint32(32 - HASH_BITS)).astype(np.int64)


def contains(column: pa.Array, text: str) -> Bools:
    """Which values have ``text`` anywhere."""
    wanted = text.encode()
    if not wanted:
        return np.ones(len(column), np.bool_)

    def decide(block: StringBuffers) -> Bools:
        result = np.zeros(len(block.column), np.bool_)
        result[occurrences(block, wanted)[0]] = True
        return result

    return StringBuffers(column).test(decide)


def occurrences(buffers: StringBuffers, wanted: bytes) -> tuple[Any, Any]:
    """(rows, positions) of every occurrence of ``wanted`` within one value, int64 and ascending.
    They may overlap."""
    offsets = buffers.offsets
    rows, positions = stretched_occurrences(buffers, wanted)
    within = positions + len(wanted) <= offsets[rows + 1]
    if within.all():
        return rows, positions
    return rows[within], positions[within]


def stretched_occurrences(buffers: StringBuffers, wanted: bytes) -> tuple[Ints, Ints]:
    """The same with those that go beyond the end of the value that they begin in."""
    start, end = int(buffers.offsets[0]), int(buffers.offsets[-1])
    positions = find_bytes(buffers.data[start:end], wanted) + start
    return rows_of(buffers.offsets, positions), positions


def rows_of(offsets: npt.NDArray[np.int32], positions: Ints) -> Ints:
    """The rows that bytes belong to; positions ascending, int64."""
    count = len(offsets) - 1
    # Very often there is one in each row, as a key of JSON.
    one_each = len(positions) == count
    if one_each and (positions >= offsets[:-1]).all() and (positions < offsets[1:]).all():
        return np.arange(count)
    if len(positions) < MANY_POSITIONS * count:
        return _bisected(offsets, positions)
    first = int(offsets[0])
    shift = max(((int(offsets[-1]) - first) // count).bit_length() - 1, 0)
    # The last row that begins in the granule of each position, or before it.
    begun = np.bincount((offsets[:-1] - np.int32(first)) >> shift).cumsum() - 1
    rows: Ints = begun.take((positions - first) >> shift, mode="clip")
    late = np.flatnonzero(offsets.take(rows) > positions)
    for _ in range(STEPS_BACK):
        if not len(late):
            return rows
        rows[late] -= 1
        late = late[offsets.take(rows[late]) > positions[late]]
    rows[late] = _bisected(offsets, positions[late])
    return rows


def _bisected(offsets: npt.NDArray[np.int32], positions: Ints) -> Ints:
    rows: Ints = np.searchsorted(offsets, positions, "right") - 1
    return rows


def find_bytes(data: npt.NDArray[np.uint8], wanted: bytes) -> npt.NDArray[np.int64]:
    """Where ``wanted`` begins in ``data``, int64, ascending."""
    size = len(wanted)
    last = len(data) - size + 1
    order = _rarest_last(data, wanted)
    found = []
    for start in range(0, max(last, 0), SEARCH_PIECE_BYTES):
        piece = data[start : min(start + SEARCH_PIECE_BYTES, last) + size - 1]
        count = len(piece) - size + 1
        left = order.copy()
        at = left.pop()
        hits = piece[at : at + count] == wanted[at]
        while left and np.count_nonzero(hits) > SPARSE_BELOW * count:
            at = left.pop()
            hits &= piece[at : at + count] == wanted[at]
        positions = np.flatnonzero(hits)
        for at in reversed(left):
            same = piece[at:].take(positions) == wanted[at]
            if not same.all():
                positions = positions.take(np.flatnonzero(same))
        if len(positions):
            found.append(positions + start)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def is_found_at_most(data: npt.NDArray[np.uint8], wanted: bytes, times: int) -> bool:
    """Whether ``wanted`` is found in ``data`` so many times at most."""
    count = max(0, len(data) - len(wanted) + 1)
    hits: Bools | None = None
    for at in reversed(_rarest_last(data, wanted)):
        same = data[at : at + count] == wanted[at]
        hits = same if hits is None else np.bitwise_and(hits, same, out=hits)
        if np.count_nonzero(hits) <= times:
            return True
    return False


def _rarest_last(data: npt.NDArray[np.uint8], wanted: bytes) -> list[int]:
    """The bytes of ``wanted``, by their places in it, by how often they seem to occur in ``data``.
    Among equals the first ones first: texts begin alike more often than they end alike."""
    counts = np.bincount(data[:SAMPLE_BYTES], minlength=256).tolist()
    return sorted(range(len(wanted)), key=lambda at: (-counts[wanted[at]], at))
