"""Typed predicates from bound operands: which operator may meet which column, and the casts."""

from typing import Any, Protocol

from elanus.engine.filter.column import Column
from elanus.engine.filter.constants import (
    cast,
    cast_list,
    comparable,
    plain,
    type_of,
    worded,
)
from elanus.engine.filter.expression import (
    AnyLeaf,
    Arithmetic,
    Between,
    Compare,
    CompareColumns,
    Exists,
    In,
    IsNull,
    Length,
    Like,
    Matches,
)
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.operands import (
    ArrayLength,
    Computed,
    Constant,
    Operand,
    Reference,
    Struct,
)
from elanus.engine.filter.operators import ARITHMETIC_NAMES, FLIPPED, ORDERINGS
from elanus.engine.filter.pattern import parse_like
from elanus.engine.filter.regex import finder
from elanus.model.types import DataType

_NO_ARRAYS = "can not comparisons array fields directly"


class Text(Protocol):
    """What shows the text of operands in errors."""

    def shown(self, *operands: Operand) -> str: ...


def _unorderable(left: DataType, right: DataType, position: int) -> Fault:
    return Fault(
        f"comparisons between {left.milvus_name} and {right.milvus_name} are not supported",
        position,
    )


# Comparisons --------------------------------------------------------------------------------------


def compare(text: Text, operator: str, left: Operand, right: Operand) -> AnyLeaf:
    """``left operator right`` where at least one isn't a constant."""
    position = left.start
    for side in (left, right):
        if not isinstance(side, Constant | Reference | Computed | ArrayLength):
            raise Fault(
                "comparison operations cannot be applied to two incompatible operands: "
                + text.shown(left, right),
                side.start,
            )
    if isinstance(left, Reference) and isinstance(right, Reference):
        return _columns(operator, left.column, right.column, position)
    if not isinstance(left, Constant) and not isinstance(right, Constant):
        if isinstance(left, Reference) or isinstance(right, Reference):
            raise Fault("not supported to combine multiple fields", position)
        raise Fault("complicated arithmetic operations are not supported", position)
    flipped = isinstance(left, Constant)
    operand, constant = (right, left) if flipped else (left, right)
    assert isinstance(constant, Constant)
    value = constant.value
    if isinstance(operand, ArrayLength):
        number = cast(value, DataType.INT64, constant.start)
        direct = FLIPPED[operator] if flipped else operator
        return Length(column=operand.column, operator=direct, value=number)
    assert isinstance(operand, Reference | Computed)
    column = operand.column
    if not _is_moment(column, constant):
        _check_types(column, value, flipped, position)
    if flipped:
        operator = FLIPPED[operator]
    if isinstance(operand, Computed):
        if column.is_json and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _unorderable(column.type, type_of(value), position)
        return Arithmetic(
            column=column,
            arithmetic=operand.operator,
            operand=operand.operand,
            operator=operator,
            value=cast(value, column.type, constant.start),
        )
    if column.type is DataType.ARRAY:
        return _whole_array(column, operator, value, constant.start)
    if column.is_json and operator in ORDERINGS and not isinstance(value, int | float | str):
        raise _unorderable(column.type, type_of(value), position)
    if column.is_json and operator in ORDERINGS and isinstance(value, bool):
        raise _unorderable(column.type, DataType.BOOL, position)
    return Compare(column=column, operator=operator, value=cast(value, column.type, constant.start))


def _check_types(column: Column, value: Any, flipped: bool, position: int) -> None:
    _check_kind(column, position)
    kind = type_of(value)
    if column.type is DataType.ARRAY:
        if kind is not DataType.ARRAY:
            raise Fault(_NO_ARRAYS, position)
    elif not comparable(column.type, kind):
        left, right = (kind, column.type) if flipped else (column.type, kind)
        raise _unorderable(left, right, position)


def _is_moment(column: Column, constant: Constant) -> bool:
    """Whether a template gives microseconds for a timestamp. A literal needs its ISO form."""
    given = constant.template is not None and type_of(constant.value) is DataType.INT64
    return given and column.type is DataType.TIMESTAMPTZ


def _check_kind(column: Column, position: int) -> None:
    """Refuse columns of types that no comparison knows."""
    if column.type.is_vector:
        raise Fault(f"filter on vector field ({column.name}) is not supported", position)
    if column.type is DataType.GEOMETRY:
        raise Fault(
            f"geometry field ({column.name}) is only supported in spatial functions", position
        )


def _whole_array(column: Column, operator: str, value: Any, position: int) -> AnyLeaf:
    if operator not in ("==", "!="):
        raise Fault(_NO_ARRAYS, position)
    items = _array_value(column, value, position)
    return In(column=column, values=(items,), negated=operator == "!=")


def _array_value(column: Column, value: Any, position: int) -> list[Any]:
    """A list constant as the value of a whole array column."""
    if type_of(value) is not DataType.ARRAY:
        raise Fault(
            f"value '{worded(value)}' in list cannot be casted to {column.type.milvus_name}",
            position,
        )
    return [cast(item, column.item, position) for item in plain(value)]


def _columns(operator: str, left: Column, right: Column, position: int) -> CompareColumns:
    for column in (left, right):
        _check_kind(column, position)
    if left.is_json or right.is_json:
        raise Fault("two column comparison with JSON type is not supported", position)
    if left.type is DataType.ARRAY or right.type is DataType.ARRAY:
        raise Fault(_NO_ARRAYS, position)
    if left.element >= 0 or right.element >= 0:
        raise Fault("field-to-field comparison involving ARRAY fields is not supported", position)
    strings = left.type is DataType.VARCHAR and right.type is DataType.VARCHAR
    if not strings and not (left.type.is_numeric and right.type.is_numeric):
        raise _unorderable(left.type, right.type, position)
    return CompareColumns(column=left, operator=operator, other=right)


def between(
    middle: Reference, lower: Constant, upper: Constant, low_closed: bool, high_closed: bool
) -> Between:
    """``lower < middle < upper``, each bound closed (``<=``) or not."""
    column, position = middle.column, middle.start
    _check_kind(column, position)
    if column.type is DataType.BOOL:
        raise Fault("invalid range operations on boolean expr", position)
    if column.type is DataType.ARRAY:
        raise Fault(_NO_ARRAYS, position)
    bounds = []
    for bound in (lower, upper):
        kind = type_of(bound.value)
        if _is_moment(column, bound):
            bounds.append(bound.value)
            continue
        if kind is DataType.BOOL or kind is DataType.ARRAY or not comparable(column.type, kind):
            raise Fault("invalid range operations", bound.start)
        if column.type.is_integer and kind is not DataType.INT64:
            raise Fault("invalid range operations", bound.start)
        bounds.append(cast(bound.value, column.type, bound.start))
    if isinstance(bounds[0], str) != isinstance(bounds[1], str):
        raise Fault("invalid range operations", position)
    low, high = lower.value, upper.value
    if low > high or (low == high and not (low_closed and high_closed)):
        raise Fault("invalid range: lowerbound is greater than upperbound", lower.start)
    return Between(
        column=column,
        low=bounds[0],
        high=bounds[1],
        low_closed=low_closed,
        high_closed=high_closed,
    )


# Membership ---------------------------------------------------------------------------------------


def member(text: Text, left: Operand, right: Operand, *, negated: bool) -> AnyLeaf:
    """``left in right``, or ``left not in right``."""
    if isinstance(left, Constant):
        raise Fault(
            f"'term' can only be used on non-const expression, but got: {text.shown(left)}",
            left.start,
        )
    if not isinstance(left, Reference):
        raise Fault(
            f"'term' can only be used on single field, but got: {text.shown(left)}", left.start
        )
    if not isinstance(right, Constant):
        raise Fault(
            f"the right-hand side of 'in' must be a list, but got: {text.shown(right)}",
            right.start,
        )
    if right.missing:
        reason = f"the value of expression template variable name {{{right.template}}} is not found"
        raise Fault(reason, right.start, "bare")
    values = right.value
    if type_of(values) is not DataType.ARRAY:
        if right.template is not None:
            name = f"{{{right.template}}}"
            reason = f"the value of term expression template variable {name} is not array"
            raise Fault(reason, right.start, "bare")
        raise Fault(
            f"the right-hand side of 'in' must be a list, but got: {text.shown(right)}",
            right.start,
        )
    column = left.column
    _check_kind(column, left.start)
    return In(column=column, values=_in_values(column, values, right.start), negated=negated)


def _in_values(column: Column, values: Any, position: int) -> Any:
    if column.is_json:
        return tuple(plain(values))
    if column.type is DataType.ARRAY:
        return tuple(_array_value(column, value, position) for value in plain(values))
    wording = "value '{value}' in list cannot be casted to {target}"
    return cast_list(values, column.type, position, wording)


# Strings ------------------------------------------------------------------------------------------


def like(operand: Operand, source: str) -> AnyLeaf:
    """``operand like source``."""
    column = _text_column("like", operand)
    pattern = parse_like(source)
    if pattern.kind == "equal":
        return Compare(column=column, operator="==", value=pattern.text)
    return Like(column=column, pattern=pattern)


def matches(operand: Operand, expression: str, *, negated: bool) -> AnyLeaf:
    """``operand =~ expression``, or ``!~``."""
    column = _text_column("regex", operand)
    try:
        finder(expression)
    except ValueError as error:
        raise Fault(f"invalid regex pattern: {expression}: {error}", operand.start) from None
    return Matches(column=column, expression=expression, negated=negated)


def _text_column(operation: str, operand: Operand) -> Column:
    if not isinstance(operand, Reference):
        raise Fault(f"{operation} operation on complicated expr is unsupported", operand.start)
    if operand.column.type not in (DataType.VARCHAR, DataType.JSON):
        raise Fault(
            f"{operation} operation on non-string or no-json field is unsupported", operand.start
        )
    return operand.column


# Nulls, JSON and arrays ---------------------------------------------------------------------------


def is_null(operand: Reference | Struct, *, negated: bool) -> AnyLeaf:
    """``operand is null``; on a JSON path that is the absence of a value."""
    column = operand.column
    if column.type.is_vector:
        raise Fault("IsNull/IsNotNull operations are not supported on vector fields", operand.start)
    if column.path:
        return Exists(column=column, negated=not negated)
    return IsNull(column=column, negated=negated)


def exists(operand: Operand) -> Exists:
    """``exists operand``."""
    if not isinstance(operand, Reference) or not operand.column.is_json:
        if isinstance(operand, Reference):
            kind = operand.column.type.milvus_name
        else:
            kind = type_of(operand.value).milvus_name if isinstance(operand, Constant) else "Bool"
        raise Fault(
            f"exists operations are only supportted on json field, got:{kind}", operand.start
        )
    if not operand.column.path:
        raise Fault("exists operations are only supportted on json key", operand.start)
    return Exists(column=operand.column)


# Arithmetic ---------------------------------------------------------------------------------------


def arithmetic(operator: str, left: Operand, right: Operand, position: int) -> Computed:
    """``left operator right`` with one column."""
    name = ARITHMETIC_NAMES[operator]
    for side in (left, right):
        if isinstance(side, Computed | ArrayLength):
            raise Fault("complicated arithmetic operations are not supported", side.start)
        if not isinstance(side, Reference | Constant):
            raise Fault(
                f"'{name}' can only be used between integer or floating or json field expressions",
                side.start,
            )
    if isinstance(left, Reference) and isinstance(right, Reference):
        raise Fault("not supported to do arithmetic operations between multiple fields", position)
    reference, constant = (left, right) if isinstance(left, Reference) else (right, left)
    assert isinstance(reference, Reference)
    assert isinstance(constant, Constant)
    column, value = reference.column, constant.value
    _check_operands(column, value, name, position)
    if reference is right and operator not in ("+", "*"):
        raise Fault("module field is not yet supported", position)
    if operator == "%" and (column.type.is_floating or isinstance(value, float)):
        raise Fault("modulo can only apply on integer types", position)
    if operator in ("/", "%") and value == 0:
        raise Fault("division or modulus by zero", position)
    return Computed(
        column=column,
        operator=operator,
        operand=cast(value, column.type, constant.start),
        start=left.start,
        end=right.end,
    )


def _check_operands(column: Column, value: Any, name: str, position: int) -> None:
    _check_kind(column, position)
    if column.type is DataType.ARRAY:
        raise Fault(_NO_ARRAYS, position)
    kind = type_of(value)
    if not kind.is_numeric or not (column.type.is_numeric or column.is_json):
        raise Fault(
            f"'{name}' can only be used between integer or floating or json field expressions",
            position,
        )
    if column.type.is_integer and kind is DataType.DOUBLE:
        raise Fault(
            f"'{name}' cannot perform arithmetic between "
            f"{column.type.milvus_name} field and {kind.milvus_name}",
            position,
        )
