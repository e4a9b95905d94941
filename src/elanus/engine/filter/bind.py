"""The binder: an untyped syntax tree in postfix order to a typed expression.

A stack machine: each node takes its operands from the stack and leaves one. Here are names,
literals, templates, logic and arithmetic; predicates on columns are built in ``predicates``.
"""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, tzinfo
from typing import Any

import numpy as np

from elanus.engine.filter import predicates
from elanus.engine.filter.column import Column, JsonPath
from elanus.engine.filter.constants import (
    fold_arithmetic,
    fold_comparison,
    template_value,
    type_of,
    wrap,
)
from elanus.engine.filter.elements import elements, member, struct
from elanus.engine.filter.expression import Literal, Not
from elanus.engine.filter.faults import Fault, no_such_field
from elanus.engine.filter.functions import call
from elanus.engine.filter.junction import join, predicate
from elanus.engine.filter.operands import (
    Computed,
    Constant,
    Elements,
    Operand,
    Option,
    Predicate,
    Reference,
    Sample,
    Struct,
)
from elanus.engine.filter.operators import (
    ARITHMETIC_NAMES,
    BIT_NAMES,
    COMPARISONS,
)
from elanus.engine.filter.parser import Node as Syntax
from elanus.engine.filter.times import TimeComparison, bind_time
from elanus.model.schema import DYNAMIC_FIELD, CollectionSchema, FieldSchema
from elanus.model.types import DataType


class Binder:
    """Binds one filter to a schema. Use once."""

    def __init__(
        self,
        text: str,
        schema: CollectionSchema,
        templates: Mapping[str, object] | None,
        zone: tzinfo = UTC,
        casts: Collection[JsonPath] = (),
    ) -> None:
        self.text = text
        self._casts = casts
        self.fields = schema.by_name
        self._structs = schema.parts_of
        self._zone = zone
        self._dynamic = schema.enable_dynamic_field or DYNAMIC_FIELD in schema.by_name
        self._templates = templates or {}

    def run(self, nodes: list[Syntax]) -> Predicate | Sample | Elements:
        """What the nodes describe. Raises Fault and Unimplemented."""
        stack: list[Any] = []
        for node in nodes:
            count = node.count
            if count == 0:
                stack.append(_LEAVES[node.kind](self, node))
                continue
            operands = stack[-count:]
            del stack[-count:]
            stack.append(_INNER[node.kind](self, node, operands))
        result = stack[0]
        if isinstance(result, Predicate | Sample | Elements):
            return result
        if isinstance(result, Constant):
            self._require(result)
            if isinstance(result.value, bool) and not result.literal:
                return predicate(Literal(result.value), 1, result.start, result.end)
        raise Fault(
            f"predicate is not a boolean expression: {self.text}, data type: {_type_name(result)}",
            0,
            "bare",
        )

    def shown(self, *operands: Operand) -> str:
        """The text of an operand, or from the first to the last of several, for errors."""
        return self.text[operands[0].start : operands[-1].end][:200]

    # Leaves -------------------------------------------------------------------------------------

    def _constant(self, node: Syntax) -> Constant:
        return Constant(value=node.value, start=node.start, end=node.end)

    def _name(self, node: Syntax) -> Reference | Struct:
        field = self.fields.get(node.value)
        if node.value in self._structs:
            return struct(self._structs[node.value], node)
        if field is None:
            column = self._dynamic_column(node.value, (), node.start)
        elif field.data_type is DataType.TEXT:
            raise Fault(f"filter on text field ({field.name}) is not supported yet", node.start)
        elif field.data_type is DataType.JSON:
            column = self._json(field.name, nullable=field.nullable)
        else:
            column = Column(field.name, field.data_type, field.nullable, field.element_type)
        return Reference(column=column, start=node.start, end=node.end)

    def _dynamic_column(self, name: str, subscripts: tuple[str | int, ...], at: int) -> Column:
        if not self._dynamic or name.endswith("]"):
            raise no_such_field(name, self._structs, at)
        path = tuple(map(str, subscripts))
        if name != DYNAMIC_FIELD:
            path = (name, *path)
        return self._json(DYNAMIC_FIELD, path)

    def _json(self, name: str, path: tuple[str, ...] = (), *, nullable: bool = False) -> Column:
        cast = (name, path) in self._casts
        return Column(name, DataType.JSON, nullable, path=path, cast=cast)

    def _path(self, node: Syntax) -> Reference:
        name, subscripts = node.value
        field = self.fields.get(name)
        if name in self._structs:
            raise Fault("ArrayOfStruct data type not supported accessed with []", node.start)
        if field is None or field.is_dynamic:
            column = self._dynamic_column(name, subscripts, node.start)
        elif field.data_type is DataType.JSON:
            path = tuple(map(str, subscripts))
            column = self._json(field.name, path, nullable=field.nullable)
        elif field.data_type is DataType.ARRAY:
            column = self._element(field, subscripts, node.start)
        else:
            kind = field.data_type.milvus_name
            raise Fault(f"{kind} data type not supported accessed with []", node.start)
        return Reference(column=column, start=node.start, end=node.end)

    def _element(self, field: FieldSchema, subscripts: tuple[str | int, ...], at: int) -> Column:
        if len(subscripts) != 1 or not isinstance(subscripts[0], int):
            raise Fault("can only access array field with integer index", at)
        return Column(field.name, field.element_type, field.nullable, element=subscripts[0])

    def _member(self, node: Syntax) -> Reference:
        return member(self.fields, node)

    def _template(self, node: Syntax) -> Constant:
        name = node.value
        if name not in self._templates:
            return Constant(value=None, template=name, missing=True, start=node.start, end=node.end)
        value = template_value(self._templates[name], name, node.start)
        return Constant(value=value, template=name, start=node.start, end=node.end)

    def _option(self, node: Syntax) -> Option:
        name, value = node.value
        return Option(name=name, value=value, start=node.start, end=node.end)

    def _time(self, node: Syntax) -> Predicate:
        found: TimeComparison = node.value
        reference = self._name(Syntax("name", found.name, 0, found.name_at, node.end))
        if not isinstance(reference, Reference):
            raise Fault(f"field '{found.name}' is not a timestamptz datatype", found.name_at)
        leaf = bind_time(found, reference, self._zone)
        return Predicate(node=leaf, start=node.start, end=node.end)

    def _empty_call(self, node: Syntax) -> Operand:
        return self._call(node, [])

    def _empty_list(self, node: Syntax) -> Constant:
        value = [] if node.value is None else node.value
        return Constant(value=value, start=node.start, end=node.end)

    def _require(self, *operands: Operand) -> None:
        for operand in operands:
            if isinstance(operand, Constant) and operand.missing:
                raise missing_value(operand, "the value of")

    # Inner nodes --------------------------------------------------------------------------------

    def _list(self, node: Syntax, items: list[Operand]) -> Constant:
        values = []
        for item in items:
            if not isinstance(item, Constant) or item.template is not None:
                raise Fault(
                    f"array element type must be generic value, but got: {self.shown(item)}",
                    item.start,
                )
            value = item.value
            values.append(value.tolist() if isinstance(value, np.ndarray) else value)
        return Constant(value=values, start=node.start, end=node.end)

    def _is_null(self, node: Syntax, operands: list[Reference | Struct]) -> Predicate:
        found = predicates.is_null(operands[0], negated=node.value)
        return Predicate(node=found, start=node.start, end=node.end)

    def _like(self, node: Syntax, operands: list[Operand]) -> Predicate:
        found = predicates.like(operands[0], self._pattern(node))
        return Predicate(node=found, start=operands[0].start, end=node.end)

    def _pattern(self, node: Syntax) -> str:
        pattern = node.value
        if isinstance(pattern, str):
            return pattern
        given = self._template(pattern)
        self._require(given)
        if not isinstance(given.value, str):
            raise Fault(
                f"the pattern of {node.kind} must be a string: {self.shown(given)}", pattern.start
            )
        return given.value

    def _matches(self, node: Syntax, operands: list[Operand]) -> Predicate:
        negated = node.kind == "!~"
        found = predicates.matches(operands[0], self._pattern(node), negated=negated)
        return Predicate(node=found, start=operands[0].start, end=node.end)

    def _range(self, node: Syntax, operands: list[Operand]) -> Predicate:
        lower, middle, upper = operands
        first, second = node.value
        if first[0] == ">":
            lower, upper, first, second = upper, lower, second, first
        for bound, name in ((lower, "lower"), (upper, "upper")):
            if not isinstance(bound, Constant):
                raise Fault(
                    f"{name}bound cannot be a non-const expression: {self.shown(bound)}",
                    bound.start,
                )
            if bound.missing:
                raise missing_value(bound, f"the {name} value of")
        if not isinstance(middle, Reference):
            raise Fault("can not comparisons array fields directly", middle.start)
        assert isinstance(lower, Constant)
        assert isinstance(upper, Constant)
        found = predicates.between(middle, lower, upper, len(first) == 2, len(second) == 2)
        return Predicate(node=found, start=operands[0].start, end=node.end)

    def _call(self, node: Syntax, arguments: list[Any]) -> Operand:
        self._require(*arguments)
        return call(self, node, arguments)

    def _elements(self, node: Syntax, arguments: list[Any]) -> Operand:
        self._require(*arguments)
        return elements(self, node, arguments)

    def _prefix(self, node: Syntax, operands: list[Any]) -> Operand:
        operand = operands[0]
        self._require(operand)
        start, end = node.start, operand.end
        if node.value == "exists":
            return Predicate(node=predicates.exists(operand), start=start, end=end)
        if isinstance(operand, Constant) and operand.template is None:
            value = self._fold_prefix(node, operand.value)
            return Constant(value=value, literal=not isinstance(value, bool), start=start, end=end)
        if node.value != "not":
            raise Fault(f"unexpected op: {node.value}", start)
        if isinstance(operand, Sample | Elements):
            kind = "random sample" if isinstance(operand, Sample) else "element filter"
            raise Fault(f"{kind} expression cannot be used in unary expression", operand.start)
        if not isinstance(operand, Predicate):
            raise Fault("not op can only be applied on boolean expression", start)
        if isinstance(operand.node, Not):
            return Predicate(node=operand.node.child, depth=operand.depth - 1, start=start, end=end)
        return predicate(Not(operand.node), operand.depth + 1, start, end)

    def _fold_prefix(self, node: Syntax, value: Any) -> Any:
        if node.value == "not":
            if not isinstance(value, bool):
                raise Fault("not can only apply on boolean", node.start)
            return not value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Fault(f"unexpected op: {node.value}", node.start)
        if node.value == "-":
            return wrap(-value) if isinstance(value, int) else -value
        if node.value == "+":
            return value
        raise Fault("BitNot is not supported", node.start)

    def _infix(self, node: Syntax, operands: list[Any]) -> Operand:
        operator = node.value
        if operator in ("and", "or"):
            return join(operator, operands)
        if operator in ("in", "not in"):
            found = predicates.member(self, *operands, negated=operator == "not in")
            return Predicate(node=found, start=operands[0].start, end=operands[1].end)
        self._require(*operands)
        left, right = operands
        if operator in BIT_NAMES:
            name = BIT_NAMES[operator]
            raise Fault(f"{name} is not supported: {self.shown(left, right)}", node.start)
        if isinstance(left, Constant) and isinstance(right, Constant):
            return self._fold(operator, left, right, node.start)
        if operator in COMPARISONS:
            found = predicates.compare(self, operator, left, right)
            return Predicate(node=found, start=left.start, end=right.end)
        if operator in ARITHMETIC_NAMES:
            return predicates.arithmetic(operator, left, right, node.start)
        shown = self.shown(left, right)
        raise Fault(f"power can only apply on constants: {shown}", node.start)

    def _fold(self, operator: str, left: Constant, right: Constant, at: int) -> Constant:
        start, end = left.start, right.end
        if left.template is not None or right.template is not None:
            raise Fault(
                "placeholder was not supported between two constants with operator: " + operator,
                at,
            )
        if operator in COMPARISONS:
            value: Any = fold_comparison(
                operator, left.value, right.value, self.shown(left, right), at
            )
            return Constant(value=value, literal=False, start=start, end=end)
        value = fold_arithmetic(operator, left.value, right.value, at)
        return Constant(value=value, start=start, end=end)


def missing_value(constant: Constant, role: str) -> Fault:
    name = f"{{{constant.template}}}"
    reason = f"{role} expression template variable name {name} is not found"
    return Fault(reason, constant.start, "bare")


def _type_name(operand: Operand) -> str:
    if isinstance(operand, Constant):
        return type_of(operand.value).milvus_name
    if isinstance(operand, Reference | Computed | Struct):
        return operand.column.type.milvus_name
    return DataType.INT64.milvus_name


_LEAVES: dict[str, Callable[[Binder, Syntax], Operand]] = {
    "constant": Binder._constant,
    "name": Binder._name,
    "path": Binder._path,
    "member": Binder._member,
    "template": Binder._template,
    "list": Binder._empty_list,
    "option": Binder._option,
    "time": Binder._time,
    "call": Binder._empty_call,
}
_INNER: dict[str, Callable[[Binder, Syntax, list[Any]], Operand]] = {
    "list": Binder._list,
    "is null": Binder._is_null,
    "like": Binder._like,
    "=~": Binder._matches,
    "!~": Binder._matches,
    "range": Binder._range,
    "call": Binder._call,
    "elements": Binder._elements,
    "prefix": Binder._prefix,
    "infix": Binder._infix,
}
