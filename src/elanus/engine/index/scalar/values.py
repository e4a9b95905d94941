"""The distinct values of a column in ascending order, and which of them a predicate takes.

Numbers are a NumPy array (NaN, if there is any, is the last), strings an Arrow array ordered by
their bytes, as comparisons of the filter language are. Both are used where they are mapped.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter.arrays import values_of
from elanus.engine.filter.evaluate_scalar import scalar_truth
from elanus.engine.filter.expression import (
    Arithmetic,
    Between,
    Compare,
    In,
    Leaf,
    Like,
    Matches,
    Shifted,
)

MAX_LOOKED_UP = 32
"""Strings of an ``in`` list that are looked up one by one; more are compared with all values."""
MAX_SEARCHED = 4_096
"""Likewise numbers, which are looked up together."""

Ints = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]


class SortedValues(ABC):
    """See the module. ``len`` is their number; ``comparable``: how many are not NaN."""

    comparable: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def first_not_below(self, value: Any) -> int:
        """The number of values that are less than ``value``."""

    @abstractmethod
    def first_above(self, value: Any) -> int:
        """The number of values that are less than or equal to ``value``."""

    @abstractmethod
    def arrow(self) -> pa.Array:
        """All values."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What ``opened_values`` needs."""

    @abstractmethod
    def members(self, wanted: Any) -> Ints | None:
        """Ranges of the values among ``wanted``, ascending; None if comparing all is cheaper."""

    @abstractmethod
    def prefixed(self, prefix: str) -> tuple[int, int] | None:
        """The range of the values that begin with ``prefix``; None for numbers."""


class SortedNumbers(SortedValues):
    def __init__(self, values: npt.NDArray[Any]) -> None:
        self._values = values
        has_nan = values.dtype.kind == "f" and len(values) and np.isnan(values[-1])
        self.comparable = len(values) - bool(has_nan)

    def __len__(self) -> int:
        return len(self._values)

    def first_not_below(self, value: Any) -> int:
        return self._place(value, "left")

    def first_above(self, value: Any) -> int:
        return self._place(value, "right")

    def _place(self, value: Any, side: Any) -> int:
        dtype = self._values.dtype
        if dtype.kind == "i":
            limits = np.iinfo(dtype)
            if not limits.min <= value <= limits.max:
                return 0 if value < limits.min else len(self._values)
        with np.errstate(all="ignore"):
            typed = np.array([value], dtype)
        return int(np.searchsorted(self._values[: self.comparable], typed, side)[0])

    def members(self, wanted: Any) -> Ints | None:
        if len(wanted) > MAX_SEARCHED:
            return None
        typed = np.unique(np.asarray(wanted, self._values.dtype))
        held = self._values[: self.comparable]
        lows, highs = (np.searchsorted(held, typed, side) for side in ("left", "right"))
        return np.stack([lows, highs], 1)[lows < highs]

    def prefixed(self, prefix: str) -> tuple[int, int] | None:
        return None

    def arrow(self) -> pa.Array:
        return pa.array(self._values)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"values": self._values}


class SortedStrings(SortedValues):
    def __init__(self, offsets: npt.NDArray[np.int32], data: npt.NDArray[np.uint8]) -> None:
        self._offsets, self._data = offsets, data
        self._bytes = data.data
        self.comparable = len(offsets) - 1

    def __len__(self) -> int:
        return self.comparable

    def first_not_below(self, value: Any) -> int:
        return self._first(value.encode(), or_equal=True, only_prefix=False)

    def first_above(self, value: Any) -> int:
        return self._first(value.encode(), or_equal=False, only_prefix=False)

    def prefixed(self, prefix: str) -> tuple[int, int] | None:
        text = prefix.encode()
        return (
            self._first(text, or_equal=True, only_prefix=False),
            self._first(text, or_equal=False, only_prefix=True),
        )

    def _first(self, text: bytes, *, or_equal: bool, only_prefix: bool) -> int:
        """The first value above ``text`` (or equal to it), of each its first bytes only."""
        low, high = 0, self.comparable
        while low < high:
            middle = (low + high) // 2
            start, end = self._offsets[middle : middle + 2].tolist()
            value = bytes(self._bytes[start : min(end, start + len(text)) if only_prefix else end])
            if value > text or (or_equal and value == text):
                high = middle
            else:
                low = middle + 1
        return low

    def members(self, wanted: Any) -> Ints | None:
        if len(wanted) > MAX_LOOKED_UP:
            return None
        texts = wanted.to_pylist() if isinstance(wanted, pa.Array) else sorted(set(wanted))
        found = [(self.first_not_below(text), self.first_above(text)) for text in texts]
        return _ranges(*(one for one in found if one[0] < one[1]))

    def arrow(self) -> pa.Array:
        buffers = [None, pa.py_buffer(self._offsets), pa.py_buffer(self._data)]
        return pa.Array.from_buffers(pa.string(), self.comparable, buffers)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"value_offsets": self._offsets, "value_bytes": self._data}


def distinct_values(column: pa.Array) -> tuple[SortedValues, Ints]:
    """The distinct values of a column of numbers, bools or strings without nulls, and for each row
    the number of its value, int64 (rows,)."""
    if not pa.types.is_string(column.type):
        values, codes = np.unique(values_of(column), return_inverse=True)
        return SortedNumbers(values), codes.astype(np.int64, copy=False)
    encoded = column.dictionary_encode()
    order = pc.array_sort_indices(encoded.dictionary)
    texts = encoded.dictionary.take(order)
    ranks = np.empty(len(order), np.int64)
    ranks[np.asarray(order)] = np.arange(len(order))
    offsets, data = np.zeros(1, np.int32), np.zeros(0, np.uint8)
    if len(texts):
        _, raw_offsets, raw = texts.buffers()
        offsets = np.frombuffer(raw_offsets, np.int32, len(texts) + 1, texts.offset * 4)
        if raw is not None:
            data = np.frombuffer(raw, np.uint8)[offsets[0] : offsets[-1]]
        offsets = offsets - offsets[0]
    return SortedStrings(offsets, data), ranks[np.asarray(encoded.indices)]


def opened_values(arrays: Arrays) -> SortedValues:
    """Raises KeyError if the arrays are of something else."""
    if "values" in arrays:
        return SortedNumbers(arrays["values"])
    return SortedStrings(arrays["value_offsets"], arrays["value_bytes"])


def chosen_ranges(values: SortedValues, leaf: Leaf) -> Ints | None:
    """Ranges ``[from, to)`` of the values for which ``leaf`` (its ``negated`` aside) is true, int64
    (n, 2), ascending and apart. None if it takes a look at every value, see ``chosen_by_scan``."""
    if isinstance(leaf, Compare):
        return _compared(values, leaf.operator, leaf.value)
    if isinstance(leaf, Between):
        low, high = leaf.low, leaf.high
        start = values.first_not_below(low) if leaf.low_closed else values.first_above(low)
        end = values.first_above(high) if leaf.high_closed else values.first_not_below(high)
        return _ranges((start, max(start, end)))
    if isinstance(leaf, In):
        return values.members(leaf.values)
    if isinstance(leaf, Like) and leaf.pattern.kind in ("prefix", "equal"):
        if leaf.pattern.kind == "equal":
            return _compared(values, "==", leaf.pattern.text)
        found = values.prefixed(leaf.pattern.text)
        return None if found is None else _ranges(found)
    return None


def _compared(values: SortedValues, operator: str, value: Any) -> Ints:
    low, high, end = values.first_not_below(value), values.first_above(value), values.comparable
    match operator:
        case "==":
            return _ranges((low, high))
        case "!=":
            return _ranges((0, low), (high, len(values)))
        case "<":
            return _ranges((0, low))
        case "<=":
            return _ranges((0, high))
        case ">":
            return _ranges((high, end))
        case _:
            return _ranges((low, end))


def chosen_by_scan(values: SortedValues, leaf: Leaf) -> Ints:
    """As ``chosen_ranges``, by evaluating ``leaf`` on every value."""
    plain = msgspec.structs.replace(leaf, negated=False)
    taken = scalar_truth(plain, values.arrow())
    edges = np.flatnonzero(np.diff(np.concatenate([[0], taken.view(np.int8), [0]])))
    return edges.reshape(-1, 2)


def is_scannable(leaf: Leaf) -> bool:
    """Whether ``chosen_by_scan`` takes the leaf."""
    return isinstance(leaf, In | Like | Matches | Arithmetic | Shifted)


def _ranges(*found: tuple[int, int]) -> Ints:
    return np.array(found, np.int64).reshape(-1, 2)
