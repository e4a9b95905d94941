"""Predicates on columns of single values: the truth of every row, arbitrary where it is null."""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.filter import strings
from elanus.engine.filter.arrays import Bools, by_blocks, truth, validity, values_of
from elanus.engine.filter.expression import (
    Arithmetic,
    Between,
    Compare,
    CompareColumns,
    In,
    Leaf,
    Like,
    Matches,
    Shifted,
)
from elanus.engine.filter.like import like
from elanus.engine.filter.operators import COMPARISONS, ORDERINGS
from elanus.engine.filter.regex import found_in
from elanus.errors import InternalError
from elanus.model.timestamptz import shifted
from elanus.model.types import DataType

FEW_VALUES = 6
"""An ``in`` list of so few numbers is compared value by value."""
WIDEST_TABLE = 1 << 22
"""Entries: an ``in`` list of integers within this range is looked up in a table of booleans."""

HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
HASH_ROOM = 64
"""Entries of a table of hashes for each value of a list."""
MOST_HASH_BITS = 22

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
            return _compare_strings(leaf.operator, column, leaf.value)
        return compare_numbers(leaf.operator, values_of(column), leaf.value)
    if isinstance(leaf, Between):
        return _between(leaf, column, is_string)
    if isinstance(leaf, In):
        return strings.member(column, leaf.values) if is_string else member(column, leaf.values)
    if isinstance(leaf, Like):
        return like(leaf.pattern, column)
    if isinstance(leaf, Matches):
        return found_in(leaf.expression, column)
    if isinstance(leaf, Shifted):
        return by_blocks(values_of(column), partial(_shifted, leaf))
    if isinstance(leaf, Arithmetic):
        return by_blocks(values_of(column), partial(_arithmetic, leaf))
    raise InternalError(f"no evaluation of {type(leaf).__name__} on {leaf.column.key}")


def _compare_strings(operator: str, column: pa.Array, value: str) -> Bools:
    if operator in ORDERINGS:
        return strings.ordered(column, operator, value)
    same = strings.equals(column, value)
    return same if operator == "==" else ~same


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


def _shifted(leaf: Shifted, values: Any) -> Bools:
    moved = shifted(values, leaf.interval, leaf.sign)
    return compare_numbers(leaf.operator, moved, leaf.value)


def _between(leaf: Between, column: pa.Array, is_string: bool) -> Bools:
    above, below = ">=" if leaf.low_closed else ">", "<=" if leaf.high_closed else "<"
    if is_string:
        above_low = strings.ordered(column, above, leaf.low)
        return above_low & strings.ordered(column, below, leaf.high)
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
            return _table_lookup(values, wanted, low)
        return _hashed_lookup(values, wanted)
    return truth(pc.is_in(column, value_set=pa.array(wanted)))


def _table_lookup(values: Any, wanted: Any, low: int) -> Bools:
    """By the distance from the lowest value, as unsigned: what lies below it is far above."""
    unsigned = np.dtype(f"u{values.dtype.name}")
    origin = np.array(low).astype(unsigned)
    places = wanted.view(unsigned) - origin
    # The last entry stands for everything that is too far.
    table = np.zeros(int(places.max()) + 2, np.bool_)
    table[places] = True
    farthest = unsigned.type(min(len(table) - 1, np.iinfo(unsigned).max))

    def decide(block: Any) -> Bools:
        distances = np.minimum(block.view(unsigned) - origin, farthest)
        found: Bools = table[distances.astype(np.int64)]
        return found

    return by_blocks(values, decide)


def _hashed_lookup(values: Any, wanted: Any) -> Bools:
    """By a table of hashes first, exactly where that doesn't exclude a value."""
    bits = min(max((len(wanted) * HASH_ROOM).bit_length(), 10), MOST_HASH_BITS)
    shift = np.uint64(64 - bits)

    def hashes(numbers: Any) -> Any:
        words = numbers.astype(np.int64, copy=False).view(np.uint64) * HASH_FACTOR
        words >>= shift
        return words.view(np.int64)  # other indices are several times slower

    table = np.zeros(1 << bits, np.bool_)
    table[hashes(wanted)] = True
    result = by_blocks(values, lambda block: table[hashes(block)])
    rows = np.flatnonzero(result)
    result[rows] = truth(pc.is_in(pa.array(values[rows]), value_set=pa.array(wanted)))
    return result


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
