"""Predicates on JSON decided on its text, without parsing it, in the rows where that is certain.

In an object without a backslash, ``"key":`` is a key and nothing else, and without a second brace
it is a key of the object itself. Its value begins right behind it, and the first byte tells its
type. So one search through the whole column finds the values of a key, or a look at one place where
all rows begin alike; numbers and texts are read or compared for all rows at once. Rows that look
otherwise (escapes, nested objects, keys that occur twice, fractions) come out *unsure* and are
parsed by the caller.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import BLOCK_ROWS, Bools
from elanus.engine.filter.expression import (
    And,
    Arithmetic,
    Between,
    Compare,
    Contains,
    Exists,
    In,
    Leaf,
    Length,
    Like,
    Matches,
    Node,
    Or,
)
from elanus.engine.filter.strings import (
    StringBuffers,
    is_found_at_most,
    occurrences,
    rows_of,
)

MIN_ROWS = 64
"""Of fewer rows, parsing is cheaper."""
MOST_DIGITS = 15
"""Integers of so many digits are exact as floats; longer ones are parsed."""
MOST_VALUES = 16
"""Of an ``in`` list; for a longer one the rows are parsed."""

ALIKE_FIRST = 16
"""Rows that are looked at before all, whether they have a key at the same place."""

Rows = npt.NDArray[np.int64]
Decision = tuple[Bools, Bools]
"""Which rows are true, and which are unsure; the others are false."""
_BLANKS = np.isin(np.arange(256), list(b" \t\r\n"))
_ENDS = np.isin(np.arange(256), list(b",} \t\r\n"))
_DIGITS = np.frombuffer(b"-0123456789", np.uint8)
_QUOTE, _COLON, _SPACE, _BRACE, _BRACKET, _BACKSLASH = b'": {[\\'
_TRUE, _FALSE, _NULL = b"tfn"
_ORDERINGS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


def scan_tree(tree: Node, column: pa.Array, missing: Callable[[Leaf], bool]) -> Decision:
    """Decides ``tree``, whose leaves all read ``column`` (binary, JSON), where it can. Null rows
    are arbitrary.

    missing: the truth of a leaf (its ``negated`` aside) where the value isn't there.
    """
    truth = np.empty(len(column), np.bool_)
    unsure = np.empty(len(column), np.bool_)
    for start in range(0, len(column), BLOCK_ROWS):
        block = slice(start, min(start + BLOCK_ROWS, len(column)))
        texts = _Texts(column.slice(start, block.stop - start))
        truth[block], unsure[block] = _tree(tree, texts, missing)
    return truth, unsure


def _tree(tree: Node, texts: "_Texts", missing: Callable[[Leaf], bool]) -> Decision:
    if isinstance(tree, And | Or):
        decisive = isinstance(tree, Or)
        truth = np.full(texts.rows, not decisive)
        unsure = np.zeros(texts.rows, np.bool_)
        decided = np.zeros(texts.rows, np.bool_)
        for child in tree.children:  # a plain loop: one frame for each level
            found, doubtful = _tree(child, texts, missing)
            truth = truth | found if decisive else truth & found
            decided |= ~doubtful & (found if decisive else ~found)
            unsure |= doubtful
        unsure &= ~decided
        return truth & ~unsure, unsure
    assert isinstance(tree, Leaf)
    return _leaf(tree, texts, missing(tree))


def _leaf(leaf: Leaf, texts: "_Texts", missing: bool) -> Decision:
    places, unsure = texts.values_of(leaf.column.path[0])
    rows: Any = np.flatnonzero(places >= 0)
    if len(rows) == texts.rows > 0:
        rows = slice(None)  # much cheaper
    truth = np.full(texts.rows, missing)
    doubtful = unsure.copy()
    if len(leaf.column.path) > 1:
        doubtful[rows] = True
    elif len(places[rows]):
        truth[rows], doubtful[rows] = _TESTS[type(leaf)](leaf, texts, places[rows], missing)
        if leaf.column.cast:
            doubtful[rows] |= texts.bytes_at(places[rows]) == _QUOTE
    if leaf.negated:
        truth = ~truth
    return truth & ~doubtful, doubtful


class _Texts:
    """The documents of a column, and where the values of its keys stand."""

    def __init__(self, column: pa.Array) -> None:
        self.buffers = StringBuffers(column)
        self.rows = len(column)
        self._found: dict[str, tuple[Rows, Bools]] = {}

    def bytes_at(self, places: Rows) -> npt.NDArray[np.uint8]:
        return self.buffers.bytes_at(places)

    def values_of(self, key: str) -> tuple[Rows, Bools]:
        """(where the value of the key begins in each row, -1 if there is none; unsure rows)."""
        if key not in self._found:
            self._found[key] = self._search(key)
        return self._found[key]

    def _search(self, key: str) -> tuple[Rows, Bools]:
        places = np.full(self.rows, -1, np.int64)
        # A key that began with punctuation could be what stands between two strings.
        if not (key[:1].isalnum() or key[:1] in ("_", "$")) or '"' in key or not key.isprintable():
            return places, np.ones(self.rows, np.bool_)
        wanted = f'"{key}"'.encode()
        alike = self._alike(wanted)
        if alike is not None:
            return alike, np.zeros(self.rows, np.bool_)
        unsure = self._opaque.copy()
        rows, positions = occurrences(self.buffers, wanted)
        ends = positions + len(wanted)
        after = self.bytes_at(ends)
        unsure[rows[_BLANKS[after]]] = True
        is_key = after == _COLON
        rows, starts = rows[is_key], ends[is_key] + 1
        unsure[rows[1:][rows[1:] == rows[:-1]]] = True
        if self._nested is not None:
            unsure[rows[self._nested[rows]]] = True
        starts += self.bytes_at(starts) == _SPACE
        places[rows] = starts
        places[unsure] = -1
        return places, unsure

    def _alike(self, wanted: bytes) -> Rows | None:
        """Where the value of the key ``wanted`` begins in each row, if it begins at the same place
        in all of them, and no row has the key twice; None if that isn't so or isn't certain."""
        if self._nested is not None or self._opaque.any():
            return None
        buffers = self.buffers
        first = buffers.data[buffers.offsets[0] : buffers.offsets[1]].tobytes()
        at = first.find(wanted + b":")
        if at < 0:
            return None
        starts = buffers.offsets[:-1].astype(np.int64) + at
        behind = starts + (len(wanted) + 1)
        few = starts[:ALIKE_FIRST]
        if not self._have(wanted + b":", few) or not (behind < buffers.offsets[1:]).all():
            return None
        if not self._have(wanted + b":", starts):
            return None
        data = buffers.data[buffers.offsets[0] : buffers.offsets[-1]]
        if not is_found_at_most(data, wanted, self.rows):
            return None
        behind += self.bytes_at(behind) == _SPACE
        return behind

    def _have(self, wanted: bytes, places: Rows) -> bool:
        """Whether ``wanted`` stands at every place."""
        return all(
            (self.buffers.data[at:].take(places, mode="clip") == byte).all()
            for at, byte in enumerate(wanted)
        )

    @cached_property
    def _opaque(self) -> Bools:
        """Rows that have an escape, or are no objects."""
        buffers = self.buffers
        starts = buffers.offsets[:-1].astype(np.int64)
        opaque: Bools = (self.bytes_at(starts) != _BRACE) | (buffers.lengths == 0)
        opaque[self._rows_with(_BACKSLASH)] = True
        return opaque

    @cached_property
    def _nested(self) -> Bools | None:
        """Rows with a second brace; None if there are none."""
        offsets = self.buffers.offsets
        data = self.buffers.data[offsets[0] : offsets[-1]]
        if not self._opaque.any() and np.count_nonzero(data == _BRACE) == self.rows:
            return None  # each row begins with one
        braces = self._rows_with(_BRACE)
        if len(braces) <= self.rows and not (braces[1:] == braces[:-1]).any():
            return None
        nested: Bools = np.bincount(braces, minlength=self.rows) > 1
        return nested

    def _rows_with(self, byte: int) -> Rows:
        """The row of each occurrence of a byte, ascending."""
        offsets = self.buffers.offsets
        start, end = int(offsets[0]), int(offsets[-1])
        positions = np.flatnonzero(self.buffers.data[start:end] == byte) + start
        if not len(positions):
            return positions
        rows: Rows = rows_of(offsets, positions)
        return rows


# Tests of the values at ``places``: (truth, unsure) -----------------------------------------------


def _equals(texts: _Texts, places: Rows, value: Any) -> Decision:
    """Which values are the constant ``value``."""
    first = texts.bytes_at(places)
    nothing = np.zeros(len(places), np.bool_)
    if isinstance(value, bool):
        return first == (_TRUE if value else _FALSE), nothing
    if isinstance(value, int | float):
        return _numbers(texts, places, lambda numbers: numbers == value)
    if isinstance(value, str):
        return _same_text(texts, places, value), nothing
    return nothing, first == _BRACKET


def _same_text(texts: _Texts, places: Rows, value: str) -> Bools:
    if '"' in value or "\\" in value or any(character < " " for character in value):
        return np.zeros(len(places), np.bool_)  # it would need an escape
    wanted = f'"{value}"'.encode()
    same = np.zeros(len(places), np.bool_)
    rows = np.arange(len(places))
    # The end first, which tells texts of other lengths apart; they all begin with a quote.
    for at in (*reversed(range(1, len(wanted))), 0):
        passing = np.flatnonzero(texts.bytes_at(places + at) == wanted[at])
        rows, places = rows.take(passing), places.take(passing)
    same[rows] = True
    return same


def _numbers(texts: _Texts, places: Rows, test: Callable[[Any], Any]) -> Decision:
    """``test`` of the values that are plain integers; other numbers are unsure."""
    truth = np.zeros(len(places), np.bool_)
    unsure = np.zeros(len(places), np.bool_)
    first = texts.bytes_at(places)
    rows = np.flatnonzero((first <= _DIGITS[-1]) & (first >= _DIGITS[0]))
    negative = first[rows] == _DIGITS[0]
    at = places[rows] + negative
    values = np.zeros(len(rows), np.int64)
    active = np.arange(len(rows))
    for _ in range(MOST_DIGITS):
        digits = texts.bytes_at(at[active]) - np.uint8(ord("0"))
        is_digit = digits < 10
        active, digits = active[is_digit], digits[is_digit]
        if not len(active):
            break
        values[active] = values[active] * 10 + digits
        at[active] += 1
    whole = _ENDS[texts.bytes_at(at)]
    values[negative] *= -1
    truth[rows] = test(values) & whole
    unsure[rows] = ~whole
    return truth, unsure


def _compare(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    value, operator = leaf.value, leaf.operator
    if operator == "==":
        return _equals(texts, places, value)
    if operator == "!=" or isinstance(value, str):
        return _unsure(leaf, texts, places, missing)
    return _numbers(texts, places, lambda numbers: _ordered(operator, numbers, value))


def _ordered(operator: str, numbers: Any, value: Any) -> Any:
    return _ORDERINGS[operator](numbers, value)


def _between(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    if isinstance(leaf.low, str):
        return _unsure(leaf, texts, places, missing)
    above, below = ">=" if leaf.low_closed else ">", "<=" if leaf.high_closed else "<"
    return _numbers(
        texts,
        places,
        lambda numbers: _ordered(above, numbers, leaf.low) & _ordered(below, numbers, leaf.high),
    )


def _in(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    if len(leaf.values) > MOST_VALUES:
        return _unsure(leaf, texts, places, missing)
    truth = np.zeros(len(places), np.bool_)
    unsure = np.zeros(len(places), np.bool_)
    for value in leaf.values:
        found, doubtful = _equals(texts, places, value)
        truth |= found
        unsure |= doubtful
    return truth, unsure


def _exists(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    first = texts.bytes_at(places)
    return first != _NULL, (first == _BRACKET) | (first == _BRACE)


def _text(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    return np.full(len(places), missing), texts.bytes_at(places) == _QUOTE


def _array(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    return np.full(len(places), missing), texts.bytes_at(places) == _BRACKET


def _unsure(leaf: Any, texts: _Texts, places: Rows, missing: bool) -> Decision:
    everything = np.ones(len(places), np.bool_)
    return ~everything, everything


_TESTS: dict[type, Callable[[Any, _Texts, Rows, bool], Decision]] = {
    Compare: _compare,
    Between: _between,
    In: _in,
    Like: _text,
    Matches: _text,
    Arithmetic: _unsure,
    Length: _array,
    Contains: _array,
    Exists: _exists,
}
