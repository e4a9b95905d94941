"""Predicates on columns of single values: the truth of every row, arbitrary where it is null."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter.arrays import Bools, truth, validity, values_of
from elanus.engine.filter.expression import (
    Arithmetic,
    Between,
    Compare,
    CompareColumns,
    In,
    Leaf,
    Like,
    Shifted,
)
from elanus.engine.filter.operators import COMPARISONS
from elanus.engine.filter.pattern import LikePattern
from elanus.errors import InternalError
from elanus.model.timestamptz import shifted
from elanus.model.types import DataType

FEW_VALUES = 6
"""An ``in`` list of so few numbers is compared value by value."""
WIDEST_TABLE = 1 << 22
"""Entries: an ``in`` list of integers within this range is looked up in a table of booleans."""

_NUMPY = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_ARROW = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
assert _NUMPY.keys() == COMPARISONS


def scalar_truth(leaf: Leaf, column: pa.Array) -> Bools:
    """The truth of ``leaf`` (its ``negated`` aside) on each value of ``column``."""
    is_string = leaf.column.type is DataType.VARCHAR
    if isinstance(leaf, Compare):
        if is_string:
            return truth(_ARROW[leaf.operator](column, pa.scalar(leaf.value, column.type)))
        return compare_numbers(leaf.operator, values_of(column), leaf.value)
    if isinstance(leaf, Between):
        return _between(leaf, column, is_string)
    if isinstance(leaf, In):
        return member_strings(column, leaf.values) if is_string else member(column, leaf.values)
    if isinstance(leaf, Like):
        return _like(leaf.pattern, column)
    if isinstance(leaf, Shifted):
        moved = shifted(values_of(column), leaf.interval, leaf.sign)
        return compare_numbers(leaf.operator, moved, leaf.value)
    if isinstance(leaf, Arithmetic):
        return _arithmetic(leaf, values_of(column))
    raise InternalError(f"no evaluation of {type(leaf).__name__} on {leaf.column.key}")


def compare_numbers(operator: str, values: Any, value: Any) -> Bools:
    """``values operator value``; a Python number takes the dtype of ``values``, and an integer
    outside its range compares by its value."""
    result: Bools = _NUMPY[operator](values, value)
    return result


def compare_columns(leaf: CompareColumns, left: pa.Array, right: pa.Array) -> Bools:
    """``left operator right``; numbers meet in their common NumPy type."""
    if leaf.column.type is DataType.VARCHAR:
        return truth(_ARROW[leaf.operator](left, right))
    return compare_numbers(leaf.operator, values_of(left), values_of(right))


def both_valid(left: pa.Array, right: pa.Array) -> Bools | None:
    valid, other = validity(left), validity(right)
    if valid is None or other is None:
        return other if valid is None else valid
    return valid & other


def _between(leaf: Between, column: pa.Array, is_string: bool) -> Bools:
    above, below = ">=" if leaf.low_closed else ">", "<=" if leaf.high_closed else "<"
    if is_string:
        low, high = (pa.scalar(bound, column.type) for bound in (leaf.low, leaf.high))
        return truth(_ARROW[above](column, low)) & truth(_ARROW[below](column, high))
    values = values_of(column)
    result = compare_numbers(above, values, leaf.low)
    result &= compare_numbers(below, values, leaf.high)
    return result


def member(column: pa.Array, wanted: Any) -> Bools:
    """Which numbers or bools are among ``wanted`` (ascending, of the column's dtype)."""
    values = values_of(column)
    if len(wanted) <= FEW_VALUES:
        result = np.zeros(len(values), np.bool_)
        for value in wanted:
            result |= values == value
        return result
    if wanted.dtype.kind == "i":
        low, high = int(wanted[0]), int(wanted[-1])
        if high - low < WIDEST_TABLE:
            return _table_lookup(values, wanted, low, high)
    return truth(pc.is_in(column, value_set=pa.array(wanted)))


def _table_lookup(values: Any, wanted: Any, low: int, high: int) -> Bools:
    # Index 0 stands for everything below the range and the last index for everything above it.
    table = np.zeros(high - low + 3, np.bool_)
    wide = wanted.astype(np.int64)
    table[wide - (low - 1)] = True
    bottom, top = max(low - 1, np.iinfo(np.int64).min), min(high + 1, np.iinfo(np.int64).max)
    clipped = np.clip(values.astype(np.int64, copy=False), bottom, top)
    # The subtraction may not leave int64 at the lower end.
    clipped -= low
    clipped += 1
    found: Bools = table[clipped]
    return found


def member_strings(column: pa.Array, wanted: pa.Array) -> Bools:
    if len(wanted) == 0:
        return np.zeros(len(column), np.bool_)
    if len(wanted) == 1:
        return truth(pc.equal(column, wanted[0]))
    return truth(pc.is_in(column, value_set=wanted))


def _like(pattern: LikePattern, column: pa.Array) -> Bools:
    if pattern.kind == "any":
        return np.ones(len(column), np.bool_)
    if pattern.kind == "prefix":
        return truth(pc.starts_with(column, pattern.text))
    if pattern.kind == "suffix":
        return truth(pc.ends_with(column, pattern.text))
    if pattern.kind == "contains":
        return truth(pc.match_substring(column, pattern.text))
    try:
        return truth(pc.match_substring_regex(column, pattern.regex))
    except pa.ArrowInvalid:
        # RE2 refuses patterns beyond its memory; these are decided value by value.
        texts = column.to_pylist()
        found = (text is not None and pattern.matches(text) for text in texts)
        return np.fromiter(found, np.bool_, len(column))


def _arithmetic(leaf: Arithmetic, values: Any) -> Bools:
    """Integers are computed in wrapping int64, floats in the column's precision, as C++ would."""
    with np.errstate(all="ignore"):
        if leaf.column.type.is_integer:
            numbers = _integer_result(leaf.arithmetic, values.astype(np.int64), leaf.operand)
        else:
            numbers = _float_result(leaf.arithmetic, values, leaf.operand)
    return compare_numbers(leaf.operator, numbers, leaf.value)


def _integer_result(arithmetic: str, values: Any, operand: Any) -> Any:
    if arithmetic == "+":
        return values + operand
    if arithmetic == "-":
        return values - operand
    if arithmetic == "*":
        return values * operand
    remainder = np.fmod(values, operand)
    # Truncating division: what is left without the remainder divides evenly.
    return remainder if arithmetic == "%" else (values - remainder) // operand


def _float_result(arithmetic: str, values: Any, operand: Any) -> Any:
    if arithmetic == "+":
        return values + operand
    if arithmetic == "-":
        return values - operand
    return values * operand if arithmetic == "*" else values / operand
