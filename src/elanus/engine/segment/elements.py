"""Searches for single vectors in a column of lists: each vector of a row may be a hit of its own.

The vectors of all rows are searched like a plain column; what is found are their numbers, from
which row and place follow.
"""

from collections.abc import Callable
from dataclasses import dataclass

from elanus.engine.filter.arrays import Bools
from elanus.engine.index.base import VectorColumn
from elanus.engine.index.dense.neighbours import Ints, Neighbours
from elanus.engine.index.lists.column import VectorListColumn
from elanus.engine.index.rows import RowSet, intersect
from elanus.model.reads import VectorQuery


@dataclass(frozen=True, slots=True)
class SearchedElements:
    """count: of the rows that are searched. passing: those that a filter lets pass; None: all."""

    lists: VectorListColumn
    count: int
    passing: RowSet | None

    @staticmethod
    def of(
        column: VectorColumn | None,
        query: VectorQuery,
        row_count: int,
        passing: Callable[[], Bools | None],
    ) -> "SearchedElements | None":
        """None if the query is for whole rows of ``column``. passing: of the elements of the first
        ``row_count`` rows, bool (elements,)."""
        if not isinstance(column, VectorListColumn) or query.metric.is_of_lists:
            return None
        count = int(column.offsets[row_count])
        mask = passing()
        return SearchedElements(column, count, None if mask is None else RowSet(count, mask=mask))

    def members(self, rows: RowSet | None) -> RowSet | None:
        """The elements that pass, of ``rows`` (None: all)."""
        return intersect(None if rows is None else self.lists.elements_of(rows), self.passing)

    def placed(self, found: Neighbours) -> tuple[Neighbours, Ints]:
        """Found elements as hits of their rows, and the place of each in its row: int64 (n,)."""
        rows = self.lists.rows_of(found.offsets)
        places = found.offsets - self.lists.offsets[rows]
        return Neighbours(found.counts, found.similarities, rows), places
