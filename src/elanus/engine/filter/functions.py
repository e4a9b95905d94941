"""Typed predicates from bound calls: arrays, strings, text, geometries, sampling."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from elanus.engine.filter.column import Column
from elanus.engine.filter.constants import cast, cast_list, comparable, plain, type_of
from elanus.engine.filter.expression import (
    AnyLeaf,
    Compare,
    Contains,
    FuzzyMatch,
    Near,
    PhraseMatch,
    Spatial,
    TextMatch,
)
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.operands import (
    ArrayLength,
    Constant,
    Operand,
    Option,
    Predicate,
    Reference,
    Sample,
    Struct,
)
from elanus.engine.filter.operators import (
    CONTAINS_NAMES,
    LENGTH_NAME,
    MAX_EDIT_DISTANCE,
    MINIMUM_SHOULD_MATCH,
    SAMPLE_NAME,
    SPATIAL_NAMES,
)
from elanus.engine.filter.parser import Node as Syntax
from elanus.engine.filter.predicates import like
from elanus.model.geometry import InvalidGeometry, point_of, wkb_of
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType

MOST_SHOULD_MATCH = 1_000
LARGEST_EDIT_DISTANCE = 2
LARGEST_SLOP = (1 << 32) - 1
SAMPLE_MARGIN = 1e-10
"""The share of a sample is that far from 0 and from 1."""


class Context(Protocol):
    """What calls need of the binder."""

    fields: dict[str, FieldSchema]

    def shown(self, *operands: Operand) -> str: ...


def call(context: Context, node: Syntax, arguments: list[Any]) -> Operand:
    """The operand that a call is. Raises Fault."""
    name = node.value.lower()
    if name == LENGTH_NAME:
        _count(name, arguments, 1, 1, node)
        shown = context.shown(*arguments)
        array = arguments[0]
        if isinstance(array, Struct):
            column = array.column
        else:
            column = array_column(array, "array_length", shown)
        return ArrayLength(column=column, start=node.start, end=node.end)
    if name == SAMPLE_NAME:
        _count(name, arguments, 1, 1, node)
        return _sample(context, arguments[0], node)
    bind = _BINDERS.get(name)
    if bind is None:
        raise Fault(f"function {node.value} not found", node.start)
    function, least, most = bind
    _count(name, arguments, least, most, node)
    found = function(context, name, *arguments)
    return Predicate(node=found, start=node.start, end=node.end)


def _count(name: str, arguments: list[Any], least: int, most: int, node: Syntax) -> None:
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise Fault(
            f"{name} takes {wanted} arguments, but got: {len(arguments)}", node.start, "syntax"
        )
    for argument in arguments:
        if isinstance(argument, Option) and name not in ("text_match", "text_match_fuzzy"):
            raise Fault(f"{name} has no option {argument.name}", argument.start, "syntax")


def _contains(context: Context, name: str, operand: Operand, argument: Operand) -> AnyLeaf:
    return contains(context, CONTAINS_NAMES[name], operand, argument)


def _string(
    context: Context, name: str, operand: Operand, argument: Operand | None = None
) -> AnyLeaf:
    return string_function(name, operand, argument)


def _sample(context: Context, argument: Operand, node: Syntax) -> Sample:
    share = argument.value if isinstance(argument, Constant) else None
    if not isinstance(share, float) or not SAMPLE_MARGIN < share < 1 - SAMPLE_MARGIN:
        shown = share if isinstance(share, float) else 0
        raise Fault(
            "the sample factor should be between 0 and 1 and not too close to 0 or 1"
            f"(the difference should be larger than 1e-10), but got {shown}",
            argument.start,
        )
    return Sample(share=share, start=node.start, end=node.end)


# Arrays and strings ------------------------------------------------------------------------------


def array_column(operand: Operand, name: str, shown: str) -> Column:
    """The array or JSON column that a function is applied to."""
    if isinstance(operand, Reference):
        column = operand.column
        if column.type in (DataType.JSON, DataType.ARRAY):
            return column
    raise Fault(
        f"{name} operation are only supported on json or array fields now, got: {shown}",
        operand.start,
    )


def contains(context: Context, mode: str, operand: Operand, argument: Operand) -> Contains:
    """``json_contains`` and its kin; mode is ``any`` (one element), ``any of`` or ``all of``."""
    lower = {"any": "contains", "any of": "contains_any", "all of": "contains_all"}[mode]
    name = {"any": "Contains", "any of": "ContainsAny", "all of": "ContainsAll"}[mode]
    column = array_column(operand, lower, context.shown(operand))
    if not isinstance(argument, Constant):
        raise Fault(
            "contains operation are only supported explicitly specified element, "
            f"got: {context.shown(argument)}",
            argument.start,
        )
    value, position = argument.value, argument.start
    every = mode == "all of"
    if mode == "any":
        if column.is_json:
            return Contains(
                column=column, values=(cast(value, column.type, position),), every=False
            )
        values: Any = [cast(value, column.item, position)]
    elif type_of(value) is not DataType.ARRAY:
        raise Fault(f"{name} operation element must be an array", position)
    else:
        values = value
    if column.is_json:
        return Contains(column=column, values=tuple(plain(values)), every=every)
    return Contains(column=column, values=_elements(column, values, name, position), every=every)


def _elements(column: Column, values: Any, name: str, position: int) -> Any:
    if not isinstance(values, np.ndarray):
        for value in values:
            if not comparable(column.item, type_of(value)):
                kinds = f"{column.item.milvus_name} and {type_of(value).milvus_name}"
                raise Fault(
                    f"{name} operation can't compare between array element type: {kinds}", position
                )
    elif not column.item.is_numeric:
        kinds = f"{column.item.milvus_name} and {DataType.INT64.milvus_name}"
        raise Fault(f"{name} operation can't compare between array element type: {kinds}", position)
    wording = "cannot cast value to {target}, value: {value}"
    return cast_list(values, column.item, position, wording)


def string_function(name: str, operand: Operand, argument: Operand | None = None) -> AnyLeaf:
    """``empty(column)`` and ``starts_with(column, "text")``."""
    if not isinstance(operand, Reference) or operand.column.type is not DataType.VARCHAR:
        raise Fault(f"{name} can only be applied on a VarChar field", operand.start)
    if argument is None:
        return Compare(column=operand.column, operator="==", value="")
    if not isinstance(argument, Constant) or not isinstance(argument.value, str):
        raise Fault(f"the second argument of {name} must be a string", argument.start)
    escaped = argument.value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return like(operand, escaped + "%")


# Text ---------------------------------------------------------------------------------------------


def _text_column(context: Context, kind: str, operand: Operand) -> Reference:
    if not isinstance(operand, Reference) or operand.column.type is not DataType.VARCHAR:
        raise Fault(f"{kind} match operation on non-string is unsupported", operand.start)
    field = context.fields[operand.column.name]
    if operand.column.element >= 0 or operand.column.each or not field.enable_match:
        raise Fault(f'field "{field.name}" does not enable match', operand.start)
    return operand


def _query(kind: str, argument: Operand) -> str:
    if not isinstance(argument, Constant) or not isinstance(argument.value, str):
        raise Fault(f"the query of a {kind} match must be a string", argument.start, "syntax")
    return argument.value


def _text_match(
    context: Context,
    name: str,
    operand: Operand,
    query: Operand,
    option: Operand | None = None,
) -> AnyLeaf:
    column = _text_column(context, "text", operand).column
    minimum = 1
    if option is not None:
        minimum = _option(name, option, MINIMUM_SHOULD_MATCH)
        if minimum < 1:
            raise Fault(f"{MINIMUM_SHOULD_MATCH} should be >= 1, got {minimum}", option.start)
        if minimum > MOST_SHOULD_MATCH:
            raise Fault(
                f"{MINIMUM_SHOULD_MATCH} should be <= {MOST_SHOULD_MATCH}, got {minimum}",
                option.start,
            )
    return TextMatch(column=column, query=_query("text", query), minimum=minimum)


def _option(name: str, option: Operand, wanted: str) -> int:
    if not isinstance(option, Option) or option.name != wanted:
        raise Fault(f"{name} takes {wanted} by its name", option.start, "syntax")
    return option.value


def _fuzzy_match(
    context: Context, name: str, operand: Operand, query: Operand, option: Operand
) -> AnyLeaf:
    column = _text_column(context, "text", operand).column
    distance = _option(name, option, MAX_EDIT_DISTANCE)
    if not 0 <= distance <= LARGEST_EDIT_DISTANCE:
        raise Fault(
            f"{MAX_EDIT_DISTANCE} should be in [0, {LARGEST_EDIT_DISTANCE}], got {distance}",
            option.start,
        )
    return FuzzyMatch(column=column, query=_query("text", query), distance=distance)


def _phrase_match(
    context: Context,
    name: str,
    operand: Operand,
    query: Operand,
    argument: Operand | None = None,
) -> AnyLeaf:
    column = _text_column(context, "phrase", operand).column
    slop = 0
    if argument is not None:
        shown = context.shown(argument)
        value = argument.value if isinstance(argument, Constant) else None
        if isinstance(value, bool) or not isinstance(value, int):
            raise Fault(
                '"slop" should be a const integer expression with "uint32" value. '
                f'"slop" expression passed: {shown}',
                argument.start,
            )
        if value < 0:
            raise Fault(
                f'"slop" should not be a negative interger. "slop" passed: {shown}', argument.start
            )
        if value > LARGEST_SLOP:
            raise Fault(
                f'"slop" exceeds the range of "uint32". "slop" expression passed: {shown}',
                argument.start,
            )
        slop = value
    return PhraseMatch(column=column, query=_query("phrase", query), slop=slop)


# Geometries ---------------------------------------------------------------------------------------


def _geometry_column(context: Context, name: str, operand: Operand) -> Reference:
    if not isinstance(operand, Reference) or operand.column.type is not DataType.GEOMETRY:
        raise Fault(
            f"{SPATIAL_NAMES[name]} operation are only supported on geometry fields now, "
            f"got: {context.shown(operand)}",
            operand.start,
        )
    return operand


def _shape(argument: Operand) -> str:
    if not isinstance(argument, Constant) or not isinstance(argument.value, str):
        raise Fault("a geometry must be given as a WKT string", argument.start, "syntax")
    return argument.value


def _relation(context: Context, name: str, operand: Operand, argument: Operand) -> AnyLeaf:
    column = _geometry_column(context, name, operand).column
    try:
        shape = wkb_of(_shape(argument))
    except InvalidGeometry as error:
        raise Fault(str(error), argument.start) from error
    return Spatial(column=column, relation=name.removeprefix("st_"), shape=shape)


def _is_valid(context: Context, name: str, operand: Operand) -> AnyLeaf:
    return Spatial(column=_geometry_column(context, name, operand).column, relation="isvalid")


def _near(
    context: Context, name: str, operand: Operand, argument: Operand, distance: Operand
) -> AnyLeaf:
    column = _geometry_column(context, name, operand).column
    try:
        longitude, latitude = point_of(_shape(argument))
    except InvalidGeometry as error:
        raise Fault(str(error), argument.start) from error
    value = distance.value if isinstance(distance, Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Fault(
            "distance parameter must be a constant numeric value, got: " + context.shown(distance),
            distance.start,
        )
    if value < 0:
        raise Fault(f"distance parameter must be non-negative, got: {value:.6f}", distance.start)
    return Near(column=column, longitude=longitude, latitude=latitude, distance_m=float(value))


_BINDERS: dict[str, tuple[Callable[..., AnyLeaf], int, int]] = {
    **dict.fromkeys(CONTAINS_NAMES, (_contains, 2, 2)),
    **dict.fromkeys(SPATIAL_NAMES, (_relation, 2, 2)),
    "empty": (_string, 1, 1),
    "starts_with": (_string, 2, 2),
    "text_match": (_text_match, 2, 3),
    "phrase_match": (_phrase_match, 2, 3),
    "text_match_fuzzy": (_fuzzy_match, 3, 3),
    "st_dwithin": (_near, 3, 3),
    "st_isvalid": (_is_valid, 1, 1),
}
"""By name: what binds a call, and how many arguments it takes."""
