"""A bitmap for each distinct value: for columns of few of them.

Serves BITMAP and HYBRID. Arrays of its file: the values as those of a sorted index; ``bits`` uint8
(values, ceil(rows / 8)), packed as a row set is.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import Bools
from elanus.engine.filter.expression import Leaf
from elanus.engine.filter.indexes import Answer
from elanus.engine.index.rows import RowSet
from elanus.engine.index.scalar.base import Arrays, ColumnIndex
from elanus.engine.index.scalar.values import (
    Ints,
    chosen_by_scan,
    chosen_ranges,
    distinct_values,
    is_scannable,
    opened_values,
)

MAX_VALUES = 100
"""Of the distinct values; more are sorted instead."""
FIXED_NS = 30_000
ROW_NS = 1.0
"""So that one comparison of numbers is left to the scan, which takes no longer."""
VALUE_ROW_NS = 0.01


class BitmapIndex(ColumnIndex):
    """See the module. Raises KeyError if arrays are missing."""

    def __init__(self, row_count: int, facts: Mapping[str, int | str], arrays: Arrays) -> None:
        super().__init__(row_count, facts, arrays)
        self._values = opened_values(arrays)
        self._bits = arrays["bits"]

    def answer(self, leaf: Leaf) -> Answer | None:
        if not self.concerns(leaf):
            return None
        ranges = chosen_ranges(self._values, leaf)
        if ranges is None and not is_scannable(leaf):
            return None
        looked_at = 0 if ranges is not None else leaf.cost * len(self._values)
        united = len(self._values) if ranges is None else int(np.diff(ranges).sum())

        def ask() -> Bools:
            chosen = chosen_by_scan(self._values, leaf) if ranges is None else ranges
            return self.finished(self._mask(chosen), leaf)

        cost = FIXED_NS + looked_at + (ROW_NS + united * VALUE_ROW_NS) * self.row_count
        return Answer(cost, ask)

    def _mask(self, ranges: Ints) -> Bools:
        packed = np.zeros(self._bits.shape[1], np.uint8)
        for start, end in ranges.tolist():
            packed |= np.bitwise_or.reduce(self._bits[start:end], axis=0)
        return RowSet(self.row_count, packed=packed).mask


def bitmap_arrays(
    column: pa.Array, rows: Ints, row_count: int
) -> dict[str, npt.NDArray[Any]] | None:
    """The arrays of an index; arguments as those of ``sorted_arrays``. None for too many values."""
    values, codes = distinct_values(column)
    if len(values) > MAX_VALUES:
        return None
    bits = np.zeros((len(values), (row_count + 7) // 8), np.uint8)
    for code in range(len(values)):
        mask = np.zeros(row_count, np.bool_)
        mask[rows[codes == code]] = True
        bits[code] = RowSet(row_count, mask=mask).packed
    return {**values.arrays(), "bits": bits}
