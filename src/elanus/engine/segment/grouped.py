"""A search for groups in one segment.

The best rows are looked at, ever more of them, until they are of groups enough. Rows of a group
that has all it may have are left out of the next look: so a large group that lies nearest hides no
other, and the number of looks is bounded by the growth of their depth. What has been seen is always
a prefix of the rows by score, ties included, so that groups are ranked as if all rows were.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from elanus.engine.groups import best_groups, merge_all, standings
from elanus.engine.index.dense.neighbours import Ints
from elanus.engine.index.rows import RowSet
from elanus.engine.reduce import selected
from elanus.engine.segment.group_values import group_values
from elanus.model.reads import Grouping, Hits, VectorQuery
from elanus.model.vectors import take_vectors

FindHits = Callable[[VectorQuery, RowSet | None], Hits]
Take = Callable[[Ints, Sequence[str]], pa.RecordBatch]
Bools = npt.NDArray[np.bool_]

FIRST_DEPTH = 2
"""Rows looked at first for each that is wanted."""
GROWTH = 16
"""How many times more rows each further look is for."""
COVERING = ("ef", "reorder_k", "search_list", "search_list_size")
"""Search parameters that say how many candidates hits are chosen from: as many for each hit where
more hits are looked at than the user asked for."""


def search_groups(
    query: VectorQuery, rows: RowSet | None, row_count: int, find: FindHits, take: Take
) -> Hits:
    """The best groups of ``rows`` (None: all of ``row_count``) for each query vector.

    find: the best rows of a query without grouping, with all that tie with the last. take: columns
    of rows by offset.
    """
    assert query.grouping is not None
    search = _GroupSearch(query, query.grouping, rows, row_count, find, take)
    return search.best() if query.grouping.within is None else search.within()


@dataclass(frozen=True, slots=True)
class _Coded:
    """The groups of all rows. of_row: int64 (rows,), the number of each row's group, -1 of rows
    that are not wanted. values: Arrow array (groups,). sizes: int64 (groups,), the rows that each
    may have among the hits."""

    of_row: Ints
    values: Any
    sizes: Ints


class _GroupSearch:
    def __init__(
        self,
        query: VectorQuery,
        grouping: Grouping,
        rows: RowSet | None,
        row_count: int,
        find: FindHits,
        take: Take,
    ) -> None:
        self._query = query
        self._plain = replace(query, grouping=None)
        self._grouping = grouping
        self._rows = rows
        self._row_count = row_count
        self._find = find
        self._take = take

    def best(self) -> Hits:
        """The best groups, with such of their rows as are seen on the way."""
        top_k, size = self._query.top_k, self._grouping.size
        wanted = self._row_count if self._rows is None else self._rows.count
        depth = min(FIRST_DEPTH * top_k * size, wanted)
        seen = self._look(self._plain, self._rows, depth)
        if depth < wanted:
            ends = np.cumsum(seen.counts)
            parts = []
            for number, enough in enumerate(self._have_enough(seen)):
                mine = np.arange(ends[number] - seen.counts[number], ends[number])
                part = selected(seen, mine, np.array([len(mine)]))
                if not enough:
                    every = np.ones(len(self._coded.sizes), np.bool_)
                    part = self._completed(number, every, top_k, part, depth)
                parts.append(part)
            seen = _one_after_another(parts)
        return best_groups(seen, top_k, size)

    def within(self) -> Hits:
        """The best rows of the groups that each query names."""
        coded, size = self._coded, self._grouping.size
        named = pc.index_in(self._grouping.within, value_set=coded.values)
        ends = np.cumsum(self._grouping.within_counts)
        parts, start = [], 0
        for number, end in enumerate(ends.tolist()):
            groups = np.zeros(len(coded.sizes), np.bool_)
            groups[np.asarray(named[start:end].drop_null())] = True
            rows = self._rows_of(groups)
            depth = min(FIRST_DEPTH * size * (end - start), rows.count)
            seen = self._look(self._one(number), rows, depth)
            parts.append(self._completed(number, groups, None, seen, depth))
            start = end
        return best_groups(_one_after_another(parts), self._query.top_k, size)

    def _completed(
        self, number: int, groups: Bools, needed: int | None, seen: Hits, depth: int
    ) -> Hits:
        """The hits of one query among the rows of ``groups``, of which ``seen`` are the nearest
        ``depth``. needed: groups that must have a hit; None: each must have all that it may."""
        query, coded = self._one(number), self._coded
        wanted = int(groups.sum()) if needed is None else min(needed, int(groups.sum()))
        rows = self._rows_of(groups)
        closed = np.zeros(len(groups), np.bool_)
        parts: list[Hits] = []
        while True:
            own = coded.of_row[seen.offsets]
            found = np.bincount(own, minlength=len(groups))
            full = groups & (found >= coded.sizes) & ~closed
            begun = closed | full if needed is None else closed | (found > 0)
            if depth >= rows.count or int(np.count_nonzero(begun)) >= wanted:
                return merge_all([*parts, seen], query)
            kept = np.flatnonzero(full[own])
            parts.append(selected(seen, kept, np.array([len(kept)])))
            closed |= full
            rows = self._rows_of(groups & ~closed)
            depth = min(depth * GROWTH, rows.count)
            seen = self._look(query, rows, depth)

    def _have_enough(self, seen: Hits) -> list[bool]:
        """Of each query, whether the rows that were seen are of as many groups as are wanted."""
        nq = len(seen.counts)
        if not len(seen.scores):
            return [False] * nq
        _, places = standings(seen.counts, seen.groups)
        queries = np.repeat(np.arange(nq), seen.counts)
        groups = np.bincount(queries[places == 0], minlength=nq)
        enough: list[bool] = (groups >= self._query.top_k).tolist()
        return enough

    def _look(self, query: VectorQuery, rows: RowSet | None, depth: int) -> Hits:
        params = dict(query.params)
        for name in COVERING:
            if name in params and depth > self._query.top_k:
                given = float(params[name])
                scaled = given * depth / self._query.top_k
                params[name] = math.ceil(min(scaled, max(given, self._row_count)))
        hits = self._find(replace(query, top_k=max(depth, 1), params=params), rows)
        return merge_all([replace(hits, groups=self._values(hits.offsets, self._grouping))], query)

    def _one(self, number: int) -> VectorQuery:
        """One query of several, without grouping."""
        vectors = take_vectors(self._plain.vectors, np.array([number]))
        return replace(self._plain, vectors=vectors)

    def _values(self, offsets: Ints, grouping: Grouping) -> pa.Array:
        column = self._take(offsets, [grouping.field_name]).column(0)
        return group_values(column, grouping)

    def _rows_of(self, groups: Bools) -> RowSet:
        of_row = self._coded.of_row
        mask = np.zeros(self._row_count, np.bool_)
        wanted = np.flatnonzero(of_row >= 0)
        mask[wanted] = groups[of_row[wanted]]
        return RowSet(self._row_count, mask=mask)

    @cached_property
    def _coded(self) -> _Coded:
        ids = np.arange(self._row_count) if self._rows is None else self._rows.ids
        # Strict casts are about rows that may be hits, which are looked at.
        lenient = replace(self._grouping, strict_cast=False)
        encoded = self._values(ids, lenient).dictionary_encode(null_encoding="encode")
        codes = np.asarray(encoded.indices).astype(np.int64)
        of_row = np.full(self._row_count, -1, np.int64)
        of_row[ids] = codes
        sizes = np.bincount(codes, minlength=len(encoded.dictionary))
        return _Coded(of_row, encoded.dictionary, np.minimum(sizes, self._grouping.size))


def _one_after_another(parts: Sequence[Hits]) -> Hits:
    """The hits of one query each as those of all queries."""
    if len(parts) == 1:
        return parts[0]
    keys = [part.keys for part in parts]
    is_native = isinstance(keys[0], np.ndarray)
    return Hits(
        counts=np.concatenate([part.counts for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        keys=np.concatenate(keys) if is_native else pa.concat_arrays(keys),
        timestamps=np.concatenate([part.timestamps for part in parts]),
        sources=np.concatenate([part.sources for part in parts]),
        offsets=np.concatenate([part.offsets for part in parts]),
        groups=pa.concat_arrays([part.groups for part in parts]),
    )
