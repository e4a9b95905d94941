"""Predicates on the elements of arrays of structs: ``match_any(s, $[x] > 1)`` and its kin, and
``element_filter``, which also says that elements are asked for, not rows.

Within one, ``$[x]`` is the column of the elements of all rows, one after another; how many of them
are a row's own decides whether the row passes. The parser has seen to it that nothing else is read
there, and that such predicates don't nest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from elanus.engine.filter.column import Column
from elanus.engine.filter.expression import Match
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.junction import predicate
from elanus.engine.filter.operands import (
    Constant,
    Elements,
    Operand,
    Option,
    Predicate,
    Reference,
    Struct,
)
from elanus.engine.filter.operators import ELEMENT_FILTER, MATCH_QUANTIFIERS, THRESHOLD
from elanus.engine.filter.parser import Node as Syntax
from elanus.engine.filter.rewrite import needs
from elanus.errors import Unimplemented
from elanus.model.schema import FieldSchema, struct_field_name
from elanus.model.types import DataType

WITH_THRESHOLD = frozenset(("least", "most", "exact"))


class Context(Protocol):
    """What predicates on elements need of the binder."""

    fields: dict[str, FieldSchema]

    def shown(self, *operands: Operand) -> str: ...


def member(fields: Mapping[str, FieldSchema], node: Syntax) -> Reference:
    """``$[x]``. Raises Fault."""
    struct, local_name = node.value
    name = struct_field_name(struct, local_name)
    field = fields.get(name)
    if field is None or field.struct != struct:
        raise Fault(f"array field not found: {name}, error: field {name} not exist", node.start)
    column = Column(name, field.element_type, each=True)
    return Reference(column=column, start=node.start, end=node.end)


def struct(parts: Sequence[FieldSchema], node: Syntax) -> Struct:
    """The name of an array of structs with these fields. Raises Unimplemented."""
    field = next((part for part in parts if part.data_type is DataType.ARRAY), None)
    if field is None:
        raise Unimplemented(
            f"filters on {node.value} are not supported: all fields of the struct are vectors"
        )
    column = Column(field.name, field.data_type, field.nullable, field.element_type)
    return Struct(column=column, start=node.start, end=node.end)


def elements(context: Context, node: Syntax, arguments: list[Any]) -> Operand:
    """The operand that a predicate on elements is. Raises Fault."""
    function, array = node.value
    first, *options = arguments
    tested = _tested(context, function, first)
    quantifier = MATCH_QUANTIFIERS.get(function, "any")
    threshold = 0
    if quantifier in WITH_THRESHOLD:
        threshold = _threshold(function, options, node)
    else:
        _require_none(function, options)
    if quantifier == "any":
        quantifier, threshold = "least", 1
    field = context.fields[min(needs(tested.node))]
    column = Column(field.name, field.data_type, field.nullable, field.element_type)
    match = Match(column=column, quantifier=quantifier, threshold=threshold, child=tested.node)
    found = predicate(match, tested.depth + 1, node.start, node.end)
    if function != ELEMENT_FILTER:
        return found
    return Elements(
        struct=array,
        tested=tested.node,
        node=match,
        depth=found.depth,
        start=node.start,
        end=node.end,
    )


def _tested(context: Context, function: str, operand: Operand) -> Predicate:
    if isinstance(operand, Option):
        raise Fault(f"{function} takes a predicate first", operand.start, "syntax")
    if isinstance(operand, Constant):
        raise Fault(
            "predicate must not be constant; it has to test the array element via $ or $[subField]",
            operand.start,
        )
    if not isinstance(operand, Predicate):
        shown = context.shown(operand)
        raise Fault(f"predicate is not a boolean expression: {shown}", operand.start)
    return operand


def _require_none(function: str, options: list[Any]) -> None:
    if options:
        raise Fault(
            f"{function} takes 2 arguments, but got: {2 + len(options)}",
            options[0].start,
            "syntax",
        )


def _threshold(function: str, options: list[Any], node: Syntax) -> int:
    if len(options) != 1 or not isinstance(options[0], Option) or options[0].name != THRESHOLD:
        raise Fault(f"{function} takes {THRESHOLD} by its name as its third argument", node.start)
    count, start = options[0].value, options[0].start
    if function == "match_least" and count <= 0:
        rule = "must be positive"
    elif count < 0:
        rule = "cannot be negative"
    else:
        return int(count)
    reason = f"count in {function.upper()} {rule}, got: {count}"
    raise Fault(f"{reason}, expecting IntegerConstant" if count < 0 else reason, start)
