"""``like`` on a column of strings, all values at once.

What stands before the first ``%`` and behind the last one has its place in every value and is
compared there, a ``_`` being as wide as the character that it meets. The texts between are looked
for in the rows that are left, each at its first place behind the one before. Only a ``_`` between
two ``%`` takes a regular expression. Results are arbitrary where the column is null.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter import strings
from elanus.engine.filter.arrays import Bools, truth
from elanus.engine.filter.pattern import LikePattern, Piece
from elanus.engine.filter.strings import Ints, StringBuffers

MORE_BYTES_OF_A_CHARACTER = 3
"""Of UTF-8, at most, behind its first."""
_WIDTHS = np.ones(256, np.int64)
"""Of a character, by its first byte."""
_WIDTHS[0xC0:], _WIDTHS[0xE0:], _WIDTHS[0xF0:] = 2, 3, 4


def like(pattern: LikePattern, column: pa.Array) -> Bools:
    """Which values match."""
    match pattern.kind:
        case "any":
            return np.ones(len(column), np.bool_)
        case "equal":
            return strings.equals(column, pattern.text)
        case "prefix":
            return strings.starts_with(column, pattern.text)
        case "suffix":
            return strings.ends_with(column, pattern.text)
        case "contains":
            return strings.contains(column, pattern.text)
    return _General(pattern).match(StringBuffers(column))


@dataclass(frozen=True, slots=True)
class _Left:
    """Rows that may match, and where of each that begins and ends which is still to be matched; all
    int64 (n,)."""

    rows: Ints
    begins: Ints
    ends: Ints

    def where(self, passing: Bools) -> "_Left":
        if passing.all():
            return self
        at = np.flatnonzero(passing)
        return _Left(self.rows[at], self.begins[at], self.ends[at])

    def from_(self, begins: Ints) -> "_Left":
        return _Left(self.rows, begins, self.ends)

    def until(self, ends: Ints) -> "_Left":
        return _Left(self.rows, self.begins, ends)


class _General:
    """A pattern whose kind is ``general``."""

    def __init__(self, pattern: LikePattern) -> None:
        first, *inner = pattern.pieces
        self._pattern = pattern
        self._is_whole = not inner
        self._prefix = _leading(first)
        rest = first[len(self._prefix) :]
        tail = inner.pop() if inner else rest
        self._suffix = _leading(tail[::-1])[::-1]
        tail = tail[: len(tail) - len(self._suffix)]
        # A pattern without % is matched from its begin on; nothing may be left at the end.
        self._forward, self._backward = (tail, ()) if self._is_whole else (rest, tail)
        self._inner = inner

    def match(self, buffers: StringBuffers) -> Bools:
        result = np.zeros(len(buffers.column), np.bool_)
        for start, block in buffers.blocks():
            result[self._between(buffers, self._anchored(block, start))] = True
        return result

    def _between(self, buffers: StringBuffers, left: _Left) -> Ints:
        """The rows that match between the first ``%`` and the last; some more than once."""
        if not self._inner or not len(left.rows):
            return left.rows
        if any(None in piece for piece in self._inner):
            return self._by_regex(buffers, left)
        return self._in_order(buffers, left)

    def _anchored(self, block: StringBuffers, first_row: int) -> _Left:
        """The rows that match before the first and behind the last ``%``. The block's first one is
        the column's ``first_row``."""
        prefix, suffix = self._prefix.encode(), self._suffix.encode()
        # Of a value that is too short bytes beside it are compared; its begin is behind its end.
        fitting = np.ones(len(block.column), np.bool_)
        if prefix:
            fitting = strings.begin_with(block, prefix, fitting, block.offsets[:-1])
        starts = block.offsets[1:] - np.int32(len(suffix))
        rows = strings.rows_that_begin_with(block, suffix, fitting, starts)
        begins = block.offsets.take(rows) + np.int64(len(prefix))
        left = _Left(rows, begins, starts.take(rows).astype(np.int64))
        left = _walked_back(block, _walked(block, left, self._forward), self._backward)
        left = left.where(left.begins == left.ends if self._is_whole else left.begins <= left.ends)
        return _Left(left.rows + first_row, left.begins, left.ends)

    def _in_order(self, buffers: StringBuffers, left: _Left) -> Ints:
        """The rows that have the inner texts one behind the other."""
        copied = _Copied(buffers, left.rows)
        *pieces, last = self._inner
        for piece in pieces:
            rows, behind = copied.inside(piece, left)
            first = np.ones(len(rows), np.bool_)
            first[1:] = rows[1:] != rows[:-1]
            begins = left.ends + 1
            begins[rows[first]] = behind[first]
            left = left.from_(begins)
        rows, _ = copied.inside(last, left)
        return left.rows.take(rows)

    def _by_regex(self, buffers: StringBuffers, left: _Left) -> Ints:
        longest = max((text for piece in self._inner for text in _literals(piece)), key=len)
        column = buffers.column.take(pa.array(left.rows))
        if longest:
            having = strings.contains(column, longest)
            left, column = left.where(having), column.filter(pa.array(having))
        try:
            passing = truth(pc.match_substring_regex(column, self._pattern.regex))
        except pa.ArrowInvalid:
            # RE2 refuses patterns beyond its memory; these are decided value by value.
            found = (
                text is not None and self._pattern.matches(text) for text in column.to_pylist()
            )
            passing = np.fromiter(found, np.bool_, len(column))
        return left.rows[passing]


class _Copied:
    """Some rows of a column one after another, so that a search passes over no others."""

    def __init__(self, buffers: StringBuffers, rows: Ints) -> None:
        start, count = int(rows[0]), len(rows)
        if int(rows[-1]) - start == count - 1:
            column = buffers.column.slice(start, count)
        else:
            column = pc.take(buffers.column, pa.array(rows), boundscheck=False)
        self._copy = StringBuffers(column)
        self._offsets = buffers.offsets
        self._rows = rows

    def inside(self, piece: Piece, left: _Left) -> tuple[Ints, Ints]:
        """(which of the rows, where it ends) of every occurrence of a text between the places that
        are left of a row; both ascending."""
        wanted = _leading(piece).encode()
        rows, places = strings.stretched_occurrences(self._copy, wanted)
        places += self._offsets.take(self._rows.take(rows)) - self._copy.offsets.take(rows)
        behind = places + len(wanted)
        passing = (places >= left.begins.take(rows)) & (behind <= left.ends.take(rows))
        if passing.all():
            return rows, behind
        inside = np.flatnonzero(passing)
        return rows.take(inside), behind.take(inside)


def _walked(block: StringBuffers, left: _Left, piece: Sequence[str | None]) -> _Left:
    """The rows that have ``piece`` where they begin; they begin behind it then."""
    for character in piece:
        if character is None:
            left = left.from_(left.begins + _WIDTHS[block.bytes_at(left.begins)])
            continue
        for byte in character.encode():
            passing = block.bytes_at(left.begins) == byte
            left = left.from_(left.begins + 1).where(passing)
    return left


def _walked_back(block: StringBuffers, left: _Left, piece: Sequence[str | None]) -> _Left:
    """The rows that have ``piece`` where they end; they end before it then."""
    for character in reversed(piece):
        if character is None:
            ends = left.ends - 1
            for _ in range(MORE_BYTES_OF_A_CHARACTER):
                ends = ends - ((block.bytes_at(ends) & 0xC0) == 0x80)
            left = left.until(ends)
            continue
        for byte in reversed(character.encode()):
            left = left.until(left.ends - 1)
            left = left.where(block.bytes_at(left.ends) == byte)
    return left


def _leading(piece: Piece) -> str:
    """The text before the first ``_``."""
    end = piece.index(None) if None in piece else len(piece)
    return "".join(character or "" for character in piece[:end])


def _literals(piece: Piece) -> list[str]:
    """The texts between the ``_`` of a piece, empty ones too."""
    return "".join("\0" if c is None else c for c in piece).split("\0")
