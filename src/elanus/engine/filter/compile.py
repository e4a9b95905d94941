"""The compiler's front: filter text and schema to a Plan, with errors in Milvus's words."""

from collections.abc import Collection, Mapping
from datetime import UTC, tzinfo

import numpy as np
import pyarrow as pa

from elanus.engine.filter.bind import Binder
from elanus.engine.filter.column import JsonPath
from elanus.engine.filter.expression import And, Compare, In, Leaf, Literal, Node
from elanus.engine.filter.faults import Fault
from elanus.engine.filter.operands import Elements, Sample
from elanus.engine.filter.parser import parse
from elanus.engine.filter.plan import ElementFilter, Plan
from elanus.engine.filter.rewrite import needs, rewrite
from elanus.errors import FilterError
from elanus.model.schema import SCALAR_ARROW_TYPES, CollectionSchema

LONGEST_SHOWN_TEXT = 4_096
"""Characters of a filter that an error repeats."""


def compile_filter(
    text: str,
    schema: CollectionSchema,
    templates: Mapping[str, object] | None = None,
    zone: tzinfo = UTC,
    casts: Collection[JsonPath] = (),
) -> Plan | None:
    """The plan of a filter; None for an empty or blank one, which every row passes.

    templates: values for the ``{name}`` in the text: bool, int, float, str, or lists (integer
    lists may be NumPy arrays) of these. zone: that of times without an offset. casts: the JSON
    paths where strings that are numbers count as numbers. Raises FilterError (with its position)
    for a filter that is wrong and Unimplemented for a part of the language that isn't there yet.
    """
    if not text or text.isspace():
        return None
    try:
        if not text.isascii():
            text.encode()
        bound = Binder(text, schema, templates, zone, casts).run(parse(text))
        root = rewrite(Literal(True) if bound.node is None else bound.node)
    except Fault as fault:
        raise _worded(text, fault) from None
    except UnicodeEncodeError as error:
        message = "cannot parse expression: the text isn't valid Unicode"
        raise FilterError(message, position=error.start) from error
    sample = bound.share if isinstance(bound, Sample) else None
    elements = _element_filter(bound) if isinstance(bound, Elements) else None
    keys = None
    if sample is None and isinstance(root, Leaf) and root.column.name == schema.primary.name:
        keys = _values_of(root, root.column.name)
    always_true = sample is None and isinstance(root, Literal) and root.value
    return Plan(
        key=root.key,
        root=root,
        fields=needs(root),
        primary_keys=keys,
        always_true=always_true,
        sample=sample,
        elements=elements,
    )


def _element_filter(bound: Elements) -> ElementFilter:
    node = rewrite(bound.tested)
    return ElementFilter(bound.struct, node, tuple(sorted(needs(node))))


def key_values(plan: Plan, field_name: str) -> pa.Array | None:
    """The only values of a field that rows passing the filter can have, if it says so.

    That is the case if ``field == v`` or ``field in [...]`` stands alone or joined by ``and``.
    The array is ascending, distinct, of the field's Arrow type, and may be empty (no row passes).
    """
    root: Node = plan.root
    children = root.children if isinstance(root, And) else (root,)
    for child in children:
        values = _values_of(child, field_name)
        if values is not None:
            return values
    return None


def _values_of(node: Node, field_name: str) -> pa.Array | None:
    if not isinstance(node, Compare | In) or node.negated:
        return None
    column = node.column
    if column.name != field_name or not column.is_scalar:
        return None
    arrow_type = SCALAR_ARROW_TYPES[column.type]
    if isinstance(node, In):
        values = node.values
        return pa.array(values, arrow_type) if isinstance(values, np.ndarray) else values
    if node.operator != "==":
        return None
    if column.type.is_integer:
        limits = np.iinfo(arrow_type.to_pandas_dtype())
        if not limits.min <= node.value <= limits.max:
            return pa.array([], arrow_type)
    return pa.array([node.value], arrow_type)


def _worded(text: str, fault: Fault) -> FilterError:
    shown = text
    if len(text) > LONGEST_SHOWN_TEXT:
        shown = f"{text[:LONGEST_SHOWN_TEXT]}… ({len(text)} characters)"
        fault.reason = fault.reason.replace(text, shown)
    reason = fault.reason
    if fault.kind == "bare":
        return FilterError(reason, position=fault.position)
    if fault.kind in ("syntax", "leftover"):
        line = text.count("\n", 0, fault.position) + 1
        column = fault.position - (text.rfind("\n", 0, fault.position) + 1)
        reason = f"line {line}:{column} {reason}"
        if fault.kind == "leftover":
            reason = f"invalid expression: {shown}, {reason}"
    return FilterError(
        f"cannot parse expression: {shown}, error: {reason}", position=fault.position
    )
