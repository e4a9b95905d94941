"""Evaluation: which rows of a segment pass a plan.

After rewriting there is no negation above the leaves, so that a row that is unknown counts as one
that fails, and plain bitmaps suffice. ``and`` evaluates its operands from the cheapest on and each
only for the rows that the ones before have left; ``or`` only for the rows not found yet. Where few
rows are left, the columns are gathered first; JSON is parsed for rows that are left only.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from elanus.engine.filter.arrays import Bools, validity
from elanus.engine.filter.evaluate_array import array_truth
from elanus.engine.filter.evaluate_json import document_truth
from elanus.engine.filter.evaluate_scalar import both_valid, compare_columns, scalar_truth
from elanus.engine.filter.expression import (
    COST_JSON,
    COST_STRING,
    And,
    CompareColumns,
    Document,
    IsNull,
    Leaf,
    Literal,
    Node,
    Or,
)
from elanus.engine.filter.plan import Plan
from elanus.engine.filter.rewrite import reads_document
from elanus.errors import InternalError
from elanus.model.types import DataType

GATHER_BELOW = 1 / 8
"""Share of the rows left below which a predicate on strings or arrays gathers them first."""
GATHER_NUMBERS_BELOW = 1 / 64

Columns = Callable[[str], pa.Array]


def evaluate(
    plan: Plan, columns: Columns, row_count: int, candidates: Bools | None = None
) -> Bools:
    """Which rows pass, bool (row_count,).

    columns: gives the whole column of a field as one ``pa.Array`` of ``row_count`` rows, of the
    schema's Arrow type; asked for the names in ``plan.fields`` only, and only when needed.
    candidates: bool (row_count,), the rows of interest; others come out False. The result is the
    caller's own. Raises CorruptData if a JSON column holds something else.
    """
    result = _passing(plan.root, columns, row_count, candidates)
    return np.copy(result) if result is candidates else result


def _passing(node: Node, columns: Columns, row_count: int, mask: Bools | None) -> Bools:
    """The rows within ``mask`` (None: all) for which ``node`` is true. One frame for each level."""
    if isinstance(node, And):
        remaining = mask
        for child in node.children:
            remaining = _passing(child, columns, row_count, remaining)
            if not remaining.any():
                break
        assert remaining is not None
        return remaining
    if isinstance(node, Or):
        found = np.zeros(row_count, np.bool_)
        left = mask
        for child in node.children:
            found = found | _passing(child, columns, row_count, left)
            left = ~found if mask is None else mask & ~found
            if not left.any():
                break
        return found
    if isinstance(node, Literal):
        if not node.value:
            return np.zeros(row_count, np.bool_)
        return np.ones(row_count, np.bool_) if mask is None else mask
    return _leaf_rows(node, columns, row_count, mask)


def _leaf_rows(node: Node, columns: Columns, row_count: int, mask: Bools | None) -> Bools:
    if mask is None:
        return _leaf_truth(node, columns, row_count)
    if _worth_gathering(node, mask, row_count):
        rows = np.flatnonzero(mask)
        indices = pa.array(rows)
        result = np.zeros(row_count, np.bool_)
        if len(rows):
            gathered = _leaf_truth(node, lambda name: columns(name).take(indices), len(rows))
            result[rows] = gathered
        return result
    result = _leaf_truth(node, columns, row_count)
    return np.logical_and(result, mask)


def _worth_gathering(node: Node, mask: Bools, row_count: int) -> bool:
    assert isinstance(node, Leaf | Document)
    share = float(np.count_nonzero(mask)) / max(row_count, 1)
    if node.cost >= COST_JSON:
        return share < 1.0
    return share < (GATHER_BELOW if node.cost >= COST_STRING else GATHER_NUMBERS_BELOW)


def _leaf_truth(node: Node, columns: Columns, row_count: int) -> Bools:
    """The rows for which a leaf or a document is true."""
    if isinstance(node, Document):
        return document_truth(node.child, columns(node.name), node.name)
    if not isinstance(node, Leaf):
        raise InternalError(f"a plan may not hold {type(node).__name__}")
    if isinstance(node, IsNull):
        return _null_rows(node, columns, row_count)
    name = node.column.name
    column = columns(name)
    if reads_document(node):
        return document_truth(node, column, name)
    if isinstance(node, CompareColumns):
        other = columns(node.other.name)
        return _finished(compare_columns(node, column, other), both_valid(column, other), node)
    if node.column.element >= 0 or node.column.type is DataType.ARRAY:
        return _finished(array_truth(node, column), validity(column), node)
    return _finished(scalar_truth(node, column), validity(column), node)


def _finished(truth: Bools, valid: Bools | None, leaf: Leaf) -> Bools:
    """The rows for which the leaf is known and true, once negated if it is to be."""
    if leaf.negated:
        truth = ~truth
    return truth if valid is None else truth & valid


def _null_rows(leaf: IsNull, columns: Columns, row_count: int) -> Bools:
    valid = validity(columns(leaf.column.name)) if leaf.column.nullable else None
    if valid is None:
        return np.full(row_count, leaf.negated)
    return valid if leaf.negated else ~valid
