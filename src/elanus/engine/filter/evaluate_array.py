"""Predicates on ARRAY columns: elements, whole arrays, contains, length. Vectorised over offsets.

An index past the end makes every comparison of the element false (and known).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter import strings
from elanus.engine.filter.arrays import Bools, lengths_of, offsets_of
from elanus.engine.filter.evaluate_scalar import (
    compare_numbers,
    member,
    scalar_truth,
)
from elanus.engine.filter.expression import Contains, In, Leaf, Length, Match
from elanus.model.schema import SCALAR_ARROW_TYPES
from elanus.model.types import DataType


def array_truth(leaf: Leaf, column: pa.Array) -> Bools:
    """The truth of ``leaf`` (its ``negated`` aside) on each row of a list column; null rows are
    arbitrary."""
    starts = offsets_of(column)[:-1].astype(np.int64)
    lengths = lengths_of(column)
    if isinstance(leaf, Length):
        return compare_numbers(leaf.operator, lengths, leaf.value)
    if isinstance(leaf, Contains):
        return _contains(leaf, column.values, starts, lengths)
    if leaf.column.element < 0:
        assert isinstance(leaf, In)
        return _equal_arrays(leaf, column.values, starts, lengths)
    return _element(leaf, column.values, starts, lengths)


_QUANTIFIERS = {"least": ">=", "most": "<=", "exact": "=="}


def match_truth(leaf: Match, lengths: npt.NDArray[np.int64], hits: Bools) -> Bools:
    """The truth of ``leaf`` (its ``negated`` aside) on each row.

    lengths: the elements of each row, int64 (rows,). hits: which of all elements pass its
    predicate, bool (elements,). A row without elements has all of them.
    """
    before = np.zeros(len(hits) + 1, np.int64)
    np.cumsum(hits, out=before[1:])
    ends = np.cumsum(lengths)
    counts = before[ends] - before[ends - lengths]
    if leaf.quantifier == "all":
        return compare_numbers("==", counts, lengths)
    return compare_numbers(_QUANTIFIERS[leaf.quantifier], counts, leaf.threshold)


def _element(leaf: Leaf, items: pa.Array, starts: npt.NDArray[np.int64], lengths: Any) -> Bools:
    rows = np.flatnonzero(lengths > leaf.column.element)
    result = np.zeros(len(starts), np.bool_)
    if len(rows):
        elements = items.take(pa.array(starts[rows] + leaf.column.element))
        result[rows] = scalar_truth(leaf, elements)
    return result


def _contains(
    leaf: Contains, items: pa.Array, starts: npt.NDArray[np.int64], lengths: Any
) -> Bools:
    if not leaf.every:
        return _any_of(leaf.values, items, starts, lengths, leaf.column.item)
    result = np.ones(len(starts), np.bool_)
    for at in range(len(leaf.values)):
        result &= _any_of(leaf.values[at : at + 1], items, starts, lengths, leaf.column.item)
    return result


def _any_of(
    wanted: Any, items: pa.Array, starts: npt.NDArray[np.int64], lengths: Any, kind: DataType
) -> Bools:
    matched = strings.member(items, wanted) if kind is DataType.VARCHAR else member(items, wanted)
    before = np.zeros(len(matched) + 1, np.int64)
    np.cumsum(matched, out=before[1:])
    result: Bools = before[starts + lengths] > before[starts]
    return result


def _equal_arrays(leaf: In, items: pa.Array, starts: npt.NDArray[np.int64], lengths: Any) -> Bools:
    result = np.zeros(len(starts), np.bool_)
    item = leaf.column.item
    for wanted in leaf.values:
        rows = np.flatnonzero(lengths == len(wanted))
        for at, value in enumerate(wanted):
            if len(rows) == 0:
                break
            elements = items.take(pa.array(starts[rows] + at))
            rows = rows[_equal(elements, value, item)]
        result[rows] = True
    return result


def _equal(elements: pa.Array, value: Any, item: DataType) -> Bools:
    if item is DataType.VARCHAR:
        return strings.equals(elements, value)
    limits = np.iinfo(f"int{SCALAR_ARROW_TYPES[item].bit_width}") if item.is_integer else None
    if limits is not None and not limits.min <= value <= limits.max:
        return np.zeros(len(elements), np.bool_)
    return member(elements, np.array([value], SCALAR_ARROW_TYPES[item].to_pandas_dtype()))
