"""How one segment is searched: exactly or by an index, and how deep, decided by cost.

An index that is searched as if there were no filter finds the filter's survivors only as far as
they are among the rows that it visits. So the walk goes deeper as survivors get rarer, and what
it found says how far it had to go: if the last survivor that is wanted came late (the filter keeps
rows that are far from this very query) it goes deeper again, until it is deep enough or an exact
scan of the survivors is cheaper. Recall then holds at any selectivity, correlated with the query
or not.

Costs are nanoseconds on one core, measured on 300,000 × 100 and scaled by dimension; only their
ratios matter.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.chosen import best_labels, score_labels
from elanus.engine.index.dense.exact import (
    MATRIX_QUERIES,
    VectorBlock,
    exact_search_prepared,
)
from elanus.engine.index.dense.neighbours import (
    Bounds,
    Floats,
    Ints,
    Neighbours,
    are_full,
    best_of_each,
    equal_counts,
    prepare_queries,
    scatter,
)
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

DEPTH_TOLERANCE = 1.5
"""A walk this much shallower than wanted is accepted: ranks scatter around their mean."""
DEPTH_GROWTH = 1.5
"""A walk is repeated at least this much deeper, which bounds the number of walks."""
RANGE_EF = 512
"""Milvus's default ef of a range search."""
TAIL_PART = 16
"""If none of the last sixteenth of the candidates is within the radius, nothing behind them is."""
MAX_ROWS_AHEAD = 4_096
"""Rows that are read ahead of their comparison at once."""


def exact_cost(row_count: int, wanted: int, dim: int, queries: int) -> float:
    """Of an exact search for one query (of ``queries`` that are searched together), ns."""
    scale = max(dim, 16) / 100
    if queries < MATRIX_QUERIES:
        return scale * min(row_count * 15.0, wanted * 70.0)
    whole = row_count * (55.0 + 3.0 * queries)
    gathered = wanted * (135.0 + 4.0 * queries)
    return scale * min(whole, gathered) / queries


class Search:
    """One search of one segment.

    queries: prepared, float32 (nq, dim). rows: what may be found, None: all. blocks: the segment's
    vectors, exact. top_k: hits that there can be. read_ahead: is told the rows that are about to be
    read, at most MAX_ROWS_AHEAD at once; -1 is no row.
    """

    def __init__(
        self,
        query: VectorQuery,
        metric: MetricType,
        rows: RowSet | None,
        blocks: Sequence[VectorBlock],
    ) -> None:
        self.metric = metric
        self.params = query.params
        self.queries = prepare_queries(query.vectors, metric)
        self.rows = rows
        self.blocks = blocks
        self.read_ahead: Callable[[Ints], None] | None = None
        self.bounds = Bounds.of(query)
        last = blocks[-1]
        self.row_count = last.first_row + len(last.vectors)
        self.wanted = self.row_count if rows is None else rows.count
        self.top_k = min(query.top_k, self.wanted)
        self.dim = int(self.queries.shape[1])
        self.exact_cost = exact_cost(self.row_count, self.wanted, self.dim, len(self.queries))

    def number(self, name: str, default: float) -> float:
        """A search parameter, which has been checked."""
        return float(self.params.get(name, default))

    def exact(self, which: Ints) -> Neighbours:
        """By a scan of the rows, for the queries at these positions."""
        if self.read_ahead is not None and self.wanted <= MAX_ROWS_AHEAD and self.rows is not None:
            self.read_ahead(self.rows.ids)
        return exact_search_prepared(
            self.blocks, self.queries_at(which), self.metric, self.top_k, self.rows, self.bounds
        )

    def queries_at(self, which: Ints) -> Floats:
        return self.queries if len(which) == len(self.queries) else self.queries[which]

    def scored(self, queries: Floats, labels: Ints) -> Floats:
        """Exact similarities of the rows ``labels``, (n, depth), to as many of the queries; -inf
        where the label is -1."""
        if self.read_ahead is None:
            return score_labels(queries, self.blocks, labels, self.metric)
        found = np.empty(labels.shape, np.float32)
        step = max(1, MAX_ROWS_AHEAD // labels.shape[1])
        for start in range(0, len(labels), step):
            part = slice(start, start + step)
            self.read_ahead(labels[part])
            found[part] = score_labels(queries[part], self.blocks, labels[part], self.metric)
        return found

    def best(self, similarities: Floats, labels: Ints) -> Neighbours:
        """The best ``top_k`` of each row of candidates, (n, depth); -inf is left out."""
        if not len(labels):
            return Neighbours.none(0)
        if self.bounds is not None:
            similarities = np.where(self.bounds.holds(similarities), similarities, -np.inf)
        return best_of_each(similarities, labels, self.top_k)

    def refined(self, queries: Floats, labels: Ints) -> Neighbours:
        """The best ``top_k`` of the rows ``labels``, (n, depth), for as many of the queries, by
        exact similarities; -1 is no row."""
        if self.bounds is None and self.read_ahead is None and len(labels):
            return best_labels(queries, self.blocks, labels, self.metric, self.top_k)
        return self.best(self.scored(queries, labels), labels)


class Candidates(ABC):
    """How an index that knows no filter finds candidates for one search.

    wanted: survivors that are to be looked at, at least ``top_k``; more where codes choose them.
    are_exact: whether the similarities of candidates are exact.
    """

    wanted: int
    are_exact: bool

    @abstractmethod
    def depth_for(self, rank: float) -> int:
        """Depth at which the row of this rank (1 = nearest of all) is found surely enough."""

    @abstractmethod
    def cost(self, depth: float) -> float:
        """Of a walk for one query, ns."""

    @abstractmethod
    def walk(self, queries: Floats, size: int, depth: int) -> tuple[Floats, Ints]:
        """The ``size`` best rows that a walk of this depth finds, visible or not: similarities and
        labels, both (nq, size), best first; label -1 where there are fewer."""


def search_by_walks(search: Search, candidates: Candidates) -> Neighbours:
    """The best rows for each query, by walks that get deeper, or by a scan."""
    wanted = min(max(candidates.wanted, search.top_k), search.wanted)
    if search.rows is None and search.bounds is None:
        # The usual search: one walk, and all that it finds may be found.
        depth = candidates.depth_for(wanted)
        if _is_cheaper(search, candidates, depth):
            similarities, labels = candidates.walk(search.queries, wanted, depth)
            if are_full(labels):
                return _all_of(search, candidates, similarities, labels)
    return _Walks(search, candidates, wanted).run()


def _all_of(
    search: Search, candidates: Candidates, similarities: Floats, labels: Ints
) -> Neighbours:
    if candidates.are_exact:
        nq, depth = labels.shape
        if nq == 1:
            return Neighbours(equal_counts(1, depth), similarities[0], labels[0])
        return Neighbours(equal_counts(nq, depth), similarities.ravel(), labels.ravel())
    return search.refined(search.queries, labels)


def _is_cheaper(search: Search, candidates: Candidates, depth: float) -> bool:
    """Than an exact scan."""
    return depth < search.row_count and candidates.cost(depth) < search.exact_cost


class _Walks:
    def __init__(self, search: Search, candidates: Candidates, kept: int) -> None:
        self._search = search
        self._candidates = candidates
        self._kept = kept
        self._selective = search.rows is not None or search.bounds is not None

    def run(self) -> Neighbours:
        search = self._search
        pending = np.arange(len(search.queries))
        parts: list[tuple[Ints, Neighbours]] = []
        depth = self._candidates.depth_for(self._kept * search.row_count / search.wanted)
        while len(pending) and self._is_cheaper(depth):
            similarities, labels = self._walked(pending, depth)
            found, done, next_depth = self._judged(pending, depth, similarities, labels)
            parts.append((pending[done], found))
            pending, next_depth = pending[~done], next_depth[~done]
            if not len(pending):
                break
            # Whoever is cheaper off with an exact scan does not hold back the others.
            walks = np.array([self._is_cheaper(d) for d in next_depth])
            if not walks.all():
                parts.append((pending[~walks], search.exact(pending[~walks])))
                pending, next_depth = pending[walks], next_depth[walks]
            if len(pending):
                depth = max(int(next_depth.max()), math.ceil(depth * DEPTH_GROWTH))
        if len(pending):
            parts.append((pending, search.exact(pending)))
        return scatter(parts, len(search.queries))

    def _is_cheaper(self, depth: float) -> bool:
        return _is_cheaper(self._search, self._candidates, depth)

    def _walked(self, which: Ints, depth: int) -> tuple[Floats, Ints]:
        search = self._search
        size = depth if self._selective else self._kept
        return self._candidates.walk(search.queries_at(which), size, depth)

    def _judged(
        self, which: Ints, depth: int, similarities: Floats, labels: Ints
    ) -> tuple[Neighbours, npt.NDArray[np.bool_], Ints]:
        """Of a walk: (what the finished queries of ``which`` found, finished or not: bool (n,), the
        depth that each would need)."""
        search = self._search
        kept = labels >= 0
        if search.rows is not None:
            kept &= search.rows.mask[labels]
        if search.bounds is not None:
            if not self._candidates.are_exact:
                similarities = search.scored(search.queries_at(which), labels)
            kept &= search.bounds.holds(similarities)
        running = np.cumsum(kept, axis=1, dtype=np.int32)
        found = running[:, -1]
        enough = found >= self._kept
        # Where all are found: the rank of the last. Else: where it would be at this density.
        ranks = np.where(
            enough,
            np.argmax(running >= self._kept, axis=1) + 1,
            labels.shape[1] * self._kept / np.maximum(found, 0.5),
        )
        needed = np.array([self._candidates.depth_for(rank) for rank in ranks])
        done = enough & (needed <= depth * DEPTH_TOLERANCE)
        if search.bounds is not None:
            done |= self._is_past(search.bounds, similarities, labels)
        return self._some_of(which, done, similarities, labels, kept), done, needed

    def _is_past(self, bounds: Bounds, similarities: Floats, labels: Ints) -> npt.NDArray[np.bool_]:
        """Whether the walk went past the radius: there is nothing more to find. bool (n,)."""
        tail = 1 if self._candidates.are_exact else max(1, labels.shape[1] // TAIL_PART)
        outside = (similarities[:, -tail:] <= bounds.low).all(axis=1)
        past: npt.NDArray[np.bool_] = (labels[:, -1] >= 0) & outside
        return past

    def _some_of(
        self,
        which: Ints,
        done: npt.NDArray[np.bool_],
        similarities: Floats,
        labels: Ints,
        kept: npt.NDArray[np.bool_],
    ) -> Neighbours:
        """The best of the ``kept`` candidates of the queries that are ``done``."""
        kept, labels = kept[done], labels[done]
        if self._candidates.are_exact or self._search.bounds is not None:
            return self._search.best(np.where(kept, similarities[done], -np.inf), labels)
        # The kept ones to the front: few of many candidates are scored.
        order = np.argsort(~kept, axis=1, kind="stable")[:, : self._kept]
        held = np.take_along_axis(kept, order, axis=1)
        labels = np.where(held, np.take_along_axis(labels, order, axis=1), -1)
        return self._search.refined(self._search.queries_at(which[done]), labels)
