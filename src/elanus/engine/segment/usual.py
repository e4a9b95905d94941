"""The usual search of a sealed segment: one query, no filter, by a built index.

It is prepared once for a number of hits and a choice of parameters (see ``VectorIndex.nearest``):
all that is left to do for a query then is what depends on it.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.index.base import VectorColumn, VectorIndex
from elanus.engine.index.dense.neighbours import Ints, Neighbours, equal_counts
from elanus.engine.index.rows import RowSet
from elanus.engine.segment.hits import hits_of, may_tie, sources_of
from elanus.model.reads import Hits, VectorQuery

HIDDEN_HITS = 0.1
"""Expected among the hits of all rows, so that those of the visible rows are first looked for as if
all were visible."""
KEPT_SEARCHES = 64
"""Of a segment, for numbers of hits and parameters that were asked for."""

Find = Callable[[Any], Hits | None]
Key = tuple[str, int, tuple[tuple[str, Any], ...]]


class _Prepared(msgspec.Struct, frozen=True):
    """find: None if the index does without."""

    index: VectorIndex
    column: VectorColumn
    find: Find | None


class UsualSearches:
    """Those that a segment was asked for. Safe in many threads.

    keys: gives those of all rows, as Hits have them. timestamps: uint64 (rows,).
    """

    def __init__(
        self, segment_id: int, keys: Callable[[], Any], timestamps: npt.NDArray[np.uint64]
    ) -> None:
        self._segment_id = segment_id
        self._keys = keys
        self._timestamps = timestamps
        self._prepared: dict[Key, _Prepared] = {}

    def find(
        self, index: VectorIndex, column: VectorColumn, query: VectorQuery, rows: RowSet | None
    ) -> Hits | None:
        """The hits among ``rows`` (None: all); None if it is another search, or takes more steps
        after all. A few rows that ``rows`` lacks change nothing unless they would be hits."""
        if query.grouping is not None or query.radius is not None or len(query.vectors) != 1:
            return None
        if column.valid is not None or index.metric is not query.metric:
            return None
        if rows is not None and _lacks_many(rows, query.top_k):
            return None
        key = (query.field_name, query.top_k, tuple(query.params.items()))
        known = self._prepared.get(key)
        if known is None or known.index is not index or known.column is not column:
            known = _Prepared(index, column, self._prepare(index, column, query))
            if len(self._prepared) >= KEPT_SEARCHES:
                self._prepared.clear()
            self._prepared[key] = known
        hits = None if known.find is None else known.find(query.vectors)
        if hits is None or rows is None or rows.mask.take(hits.offsets).all():
            return hits
        return None

    def forget(self) -> None:
        """Let go of indexes and columns."""
        self._prepared.clear()

    def _prepare(self, index: VectorIndex, column: VectorColumn, query: VectorQuery) -> Find | None:
        nearest = index.nearest(column, query)
        if nearest is None:
            return None
        metric, segment_id, keys = index.metric, self._segment_id, self._keys()
        counts, sources = equal_counts(1, query.top_k), sources_of(segment_id, query.top_k)
        timestamps_at = self._timestamps.take
        keys_at = keys.take if isinstance(keys, np.ndarray) else _taking(keys)
        is_similarity = metric.larger_is_better

        def find(vectors: Any) -> Hits | None:
            found = nearest(vectors)
            if found is None:
                return None
            similarities, offsets = found
            scores = similarities if is_similarity else -similarities
            keys, timestamps = keys_at(offsets), timestamps_at(offsets)
            if may_tie(scores):
                neighbours = Neighbours(counts, similarities, offsets)
                return hits_of(neighbours, metric, keys, timestamps, segment_id)
            return Hits(counts, scores, keys, timestamps, sources, offsets)

        return find


def _lacks_many(rows: RowSet, top_k: int) -> bool:
    """Whether one of the best ``top_k`` of all often isn't among ``rows``."""
    return (rows.row_count - rows.count) * top_k > HIDDEN_HITS * rows.row_count


def _taking(keys: pa.Array) -> Callable[[Ints], pa.Array]:
    return lambda offsets: keys.take(pa.array(offsets))
