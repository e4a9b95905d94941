"""Rewriting: the same rows by a cheaper plan.

Negations are pushed to the leaves (De Morgan holds in three-valued logic), nests of one kind are
flattened, chains of ``==``/``in`` on one column become one ``in`` (union under ``or``,
intersection under ``and``), constants vanish, doubles too, and the cheapest operands come first.
Predicates on one JSON column end up in one Document. The order is canonical, so that filters that
differ in the order of their operands share a key.
"""

from typing import Any, TypeGuard

import msgspec
import numpy as np
import pyarrow as pa

from elanus.engine.filter.column import Column
from elanus.engine.filter.constants import distinct
from elanus.engine.filter.expression import (
    And,
    AnyLeaf,
    Compare,
    CompareColumns,
    Document,
    In,
    IsNull,
    Leaf,
    Length,
    Literal,
    Match,
    Node,
    Not,
    Or,
)
from elanus.engine.filter.keys import short_key
from elanus.engine.filter.operators import NEGATED
from elanus.model.types import DataType

_NUMPY_TYPES = {
    DataType.BOOL: np.bool_,
    DataType.INT8: np.int8,
    DataType.INT16: np.int16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.TIMESTAMPTZ: np.int64,
    DataType.FLOAT: np.float32,
    DataType.DOUBLE: np.float64,
}


def rewrite(node: Node, negated: bool = False) -> Node:
    """``node`` (or its negation) in the form that ``evaluate`` wants. One frame for each level."""
    if isinstance(node, Leaf):
        return _leaf(node, negated)
    if isinstance(node, Literal):
        return Literal(node.value != negated)
    if isinstance(node, Not):
        return rewrite(node.child, not negated)
    if isinstance(node, Document):
        return node
    conjunction = isinstance(node, And) != negated
    children: list[Node] = []
    for child in node.children:
        rewritten = rewrite(child, negated)
        if isinstance(rewritten, And if conjunction else Or):
            children.extend(rewritten.children)
        else:
            children.append(rewritten)
    return _junction(children, conjunction)


def _leaf(leaf: AnyLeaf, negated: bool) -> Node:
    negated = leaf.negated != negated
    if isinstance(leaf, Match):
        return msgspec.structs.replace(leaf, child=rewrite(leaf.child), negated=negated)
    if negated and isinstance(leaf, Compare | CompareColumns | Length):
        flipped = _complement(leaf)
        if flipped is not None:
            return flipped
    complements = leaf.column.is_scalar or leaf.column.is_json
    if isinstance(leaf, Compare) and leaf.operator == "!=" and not negated and complements:
        # One form for `x != 1`, `not (x == 1)` and `x not in [1]`. On an element of an array they
        # differ: an index past the end makes `!=` false.
        return Compare(column=leaf.column, operator="==", value=leaf.value, negated=True)
    if negated != leaf.negated:
        leaf = msgspec.structs.replace(leaf, negated=negated)
    return _single(leaf) if isinstance(leaf, In) else leaf


def _single(leaf: In) -> AnyLeaf:
    """``in`` with one value as ``==``."""
    if len(leaf.values) != 1 or leaf.column.type is DataType.ARRAY:
        return leaf
    value = leaf.values[0] if leaf.column.is_json else leaf.values.tolist()[0]
    return Compare(column=leaf.column, operator="==", value=value, negated=leaf.negated)


def _complement(leaf: Compare | CompareColumns | Length) -> AnyLeaf | None:
    """The negation of a comparison as a comparison, where nothing but known values occur."""
    column = leaf.column
    if isinstance(leaf, Length):
        exact = True
    elif isinstance(leaf, CompareColumns):
        exact = not (column.type.is_floating or leaf.other.type.is_floating)
    elif leaf.operator == "!=" and (column.is_scalar or column.is_json):
        exact = True
    else:
        # Not for floats: a NaN is neither less nor not less.
        exact = column.is_scalar and not column.type.is_floating and leaf.operator != "=="
    if not exact:
        return None
    return msgspec.structs.replace(leaf, operator=NEGATED[leaf.operator], negated=False)


# And, or ------------------------------------------------------------------------------------------


def _junction(children: list[Node], conjunction: bool) -> Node:
    children = _merge_members(children, conjunction)
    children = _group_documents(children, conjunction)
    by_key: dict[str, Node] = {}
    for child in children:
        if isinstance(child, Literal):
            if child.value != conjunction:
                return child
            continue
        by_key.setdefault(child.key, child)
    if not by_key:
        return Literal(conjunction)
    ordered = sorted(by_key.items(), key=lambda item: (item[1].cost, item[0]))
    if len(ordered) == 1:
        return ordered[0][1]
    return _joined([child for _, child in ordered], [key for key, _ in ordered], conjunction)


def _joined(children: list[Node], keys: list[str], conjunction: bool) -> Node:
    key = short_key(f"({(' and ' if conjunction else ' or ').join(keys)})")
    cost = sum(child.cost for child in children)
    return (And if conjunction else Or)(tuple(children), key, cost)


def _merge_members(children: list[Node], conjunction: bool) -> list[Node]:
    """``a == 1 or a in [2]`` to ``a in [1, 2]``, ``a != 1 and a != 2`` to ``a not in [1, 2]``,
    and ``a in [1, 2] and a in [2, 3]`` to ``a in [2]``."""
    merged: dict[tuple[str, bool], list[Compare | In]] = {}
    for child in children:
        if _is_member(child, conjunction):
            merged.setdefault((child.column.key, child.negated), []).append(child)
    if all(len(group) == 1 for group in merged.values()):
        return children
    result = [child for child in children if not _is_member(child, conjunction)]
    for (_, negated), group in merged.items():
        if len(group) == 1:
            result.append(group[0])
            continue
        column = group[0].column
        parts = [_values(leaf) for leaf in group]
        union = conjunction == negated
        merged_leaf = In(column=column, values=_combine(column, parts, union), negated=negated)
        result.append(_single(merged_leaf))
    return result


def _is_member(node: Node, conjunction: bool) -> TypeGuard[Compare | In]:
    """Whether the node is an ``==`` or ``in`` that may be merged with another of its column."""
    if isinstance(node, Compare):
        if node.operator != "==" or isinstance(node.value, list):
            return False
    elif not isinstance(node, In) or node.column.type is DataType.ARRAY:
        return False
    if node.column.is_scalar:
        return True
    # An element of JSON or of an array has one value, or none; union is right for those too.
    return conjunction == node.negated and not (
        isinstance(node, In) and any(isinstance(value, list) for value in node.values)
    )


def _values(leaf: Compare | In) -> Any:
    if isinstance(leaf, In):
        return leaf.values
    if leaf.column.is_json:
        return (leaf.value,)
    if leaf.column.type is DataType.VARCHAR:
        return pa.array([leaf.value], pa.string())
    bounds = _NUMPY_TYPES[leaf.column.type]
    if leaf.column.type.is_integer:
        info = np.iinfo(bounds)
        if not info.min <= leaf.value <= info.max:
            return np.empty(0, bounds)
    return np.array([leaf.value], bounds)


def _combine(column: Column, parts: list[Any], union: bool) -> Any:
    if column.is_json:
        return tuple({(type(v), v): v for part in parts for v in part}.values())
    if column.type is DataType.VARCHAR:
        sets = [set(part.to_pylist()) for part in parts]
        values = set.union(*sets) if union else set.intersection(*sets)
        return pa.array(sorted(values), pa.string())
    if union:
        return distinct(np.concatenate(parts))
    common = parts[0]
    for part in parts[1:]:
        common = np.intersect1d(common, part, assume_unique=True)
    return common


def _group_documents(children: list[Node], conjunction: bool) -> list[Node]:
    """Put the children that read one JSON column only into one Document of it."""
    groups: dict[str, list[Node]] = {}
    others: list[Node] = []
    for child in children:
        if isinstance(child, Document):
            groups.setdefault(child.name, []).append(child.child)
        elif isinstance(child, Leaf) and reads_document(child):
            groups.setdefault(child.column.name, []).append(child)
        else:
            others.append(child)
    for name, group in groups.items():
        by_key: dict[str, Node] = {}
        for child in group:
            same = isinstance(child, And) if conjunction else isinstance(child, Or)
            parts = child.children if same and isinstance(child, And | Or) else (child,)
            for part in parts:
                by_key.setdefault(part.key, part)
        keys = sorted(by_key)
        distinct = [by_key[key] for key in keys]
        tree = distinct[0] if len(distinct) == 1 else _joined(distinct, keys, conjunction)
        others.append(Document(name, tree))
    return others


def reads_document(leaf: Leaf) -> bool:
    """Whether the leaf needs parsed JSON."""
    return leaf.column.is_json and not isinstance(leaf, IsNull)


def needs(node: Node) -> frozenset[str]:
    """The names of the columns that the tree reads."""
    names: set[str] = set()
    waiting: list[Node] = [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current, Leaf):
            if isinstance(current, IsNull) and not current.column.nullable:
                continue
            names.add(current.column.name)
            if isinstance(current, CompareColumns):
                names.add(current.other.name)
            elif isinstance(current, Match):
                waiting.append(current.child)
        elif isinstance(current, And | Or):
            waiting.extend(current.children)
        elif isinstance(current, Not):
            waiting.append(current.child)
        elif isinstance(current, Document):
            names.add(current.name)
    return frozenset(names)
