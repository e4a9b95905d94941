"""An index of lists of vectors: one over the vectors of all rows finds candidates, which are then
scored exactly.

For each vector of a query the index gives the nearest vectors; the rows that these are in are the
candidates. What was not found is not nearer than the last that was, so for every row there is a
score that it can have at most: of a candidate, by what was found of it; of all other rows, the sum
over the last ones. Candidates that can't be hits are not scored; once no other row can be a hit,
all is found. Until then the index is asked for more, as long as that costs less than a scan of all
rows. So recall doesn't depend on the data, only on that of the index below.

The idea is Fagin's threshold algorithm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import VectorColumn, VectorIndex
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours, best
from elanus.engine.index.lists.column import VectorListColumn, query_lists
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import joined
from elanus.errors import InternalError
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

RATIO = "retrieval_ann_ratio"
DEFAULT_RATIO = 3.0
"""Vectors that are looked for at first for each vector of a query, for each hit wanted."""
LEAST_VECTORS = 32
DEPTH_GROWTH = 4
SCORED_PER_HIT = 2
"""Candidates that are scored at first, the most promising ones, for each hit wanted."""
FOUND_VECTOR_COST = 4_500.0
"""Of each vector that an index finds, by a walk over 100 dimensions, ns on one core. Ratios of
these costs matter only."""
SCANNED_VECTOR_COST, COMPARED_PAIR_COST = 60.0, 10.0
"""Of a scan: of each vector of 100 dimensions, and of its comparison with each of the query, ns."""


class VectorListIndex(VectorIndex):
    """``vectors``: the index over the vectors of all rows, None if there are none."""

    orders_ties = False

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
class _Found:
    """candidates: int64 (n,), ascending. bounds: float64 (n,), what each scores at most. others:
    what every other row scores at most."""

    candidates: Ints
    bounds: npt.NDArray[np.float64]
    others: float


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
        top_k = min(self.query.top_k, len(self.rows))
        ratio = self.query.params.get(RATIO)
        depth = max(LEAST_VECTORS, int(top_k * float(ratio or DEFAULT_RATIO)))
        while self._is_cheaper(depth, len(vectors)):
            found = self._found(vectors, depth)
            hits = self._best(vectors, found, top_k)
            # Whoever says how many vectors are looked at wants no more.
            if len(hits.offsets) == top_k and (
                ratio is not None or hits.similarities[-1] >= found.others
            ):
                return hits
            depth *= DEPTH_GROWTH
        return self.column.nearest(vectors, self.query.metric, self.query.top_k, self.rows)

    def _found(self, vectors: npt.NDArray[Any], depth: int) -> _Found:
        """The rows of the ``depth`` nearest vectors of each query vector."""
        given = self.query
        params = {name: value for name, value in given.params.items() if name != RATIO}
        between = given.metric.of_vectors
        query = VectorQuery(given.field_name, between, vectors, depth, params)
        near = self.index.search(self.column.elements, query, self.members)
        # An index that finds fewer than there are has lost some: they may be of any kind.
        last = np.full(len(vectors), np.inf)
        whole = near.counts == depth
        last[whole] = near.similarities[np.cumsum(near.counts)[whole] - 1]
        candidates, at = np.unique(self.column.rows_of(near.offsets), return_inverse=True)
        bounds = np.tile(last, len(candidates))
        owners = np.repeat(np.arange(len(vectors)), near.counts)
        # What was found of a row comes best first, so the first of a query vector is the maximum.
        places = (at * len(vectors) + owners)[::-1]
        bounds[places] = near.similarities[::-1]
        sums = bounds.reshape(len(candidates), len(vectors)).sum(axis=1)
        return _Found(candidates, sums, float(last.sum()))

    def _best(self, vectors: npt.NDArray[Any], found: _Found, top_k: int) -> Neighbours:
        """The best candidates. Only those are scored that can be among them."""
        order = np.argsort(-found.bounds, kind="stable")
        first, rest = order[: SCORED_PER_HIT * top_k], order[SCORED_PER_HIT * top_k :]
        rows, similarities = self._scored(vectors, found.candidates[first])
        if len(rows) >= top_k:
            bar = similarities[best(similarities, top_k)[-1]]
            # Sums of float32 in another order may differ in the last digits.
            rest = rest[found.bounds[rest] >= bar - 1e-5 * max(1.0, abs(bar))]
        more, scores = self._scored(vectors, found.candidates[rest])
        rows, similarities = np.concatenate([rows, more]), np.concatenate([similarities, scores])
        order = np.lexsort((rows, -similarities))[:top_k]
        return Neighbours(np.array([len(order)]), similarities[order], rows[order])

    def _scored(self, vectors: npt.NDArray[Any], rows: Ints) -> tuple[Ints, Floats]:
        """(rows, ascending; their exact similarities)."""
        rows = np.sort(rows)
        return rows, self.column.scores(vectors, self.query.metric, rows)

    def _is_cheaper(self, depth: int, queries: int) -> bool:
        every = self.column.vector_count
        wanted = every if self.members is None else self.members.count
        scale = self.column.dim / 100
        scan = wanted * (SCANNED_VECTOR_COST + COMPARED_PAIR_COST * queries) * scale
        walks = queries * depth * FOUND_VECTOR_COST * (0.4 + 0.6 * scale)
        return depth < wanted and walks < scan
