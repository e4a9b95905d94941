"""Fast tests of string columns on their buffers: eight bytes at a time, or one byte everywhere.

The values of an Arrow string column lie one after another, so that the first bytes of all values
are gathered as integers in one step, and a text is looked for in all values at once. Everything is
exact; a row that the fast way can't decide is decided by Arrow's kernels. Results are arbitrary
where the column is null.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter.arrays import BLOCK_ROWS, Bools, offsets_of, truth

WORD = 8
"""Bytes that are compared at a time."""
SEARCH_PIECE_BYTES = 1 << 18
"""A search goes through the values in pieces that stay in the cache."""
SEARCHED_BYTES = 4
"""So many bytes of a text are looked for everywhere, the rest only where these were found."""
COMPARED_BYTES = 4
"""So many bytes of a text are compared in all rows, the rest only where these are equal."""
FEW_WORDS = 12
"""So many words are looked for one by one."""

Words = npt.NDArray[np.uint64]
_MASKS = np.array([(1 << (8 * size)) - 1 for size in range(WORD + 1)], np.uint64)
_ORDERED = {"<": np.less, "<=": np.less, ">": np.greater, ">=": np.greater}
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
        block = copy.copy(self)
        for start in range(0, len(result), BLOCK_ROWS):
            end = min(start + BLOCK_ROWS, len(result))
            block.column = self.column.slice(start, end - start)
            block.offsets = self.offsets[start : end + 1]
            result[start:end] = decide(block)
        return result

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        return np.diff(self.offsets)

    @property
    def has_zeros(self) -> bool:
        used = self.data[self.offsets[0] : self.offsets[-1]]
        return bool(len(used) > np.count_nonzero(used))

    def words_at(self, positions: npt.NDArray[np.int32]) -> Words:
        """The eight bytes from each position on, the first one lowest; what would lie behind the
        buffer is zero. Positions must not fall."""
        data = self.data
        places = positions.astype(np.int64)  # other indices are several times slower
        limit = len(data) - WORD
        inside = int(np.searchsorted(positions, limit, "right")) if limit >= 0 else 0
        words = np.zeros(len(positions), np.uint64)
        if inside:
            view = np.ndarray((limit + 1,), "<u8", data, strides=(1,))
            words[:inside] = view[places[:inside]]
        if inside < len(positions):
            start = max(limit, 0)
            tail = np.zeros(len(data) - start + WORD, np.uint8)
            tail[: len(data) - start] = data[start:]
            view = np.ndarray((len(tail) - WORD + 1,), "<u8", tail, strides=(1,))
            words[inside:] = view[places[inside:] - start]
        return words


def equals(column: pa.Array, text: str) -> Bools:
    """Which values are ``text``."""
    wanted = text.encode()

    def decide(block: StringBuffers) -> Bools:
        same: Bools = block.lengths == len(wanted)
        return _begin_with(block, wanted, same, block.offsets[:-1])

    return StringBuffers(column).test(decide)


def starts_with(column: pa.Array, text: str) -> Bools:
    """Which values begin with ``text``."""
    wanted = text.encode()

    def decide(block: StringBuffers) -> Bools:
        return _begin_with(block, wanted, block.lengths >= len(wanted), block.offsets[:-1])

    return StringBuffers(column).test(decide)


def ends_with(column: pa.Array, text: str) -> Bools:
    """Which values end with ``text``."""
    wanted = text.encode()

    def decide(block: StringBuffers) -> Bools:
        starts = np.maximum(block.offsets[1:] - len(wanted), 0)
        return _begin_with(block, wanted, block.lengths >= len(wanted), starts)

    return StringBuffers(column).test(decide)


def _begin_with(
    buffers: StringBuffers, wanted: bytes, fitting: Bools, starts: npt.NDArray[np.int32]
) -> Bools:
    """Which of the rows ``fitting`` have ``wanted`` from ``starts`` on."""
    data, size = buffers.data, len(wanted)
    result = fitting
    places = starts.astype(np.int64)
    # Byte by byte, the last first: texts begin alike more often than they end alike.
    first = max(size - COMPARED_BYTES, 0)
    for at in range(size - 1, first - 1, -1):
        result = result & (data.take(places + at, mode="clip") == wanted[at])
    if first:
        rows = np.flatnonzero(result)
        for at in range(first):
            rows = rows[data[places[rows] + at] == wanted[at]]
        result = np.zeros(len(result), np.bool_)
        result[rows] = True
    return result


def ordered(column: pa.Array, operator: str, text: str) -> Bools:
    """``value operator text`` by bytes, for ``<``, ``<=``, ``>``, ``>=``."""
    wanted = text.encode()[:WORD]
    word = np.uint64(int.from_bytes(wanted.ljust(WORD, b"\0"), "big"))
    scalar = pa.scalar(text, column.type)

    def decide(block: StringBuffers) -> Bools:
        words = _first_words(block).byteswap(inplace=True)
        result: Bools = _ORDERED[operator](words, word)
        rows = np.flatnonzero(words == word)
        if len(rows):
            result[rows] = truth(_ARROW[operator](block.column.take(pa.array(rows)), scalar))
        return result

    return StringBuffers(column).test(decide)


def _first_words(buffers: StringBuffers) -> Words:
    """The first eight bytes of each value, zeros behind its end."""
    words = buffers.words_at(buffers.offsets[:-1])
    words &= _MASKS[np.minimum(buffers.lengths, WORD).astype(np.int64)]
    return words


def member(column: pa.Array, wanted: pa.Array) -> Bools:
    """Which values are among ``wanted``, a string array."""
    if len(wanted) == 0:
        return np.zeros(len(column), np.bool_)
    if len(wanted) == 1:
        return equals(column, wanted[0].as_py())
    buffers = StringBuffers(column)
    firsts = np.unique(_first_words(StringBuffers(wanted)))
    # A text of at most seven bytes is told by its first word, where zeros mean its end.
    longest = int(pc.max(pc.binary_length(wanted)).as_py())
    zeros = any("\0" in text for text in wanted.to_pylist())
    told = longest < WORD and not zeros and not buffers.has_zeros

    def decide(block: StringBuffers) -> Bools:
        result = _among(_first_words(block), firsts)
        if told:
            return result
        rows = np.flatnonzero(result)
        few = block.column.take(pa.array(rows))
        result[rows] = truth(pc.is_in(few, value_set=wanted))
        return result

    return buffers.test(decide)


def _among(words: Words, wanted: Words) -> Bools:
    if len(wanted) > FEW_WORDS:
        return truth(pc.is_in(pa.array(words), value_set=pa.array(wanted)))
    result: Bools = words == wanted[0]
    for word in wanted[1:]:
        result |= words == word
    return result


def contains(column: pa.Array, text: str) -> Bools:
    """Which values have ``text`` anywhere in them."""
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
    start, end = int(offsets[0]), int(offsets[-1])
    positions = find_bytes(buffers.data[start:end], wanted) + start
    rows = np.searchsorted(offsets, positions, "right") - 1
    within = positions + len(wanted) <= offsets[rows + 1]
    if within.all():
        return rows, positions
    return rows[within], positions[within]


def find_bytes(data: npt.NDArray[np.uint8], wanted: bytes) -> npt.NDArray[np.int64]:
    """Where ``wanted`` begins in ``data``, int64, ascending."""
    size = len(wanted)
    last = len(data) - size + 1
    head = min(size, SEARCHED_BYTES)
    found = []
    for start in range(0, max(last, 0), SEARCH_PIECE_BYTES):
        piece = data[start : min(start + SEARCH_PIECE_BYTES, last) + size - 1]
        count = len(piece) - size + 1
        # The last bytes first: texts begin alike more often than they end alike.
        hits = piece[size - 1 : size - 1 + count] == wanted[size - 1]
        for at in range(size - head, size - 1):
            hits &= piece[at : at + count] == wanted[at]
        positions = np.flatnonzero(hits)
        for at in range(size - head):
            positions = positions[piece[positions + at] == wanted[at]]
        if len(positions):
            found.append(positions + start)
    return np.concatenate(found) if found else np.empty(0, np.int64)
