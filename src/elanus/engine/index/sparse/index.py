"""SPARSE_INVERTED_INDEX and SPARSE_WAND: inverted lists in a mapped file.

The algorithms that Milvus names (TAAT_NAIVE, DAAT_WAND, DAAT_MAXSCORE) differ in what they skip,
not in what they find. All are served by one: terms are added up one after another, which the
kernel does at the speed of memory.

``drop_ratio_search`` leaves the smallest weights of a query out. With ``refine_factor`` so many
times the hits wanted are found that way and then scored by the whole query.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.arrays import open_arrays, write_arrays
from elanus.engine.index.base import VectorColumn, VectorIndex
from elanus.engine.index.dense.neighbours import Bounds, Neighbours, keep_best
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import SparseColumn, joined
from elanus.engine.index.sparse.inverted import Bm25, InvertedLists, pick
from elanus.engine.index.sparse.scan import SparseQuery
from elanus.engine.index.sparse.statistics import TermStatistics, scoring_of
from elanus.errors import CorruptData
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import SparseRows

_KIND = "sparse inverted lists"
_ARRAYS = ("terms", "starts", "rows", "values", "lengths")


class SparseIndex(VectorIndex):
    """See the module."""

    def __init__(self, lists: InvertedLists, index_type: str, metric: MetricType) -> None:
        self.index_type = index_type
        self.metric = metric
        self.row_count = lists.row_count
        self.dim = 0
        self.size_bytes = 0
        self.lists = lists

    def search(self, column: VectorColumn, query: VectorQuery, rows: RowSet | None) -> Neighbours:
        ratio = float(query.params.get("drop_ratio_search", 0))
        factor = int(query.params.get("refine_factor", 1)) if ratio > 0 else 1
        bounds = Bounds.of(query)
        scoring = scoring_of(query)
        queries = SparseRows.of(query.vectors)
        found = []
        for number in range(len(queries)):
            whole = SparseQuery.of(queries, number)
            asked = whole.without_smallest(ratio)
            refined = factor > 1 and isinstance(column, SparseColumn)
            wanted = query.top_k * factor if refined else query.top_k
            best, offsets = pick(
                self.lists.scores(asked, scoring), wanted, rows, None if refined else bounds
            )
            part = Neighbours(np.array([len(best)]), best, offsets)
            if refined and isinstance(column, SparseColumn):
                part = _refined(column, whole, part, query.top_k, bounds, scoring)
            found.append(part)
        return joined(found)

    def statistics(self, terms: npt.NDArray[np.uint32]) -> TermStatistics:
        """Of ``terms`` in all rows."""
        return TermStatistics(self.row_count, self.lists.tokens(), self.lists.rows_with(terms))


def _refined(
    column: SparseColumn,
    query: SparseQuery,
    found: Neighbours,
    top_k: int,
    bounds: Bounds | None,
    scoring: Bm25 | None,
) -> Neighbours:
    scores, offsets = column.score_some(query, found.offsets, scoring), found.offsets
    if bounds is not None:
        held = bounds.holds(scores)
        scores, offsets = scores[held], offsets[held]
    return keep_best(np.zeros(len(scores), np.int64), scores, offsets, 1, top_k)


def build_sparse(rows: SparseRows, out_path: str) -> int:
    """Write the lists of a column; returns the number of rows."""
    lists = InvertedLists.build(rows)
    arrays = {name: getattr(lists, name) for name in _ARRAYS}
    write_arrays(out_path, _KIND, {"rows": lists.row_count}, arrays)
    return lists.row_count


def open_sparse(path: str, index_type: str, metric: MetricType, row_count: int) -> SparseIndex:
    """Map a file of ``build_sparse``. Raises CorruptData."""
    opened = open_arrays(path, _KIND)
    if set(_ARRAYS) - set(opened.arrays) or len(opened.arrays["lengths"]) != row_count:
        raise CorruptData(
            f"index file {path} has {opened.facts.get('rows')} rows, expected {row_count}"
        )
    arrays: dict[str, Any] = {name: opened.arrays[name] for name in _ARRAYS}
    lists = InvertedLists(**arrays)
    return SparseIndex(lists, index_type, metric)
