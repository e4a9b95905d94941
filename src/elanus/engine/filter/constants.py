"""Constants of filters: their types and wording, folding, and casts to the type of a column.

A constant is a bool, an int in the range of int64, a float, a str, or a list of constants; a list
of plain integers may be an int64 array.
"""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from elanus.engine.filter.faults import Fault
from elanus.engine.filter.lexer import INT64_MAX, INT64_MIN
from elanus.engine.filter.operators import ARITHMETIC_NAMES
from elanus.model.types import DataType

EPSILON = 1e-10
"""Two floating-point constants that differ by less are equal."""

_TYPES = {
    bool: DataType.BOOL,
    int: DataType.INT64,
    float: DataType.DOUBLE,
    str: DataType.VARCHAR,
    list: DataType.ARRAY,
    np.ndarray: DataType.ARRAY,
}
_INTEGER_RANGES = {
    DataType.INT8: (-(1 << 7), (1 << 7) - 1),
    DataType.INT16: (-(1 << 15), (1 << 15) - 1),
    DataType.INT32: (-(1 << 31), (1 << 31) - 1),
}
_SMALL_LIST = 256


def type_of(value: Any) -> DataType:
    return _TYPES[type(value)]


def worded(value: Any) -> str:
    """A constant as Milvus prints it in errors, for example ``float_val:1``."""
    if isinstance(value, bool):
        return f"bool_val:{str(value).lower()}"
    if isinstance(value, int):
        return f"int64_val:{value}"
    if isinstance(value, float):
        shown = repr(value)
        return f"float_val:{shown.removesuffix('.0')}"
    if isinstance(value, str):
        return f'string_val:"{value}"'
    return f"array_val:{{{' '.join(f'array:{{{worded(item)}}}' for item in plain(value)[:8])}}}"


def plain(values: Any) -> list[Any]:
    """A list constant as a Python list."""
    result: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    return result


def wrap(value: int) -> int:
    """``value`` modulo 2**64 as int64."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def narrow(value: float) -> float:
    """The float32 next to ``value``, which is what a FLOAT column can hold."""
    if -1e38 < value < 1e38:
        return float(np.float32(value))
    with np.errstate(over="ignore"):
        return float(np.float32(value))


# Folding ------------------------------------------------------------------------------------------


def fold_arithmetic(operator: str, left: Any, right: Any, position: int) -> int | float:
    """``left operator right`` of two constants; int64 arithmetic wraps and truncates as C's."""
    for value in (left, right):
        if isinstance(value, bool | str | list | np.ndarray):
            name = ARITHMETIC_NAMES.get(operator, "power")
            kind = {DataType.BOOL: "bool", DataType.VARCHAR: "string"}.get(type_of(value), "array")
            raise Fault(f"{name} cannot apply on {kind} field", position)
    if operator == "**":
        return _power(left, right)
    if operator == "%" and not (isinstance(left, int) and isinstance(right, int)):
        raise Fault("modulo can only apply on integer", position)
    if operator in "/%" and right == 0:
        raise Fault(f"cannot {'divide' if operator == '/' else 'modulo'} by zero", position)
    if isinstance(left, int) and isinstance(right, int):
        return wrap(calculate(operator, left, right))
    try:
        return float(calculate(operator, float(left), float(right)))
    except OverflowError:
        return math.inf


def calculate(operator: str, left: Any, right: Any) -> Any:
    """Arithmetic as C does it: integer division truncates, the remainder has the dividend's sign.

    Python numbers only; ``right`` isn't zero for ``/`` and ``%``.
    """
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if operator == "%":
        remainder = abs(left) % abs(right)
        return -remainder if left < 0 else remainder
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _power(left: int | float, right: int | float) -> int | float:
    try:
        # A float first: an exact integer power could have millions of digits.
        approximate = math.pow(left, right)
    except OverflowError:
        return math.inf
    except ValueError:
        # Zero to a negative power, or a negative base to a fractional one.
        return math.inf if left == 0 else math.nan
    if isinstance(left, int) and isinstance(right, int) and right >= 0 and abs(approximate) < 2**64:
        exact = 1 if left == 1 or right == 0 else (-1) ** (right % 2) if left == -1 else left**right
        if -(1 << 63) <= exact < 1 << 63:
            return exact
    return approximate


def fold_comparison(operator: str, left: Any, right: Any, shown: str, position: int) -> bool:
    """``left operator right`` of two constants."""
    left_type, right_type = type_of(left), type_of(right)
    both_numbers = left_type.is_numeric and right_type.is_numeric
    if left_type is DataType.ARRAY or not (both_numbers or left_type is right_type):
        raise _incompatible(shown, position)
    if operator in ("==", "!="):
        equal = left == right
        if float in (type(left), type(right)):
            equal = equal or abs(left - right) < EPSILON
        return equal if operator == "==" else not equal
    if left_type is DataType.BOOL:
        raise _incompatible(shown, position)
    return compare(operator, left, right)


def compare(operator: str, left: Any, right: Any) -> bool:
    """``left operator right`` of two Python values that can be ordered."""
    if operator == "==":
        return bool(left == right)
    if operator == "!=":
        return bool(left != right)
    if operator == "<":
        return bool(left < right)
    if operator == "<=":
        return bool(left <= right)
    if operator == ">":
        return bool(left > right)
    return bool(left >= right)


def _incompatible(shown: str, position: int) -> Fault:
    return Fault(
        f"comparison operations cannot be applied to two incompatible operands: {shown}", position
    )


# Casts --------------------------------------------------------------------------------------------


def comparable(left: DataType, right: DataType) -> bool:
    """Whether values of the two types can be compared at all; arrays are no values here."""
    if DataType.JSON in (left, right):
        return True
    if left.is_numeric and right.is_numeric:
        return True
    return left is right


def cast(value: Any, target: DataType, position: int) -> Any:
    """``value`` as the type of a column; an int outside the range of a short type stays legal."""
    fitted = fit(value, target)
    if fitted is None:
        raise Fault(f"cannot cast value to {target.milvus_name}, value: {worded(value)}", position)
    return fitted


def fit(value: Any, target: DataType) -> Any | None:
    """``value`` in the type ``target``; None if it has no place there."""
    kind = type(value)
    if target is DataType.JSON:
        return plain(value) if kind is np.ndarray else value
    if target.is_integer or target is DataType.TIMESTAMPTZ:
        return value if kind is int else None
    if target.is_floating:
        if kind is not float and kind is not int:
            return None
        return narrow(value) if target is DataType.FLOAT else float(value)
    if target is DataType.BOOL:
        return value if kind is bool else None
    return value if kind is str and target is DataType.VARCHAR else None


def cast_list(values: Any, target: DataType, position: int, wording: str) -> Any:
    """The distinct ``values`` of an ``in`` list, ascending, in the type of a column.

    Returns a NumPy array of the column's dtype, or an Arrow string array for VARCHAR. Integers
    that a short type can't hold are left out: no row has them. ``wording`` has ``{value}`` and
    ``{target}`` for the error about a value of another type.
    """
    allowed: tuple[type, ...]
    integral = target.is_integer or target is DataType.TIMESTAMPTZ
    if integral:
        allowed = (int,)
    elif target.is_floating:
        allowed = (int, float)
    else:
        allowed = (bool,) if target is DataType.BOOL else (str,)
    if not isinstance(values, np.ndarray):
        if not set(map(type, values)).issubset(allowed):
            wrong = next(value for value in values if type(value) not in allowed)
            shown = wording.format(value=worded(wrong), target=target.milvus_name)
            raise Fault(shown, position)
        if target is DataType.VARCHAR:
            return pa.array(sorted(set(values)), pa.string())
        values = np.array(values, np.int64 if integral else np.float64)
        if target is DataType.BOOL:
            values = values.astype(np.bool_)
    elif not (integral or target.is_floating):
        wrong = worded(int(values[0]))
        raise Fault(wording.format(value=wrong, target=target.milvus_name), position)
    return distinct(_in_range(values, target))


def _in_range(values: Any, target: DataType) -> Any:
    bounds = _INTEGER_RANGES.get(target)
    if bounds is not None:
        values = values[(values >= bounds[0]) & (values <= bounds[1])]
        return values.astype(f"int{bounds[1].bit_length() + 1}")
    if target.is_floating:
        with np.errstate(over="ignore"):
            return values.astype(np.float32 if target is DataType.FLOAT else np.float64)
    return values


def distinct(values: Any) -> Any:
    """The distinct values of an array, ascending."""
    if len(values) < 2:
        return values
    if len(values) <= _SMALL_LIST:
        return np.array(sorted(set(values.tolist())), values.dtype)
    # Sorting is several times faster than np.unique, which hashes.
    ordered = np.sort(values)
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


def template_value(value: object, name: str, position: int) -> Any:
    """A template's value as a constant."""
    if value is None:
        raise Fault(
            f"expression template variable value is nil, template name: {{{name}}}",
            position,
            "bare",
        )
    if isinstance(value, np.ndarray):
        return value.astype(np.int64) if value.dtype.kind == "i" else value.tolist()
    if isinstance(value, tuple | list):
        if set(map(type, value)) <= {bool, float, str}:
            return list(value)
        return [template_value(item, name, position) for item in value]
    if isinstance(value, int) and not INT64_MIN <= value <= INT64_MAX:
        raise Fault(f"template {{{name}}} is out of the range of int64: {value}", position, "bare")
    if not isinstance(value, bool | int | float | str):
        kind = type(value).__name__
        raise Fault(f"template {{{name}}} has the unknown type {kind}", position, "bare")
    return value
