"""The usual search of a growing segment: one query, no filter, for rows that beat those already
found elsewhere.

It is prepared for a field and a number of hits as often as rows came (see ``VectorColumn.better``):
all that is left to do for a query then is what depends on it.
"""

import msgspec

from elanus.engine.index.base import Better, Interim, VectorColumn
from elanus.engine.index.dense.neighbours import Neighbours, equal_counts, least_similarity
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery

KEPT_SEARCHES = 64
"""Of a segment, for fields and numbers of hits that were asked for."""


def is_usual(query: VectorQuery) -> bool:
    is_plain = query.grouping is None and query.radius is None
    return is_plain and query.least is not None and len(query.vectors) == 1


class _Prepared(msgspec.Struct, frozen=True):
    """better: None if the column does without."""

    column: VectorColumn
    interim: Interim
    better: Better | None


class UsualGrowing:
    """Those that a segment was asked for. Safe in many threads."""

    def __init__(self) -> None:
        self._prepared: dict[tuple[str, int], _Prepared] = {}

    def find(
        self,
        column: VectorColumn,
        interim: Interim,
        query: VectorQuery,
        end: int,
        rows: RowSet | None,
    ) -> Neighbours | None:
        """The hits among the first ``end`` rows that are in ``rows`` (None: all); None if the
        search takes more steps after all."""
        key = (query.field_name, query.top_k)
        known = self._prepared.get(key)
        if known is None or known.column is not column or known.interim is not interim:
            better = column.better(query.metric, query.top_k, interim)
            known = _Prepared(column, interim, better)
            if len(self._prepared) >= KEPT_SEARCHES:
                self._prepared.clear()
            self._prepared[key] = known
        if known.better is None:
            return None
        mask = None if rows is None else rows.mask
        found = known.better(query.vectors, least_similarity(query), end, mask)
        if found is None:
            return None
        similarities, offsets = found
        return Neighbours(equal_counts(1, len(offsets)), similarities, offsets)
