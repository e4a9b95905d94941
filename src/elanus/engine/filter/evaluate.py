"""Evaluation: which rows of a segment pass a plan.

After rewriting there is no negation above the leaves, so that a row that is unknown counts as one
that fails, and plain bitmaps suffice. ``and`` evaluates its operands from the cheapest on and each
only for the rows that the ones before have left; ``or`` only for the rows not found yet. Where few
rows are left, the columns are gathered first; JSON is parsed for rows that are left only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import Bools, lengths_of, validity
from elanus.engine.filter.column import COST_DECODED, COST_STRING
from elanus.engine.filter.evaluate_array import array_truth, match_truth
from elanus.engine.filter.evaluate_geometry import near_truth, spatial_truth
from elanus.engine.filter.evaluate_json import document_truth
from elanus.engine.filter.evaluate_scalar import both_valid, compare_columns, scalar_truth
from elanus.engine.filter.expression import (
    And,
    CompareColumns,
    Document,
    FuzzyMatch,
    IsNull,
    Leaf,
    Literal,
    Match,
    Near,
    Node,
    Or,
    PhraseMatch,
    Spatial,
    TextMatch,
)
from elanus.engine.filter.indexes import Answer, ScalarIndexes, cheapest_answer
from elanus.engine.filter.plan import ElementFilter, Plan
from elanus.engine.filter.rewrite import reads_document
from elanus.engine.filter.text import TextIndexes
from elanus.errors import InternalError, Unimplemented
from elanus.model.types import DataType

GATHER_BELOW = 1 / 8
"""Share of the rows left below which a predicate on strings or arrays gathers them first."""
GATHER_NUMBERS_BELOW = 1 / 64

Columns = Callable[[str], pa.Array]


def evaluate(
    plan: Plan,
    columns: Columns,
    row_count: int,
    candidates: Bools | None = None,
    texts: TextIndexes | None = None,
    indexes: ScalarIndexes | None = None,
) -> Bools:
    """Which rows pass, bool (row_count,).

    columns: gives the whole column of a field as one ``pa.Array`` of ``row_count`` rows, of the
    schema's Arrow type; asked for the names in ``plan.fields`` only, and only when needed.
    candidates: bool (row_count,), the rows of interest; others come out False. texts: what finds
    words in a column; without it text_match is Unimplemented. indexes: over these columns, all
    ``row_count`` rows of them; they change the time, never the rows. The result is the caller's
    own. A plan's sample is not taken (see ``sample_rows``). Raises CorruptData if a JSON column
    holds something else.
    """
    source = _Source(columns, row_count, texts, indexes or {})
    result = _passing(plan.root, source, candidates)
    return np.copy(result) if result is candidates else result


def evaluate_elements(elements: ElementFilter, columns: Columns, row_count: int) -> Bools:
    """Which elements pass, bool (elements of all rows,), those of a row after those of the one
    before. columns: as for ``evaluate``, of the names in ``elements.fields``. The result is the
    caller's own."""
    source = _Source(columns, row_count, None)
    lengths = lengths_of(columns(elements.fields[0]))
    return _passing(elements.node, _elements(source, lengths), None)


def sample_rows(passing: Bools, share: float, seed: Sequence[int]) -> Bools:
    """``share`` of the rows that pass, at least one if any does, chosen at random: bool (rows,)."""
    rows = np.flatnonzero(passing)
    result = np.zeros(len(passing), np.bool_)
    if len(rows):
        size = max(1, int(len(rows) * share))
        generator = np.random.default_rng(list(seed))
        result[generator.choice(rows, size, replace=False, shuffle=False)] = True
    return result


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a plan's columns come from, and what indexes say of its leaves (by their id)."""

    columns: Columns
    row_count: int
    texts: TextIndexes | None
    indexes: ScalarIndexes = field(default_factory=dict)
    answers: dict[int, Answer | None] = field(default_factory=dict)

    def answer(self, node: Node) -> Answer | None:
        if not self.indexes or not isinstance(node, Leaf):
            return None
        if id(node) not in self.answers:
            self.answers[id(node)] = cheapest_answer(self.indexes, node)
        return self.answers[id(node)]

    def price_ns(self, node: Node) -> float:
        """About what ``node`` costs over all rows."""
        answer, scanned = self.answer(node), float(node.cost * self.row_count)
        return scanned if answer is None else min(scanned, answer.cost_ns)

    def gathered(self, rows: npt.NDArray[np.int64]) -> "_Source":
        """Only ``rows``."""
        indices, columns = pa.array(rows), self.columns
        return _Source(lambda name: columns(name).take(indices), len(rows), self.texts)


def _passing(node: Node, source: _Source, mask: Bools | None) -> Bools:
    """The rows within ``mask`` (None: all) for which ``node`` is true. One frame for each level."""
    if isinstance(node, And):
        remaining = mask
        children = node.children
        if source.indexes:
            children = tuple(sorted(children, key=source.price_ns))
        for child in children:
            remaining = _passing(child, source, remaining)
            if not remaining.any():
                break
        assert remaining is not None
        return remaining
    if isinstance(node, Or):
        found = np.zeros(source.row_count, np.bool_)
        left = mask
        for child in node.children:
            found = found | _passing(child, source, left)
            left = ~found if mask is None else mask & ~found
            if not left.any():
                break
        return found
    if isinstance(node, Literal):
        if not node.value:
            return np.zeros(source.row_count, np.bool_)
        return np.ones(source.row_count, np.bool_) if mask is None else mask
    if isinstance(node, Document) and node.name in source.indexes:
        return _document_rows(node, source, mask)
    return _leaf_rows(node, source, mask)


def _document_rows(node: Document, source: _Source, mask: Bools | None) -> Bools:
    """Predicates of a document that indexes answer go first, each by itself; documents are parsed
    for the others."""
    tree = node.child
    if not isinstance(tree, And | Or):
        return _leaf_rows(tree, source, mask)
    answered: list[Node] = []
    others: list[Node] = []
    for child in tree.children:
        answer = source.answer(child)
        helps = answer is not None and answer.cost_ns < child.cost * source.row_count
        (answered if helps else others).append(child)
    if not answered:
        return _leaf_rows(node, source, mask)
    if others:
        rest = msgspec.structs.replace(tree, children=tuple(others))
        answered.append(Document(node.name, rest if len(others) > 1 else others[0]))
    return _passing(msgspec.structs.replace(tree, children=tuple(answered)), source, mask)


def _leaf_rows(node: Node, source: _Source, mask: Bools | None) -> Bools:
    answer = source.answer(node)
    if answer is not None:
        left = source.row_count if mask is None else int(np.count_nonzero(mask))
        if answer.cost_ns < node.cost * left:
            return _answered_rows(node, answer, source, mask)
    if mask is None:
        return _leaf_truth(node, source)
    if _worth_gathering(node, mask, source.row_count):
        rows = np.flatnonzero(mask)
        result = np.zeros(source.row_count, np.bool_)
        if len(rows):
            result[rows] = _leaf_truth(node, source.gathered(rows))
        return result
    return np.logical_and(_leaf_truth(node, source), mask)


def _answered_rows(node: Node, answer: Answer, source: _Source, mask: Bools | None) -> Bools:
    rows = answer.ask()
    if answer.exact:
        return rows if mask is None else rows & mask
    assert isinstance(node, Leaf)
    if mask is not None and not node.negated:
        rows &= mask
    candidates = np.flatnonzero(rows)
    truth = np.zeros(source.row_count, np.bool_)
    if len(candidates):
        plain = msgspec.structs.replace(node, negated=False)
        truth[candidates] = _leaf_truth(plain, source.gathered(candidates))
    if node.negated:
        truth = _finished(truth, validity(source.columns(node.column.name)), node)
    return truth if mask is None else truth & mask


def _worth_gathering(node: Node, mask: Bools, row_count: int) -> bool:
    assert isinstance(node, Leaf | Document)
    if isinstance(node, TextMatch | PhraseMatch | FuzzyMatch):
        return False  # an index knows whole columns
    share = float(np.count_nonzero(mask)) / max(row_count, 1)
    if node.cost >= COST_DECODED:
        return share < 1.0
    return share < (GATHER_BELOW if node.cost >= COST_STRING else GATHER_NUMBERS_BELOW)


def _leaf_truth(node: Node, source: _Source) -> Bools:
    """The rows for which a leaf or a document is true."""
    if isinstance(node, Document):
        return document_truth(node.child, source.columns(node.name), node.name)
    if not isinstance(node, Leaf):
        raise InternalError(f"a plan may not hold {type(node).__name__}")
    if isinstance(node, IsNull):
        return _null_rows(node, source)
    name = node.column.name
    column = source.columns(name)
    if reads_document(node):
        return document_truth(node, column, name)
    if isinstance(node, CompareColumns):
        other = source.columns(node.other.name)
        return _finished(compare_columns(node, column, other), both_valid(column, other), node)
    if isinstance(node, Match):
        return _finished(_match_truth(node, source), validity(column), node)
    return _finished(_column_truth(node, column, source.texts), validity(column), node)


def _match_truth(node: Match, source: _Source) -> Bools:
    lengths = lengths_of(source.columns(node.column.name))
    return match_truth(node, lengths, _passing(node.child, _elements(source, lengths), None))


def _elements(source: _Source, lengths: npt.NDArray[np.int64]) -> _Source:
    """The columns of the elements of all rows, of which there are ``lengths``."""

    @cache
    def columns(name: str) -> pa.Array:
        return source.columns(name).flatten()  # without what lies beneath null rows

    return _Source(columns, int(lengths.sum()), None)


def _column_truth(node: Leaf, column: pa.Array, texts: TextIndexes | None) -> Bools:
    """The truth of a leaf (its ``negated`` aside) that reads one column that isn't JSON."""
    if isinstance(node, TextMatch | PhraseMatch | FuzzyMatch):
        if texts is None:
            raise Unimplemented("text_match and phrase_match are not supported yet")
        index = texts(node.column.name, column)
        if isinstance(node, TextMatch):
            return index.match(node.query, node.minimum)
        if isinstance(node, FuzzyMatch):
            return index.match_fuzzy(node.query, node.distance)
        return index.match_phrase(node.query, node.slop)
    if isinstance(node, Spatial):
        return spatial_truth(node, column)
    if isinstance(node, Near):
        return near_truth(node, column)
    if node.column.element >= 0 or node.column.type is DataType.ARRAY:
        return array_truth(node, column)
    return scalar_truth(node, column)


def _finished(truth: Bools, valid: Bools | None, leaf: Leaf) -> Bools:
    """The rows for which the leaf is known and true, once negated if it is to be."""
    if leaf.negated:
        truth = ~truth
    return truth if valid is None else truth & valid


def _null_rows(leaf: IsNull, source: _Source) -> Bools:
    valid = validity(source.columns(leaf.column.name)) if leaf.column.nullable else None
    if valid is None:
        return np.full(source.row_count, leaf.negated)
    return valid if leaf.negated else ~valid
