"""Rows sorted by value: the distinct values in order, and for each the rows that have it.

Serves STL_SORT, INVERTED and Trie on single values, the elements of arrays and the values of a JSON
path. A range of values is one piece of the rows; whatever else a predicate on single values asks
is decided once per distinct value. Facts and arrays of its file: ``values``, or ``value_offsets``
and ``value_bytes``; ``starts`` int64 (values + 1,); ``rows`` int32.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import Bools
from elanus.engine.filter.expression import Contains, Leaf
from elanus.engine.filter.indexes import Answer
from elanus.engine.index.scalar.base import Arrays, ColumnIndex
from elanus.engine.index.scalar.values import (
    Ints,
    chosen_by_scan,
    chosen_ranges,
    distinct_values,
    is_scannable,
    opened_values,
)

FIXED_NS = 30_000
CLEARED_ROW_NS = 0.3
FOUND_ROW_NS = 2.0
MAX_PIECES = 64
"""Ranges whose rows are put together one by one; more are marked in one pass over all rows."""


class SortedIndex(ColumnIndex):
    """See the module. Raises KeyError if arrays are missing."""

    def __init__(self, row_count: int, facts: Mapping[str, int | str], arrays: Arrays) -> None:
        super().__init__(row_count, facts, arrays)
        self._values = opened_values(arrays)
        self._starts, self._rows = arrays["starts"], arrays["rows"]
        self._is_exact = bool(facts.get("exact", 1))

    def answer(self, leaf: Leaf) -> Answer | None:
        if not self._is_exact or not self.concerns(leaf):
            return None
        if isinstance(leaf, Contains):
            return self._containing(leaf)
        ranges = chosen_ranges(self._values, leaf)
        if ranges is not None:
            return self._priced(
                self._count(ranges), lambda: self.finished(self._mask(ranges), leaf)
            )
        if not is_scannable(leaf):
            return None
        return Answer(
            FIXED_NS + leaf.cost * len(self._values) + FOUND_ROW_NS * len(self._rows) / 2,
            lambda: self.finished(self._mask(chosen_by_scan(self._values, leaf)), leaf),
        )

    def _containing(self, leaf: Contains) -> Answer | None:
        """Any of some elements, or all of them."""
        if not len(leaf.values):
            return None
        groups = [leaf.values[at : at + 1] for at in range(len(leaf.values))]
        if not leaf.every:
            groups = [leaf.values]
        ranges = list(map(self._values.members, groups))
        known = [found for found in ranges if found is not None]
        if len(known) < len(ranges):
            return None

        def ask() -> Bools:
            truth = self._mask(known[0])
            for found in known[1:]:
                truth &= self._mask(found)
            return self.finished(truth, leaf)

        return self._priced(sum(map(self._count, known)), ask)

    def _priced(self, count: int, ask: Any) -> Answer:
        cost = FIXED_NS + CLEARED_ROW_NS * self.row_count + FOUND_ROW_NS * count
        return Answer(cost, ask)

    def _count(self, ranges: Ints) -> int:
        """Rows in the ranges, about: what lies outside is marked where that is less."""
        held = int((self._starts[ranges[:, 1]] - self._starts[ranges[:, 0]]).sum())
        if self._covers_once and len(ranges) <= MAX_PIECES:
            return min(held, len(self._rows) - held)
        return held

    @property
    def _covers_once(self) -> bool:
        """Every row has just one value, so that the rows outside of some values are the others."""
        return not self._is_array and len(self._rows) == self.row_count

    def _mask(self, ranges: Ints) -> Bools:
        starts, ends = self._starts[ranges[:, 0]], self._starts[ranges[:, 1]]
        held = int((ends - starts).sum())
        if self._covers_once and 2 * held > self.row_count and len(ranges) <= MAX_PIECES:
            edges = np.concatenate([[0], np.stack([starts, ends], 1).ravel(), [self.row_count]])
            return self._marked(edges[0::2], edges[1::2], value=True)
        return self._marked(starts, ends, value=False)

    def _marked(self, starts: Ints, ends: Ints, *, value: bool) -> Bools:
        """``value`` everywhere but for the rows of these pieces."""
        mask = np.full(self.row_count, value)
        if len(starts) <= MAX_PIECES:
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                mask[self._rows[start:end]] = not value
            return mask
        steps = np.zeros(len(self._rows) + 1, np.int32)
        np.add.at(steps, starts, 1)
        np.add.at(steps, ends, -1)
        mask[self._rows[np.cumsum(steps[:-1]) > 0]] = not value
        return mask


def sorted_arrays(column: pa.Array, rows: Ints, row_count: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an index. column: values without nulls; rows: int64 (values,), where each
    stands; a value may stand in a row more than once."""
    values, codes = distinct_values(column)
    pairs = np.unique(codes * max(row_count, 1) + rows)
    codes = pairs // max(row_count, 1)
    starts = np.zeros(len(values) + 1, np.int64)
    np.cumsum(np.bincount(codes, minlength=len(values)), out=starts[1:])
    return {
        **values.arrays(),
        "starts": starts,
        "rows": (pairs % max(row_count, 1)).astype(np.int32),
    }
