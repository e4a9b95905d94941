"""Columns of lists of vectors: the vectors of all rows as one column, and where each row begins.

They are scanned exactly. A row whose list is empty or null is never found.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import Interim, VectorColumn
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours, best
from elanus.engine.index.lists.max_sim import Elements, max_sim, prepared, runs
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import joined
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import VectorLists, list_column, vectors_of


class VectorListColumn(VectorColumn):
    """offsets: int64 (rows + 1,), where each row begins among ``elements``. valid: bool (rows,),
    which rows have vectors; None: all. present: bool (rows,), which have a list at all, be it
    empty; None: all."""

    def __init__(
        self,
        offsets: Ints,
        elements: Elements,
        valid: npt.NDArray[np.bool_] | None,
        present: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.dim = elements.dim
        self.row_count = len(offsets) - 1
        self.valid = valid
        self.present = present
        self.offsets = offsets
        self.elements = elements

    @property
    def vector_count(self) -> int:
        return int(self.offsets[-1])

    def search(
        self, query: VectorQuery, row_count: int, rows: RowSet | None, interim: Interim | None
    ) -> Neighbours:
        chosen = np.arange(row_count) if rows is None else rows.ids
        return joined(
            [
                self.nearest(vectors, query.metric, query.top_k, chosen)
                for vectors in query_lists(query)
            ]
        )

    def nearest(
        self, vectors: npt.NDArray[Any], metric: MetricType, top_k: int, rows: Ints
    ) -> Neighbours:
        """The best of ``rows``, ascending, none of them empty, for one list of query vectors."""
        similarities = self.scores(vectors, metric, rows)
        chosen = best(similarities, top_k)
        return Neighbours(np.array([len(chosen)]), similarities[chosen], rows[chosen])

    def scores(self, vectors: npt.NDArray[Any], metric: MetricType, rows: Ints) -> Floats:
        """float32 (n,): the exact similarities of such rows."""
        between = metric.of_vectors
        return max_sim(self.elements, self.offsets, prepared(vectors, between), between, rows)

    def rows_of(self, elements: Ints) -> Ints:
        """int64 (n,): the row that each of some elements is in."""
        return np.searchsorted(self.offsets, elements, "right") - 1

    def elements_of(self, rows: RowSet) -> RowSet:
        """The vectors of some of the first rows, as a set of elements of all those."""
        offsets = self.offsets[: rows.row_count + 1]
        return RowSet(int(offsets[-1]), mask=np.repeat(rows.mask, np.diff(offsets)))

    def take(self, offsets: Ints) -> Any:
        starts = self.offsets[offsets]
        lengths = self.offsets[offsets + 1] - starts
        begins = np.zeros(len(offsets) + 1, np.int64)
        np.cumsum(lengths, out=begins[1:])
        vectors = vectors_of(self.elements.take(runs(starts, lengths)))
        return list_column(begins, vectors, None if self.present is None else self.present[offsets])

    @property
    def size_bytes(self) -> int:
        return self.elements.size_bytes + int(self.offsets.nbytes)

    def forget(self) -> None:
        """Lengths of vectors stay needed: whatever an index finds is scored exactly."""


def query_lists(query: VectorQuery) -> Iterator[npt.NDArray[Any]]:
    """The vectors of each query, (m, width)."""
    lists = VectorLists.of(query.vectors)
    return map(lists.row, range(len(lists)))
