"""An index of lists of vectors: one over the vectors of all rows finds candidates, which are then
scored exactly.

For each vector of a query the index gives the nearest vectors; the rows that these are in are the
candidates. A row that is none has, for each vector of the query, no vector nearer than the last one
found. So its score is at most the sum of those similarities: once the worst hit reaches that bar,
nothing better is left. Until then the index is asked for more, as long as that costs less than a
scan of all rows. So recall doesn't depend on the data, only on that of the index below.

The idea is Fagin's threshold algorithm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import VectorColumn, VectorIndex
from elanus.engine.index.dense.neighbours import Ints, Neighbours, best
from elanus.engine.index.lists.column import VectorListColumn, query_lists
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import joined
from elanus.engine.strategy import exact_cost
from elanus.errors import InternalError
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

RATIO = "retrieval_ann_ratio"
DEFAULT_RATIO = 3.0
"""Vectors that are looked for at first for each vector of a query, for each hit wanted."""
LEAST_VECTORS = 32
DEPTH_GROWTH = 4
FOUND_VECTOR_COST = 4_500.0
"""Of each vector that an index finds, by a walk over 100 dimensions, ns."""


class VectorListIndex(VectorIndex):
    """``vectors``: the index over the vectors of all rows, None if there are none."""

    def __init__(
        self, index_type: str, metric: MetricType, dim: int, vectors: VectorIndex | None
    ) -> None:
        self.index_type = index_type
        self.metric = metric
        self.dim = dim
        self.row_count = 0 if vectors is None else vectors.row_count
        self.size_bytes = 0 if vectors is None else vectors.size_bytes
        self._vectors = vectors

    def search(self, column: VectorColumn, query: VectorQuery, rows: RowSet | None) -> Neighbours:
        if not isinstance(column, VectorListColumn):
            raise InternalError(f"an index of lists can't search a {type(column).__name__}")
        if self._vectors is None:
            return Neighbours.none(len(query.vectors))
        chosen = np.arange(column.row_count) if rows is None else rows.ids
        members = None if rows is None else column.elements_of(rows)
        search = _Search(self._vectors, column, query, chosen, members)
        return joined([search.run(vectors) for vectors in query_lists(query)])


@dataclass(frozen=True, slots=True)
class _Search:
    """rows: those that may be found, ascending, none of them empty; ``members``: their vectors,
    None: all."""

    index: VectorIndex
    column: VectorListColumn
    query: VectorQuery
    rows: Ints
    members: RowSet | None

    def run(self, vectors: npt.NDArray[Any]) -> Neighbours:
        """The hits of one list of query vectors."""
        query, top_k = self.query, min(self.query.top_k, len(self.rows))
        ratio = query.params.get(RATIO)
        depth = max(LEAST_VECTORS, int(top_k * float(ratio or DEFAULT_RATIO)))
        while self._is_cheaper(depth, len(vectors)):
            near = self._near(vectors, depth)
            candidates = np.unique(self.column.rows_of(near.offsets))
            scores = self.column.scores(vectors, query.metric, candidates)
            chosen = best(scores, top_k)
            if len(chosen) == top_k and (
                # Whoever says how many vectors are looked at wants no more.
                ratio is not None or scores[chosen[-1]] >= self._bar(near, depth)
            ):
                hits = candidates[chosen]
                return Neighbours(np.array([len(hits)]), scores[chosen], hits)
            depth *= DEPTH_GROWTH
        return self.column.nearest(vectors, query.metric, query.top_k, self.rows)

    def _near(self, vectors: npt.NDArray[Any], depth: int) -> Neighbours:
        query = VectorQuery(
            self.query.field_name,
            self.query.metric.of_vectors,
            vectors,
            depth,
            {name: value for name, value in self.query.params.items() if name != RATIO},
        )
        return self.index.search(self.column.elements, query, self.members)

    def _bar(self, near: Neighbours, depth: int) -> float:
        """No row without one of the found vectors is better than this."""
        if (near.counts < depth).any():
            return float("inf")  # the index lost some
        last = np.cumsum(near.counts) - 1
        return float(near.similarities[last].sum(dtype=np.float64))

    def _is_cheaper(self, depth: int, queries: int) -> bool:
        every = self.column.vector_count
        wanted = every if self.members is None else self.members.count
        dim = self.column.dim
        scan = queries * exact_cost(every, wanted, dim, queries)
        walks = queries * depth * FOUND_VECTOR_COST * (0.4 + 0.6 * dim / 100)
        return depth < wanted and walks < scan
