"""Columns of sparse vectors: read row by row, or by inverted lists as far as these cover them.

The lists of growing rows are made for each chunk of them that is large enough. Chunks are merged as
they grow, their lists are made anew then; the lists of a chunk that is full stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.index.base import Interim, VectorColumn
from elanus.engine.index.dense.neighbours import Bounds, Floats, Ints, Neighbours, merge_neighbours
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.inverted import Bm25, InvertedLists, pick
from elanus.engine.index.sparse.scan import SparseQuery, score_all, score_some
from elanus.engine.index.sparse.statistics import TermStatistics, saturated, scoring_of
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import SPARSE_TYPE, SparseRows

TAIL_ROWS = 1_024
TAIL_PART = 1 / 32
"""Rows behind the covered prefix that are read row by row before lists are made of them: at least
``TAIL_ROWS``, and this part of what is covered."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    first_row: int
    rows: SparseRows


@dataclass(frozen=True, slots=True)
class _Part:
    first_row: int
    lists: InvertedLists


class SparseInterim(Interim):
    """Inverted lists of consecutive runs of rows."""

    def __init__(self, metric: MetricType, parts: Sequence[_Part]) -> None:
        self.metric = metric
        self.parts = tuple(parts)
        last = self.parts[-1] if self.parts else None
        self.covered = 0 if last is None else last.first_row + last.lists.row_count

    @property
    def size_bytes(self) -> int:
        return sum(part.lists.size_bytes for part in self.parts)


class SparseColumn(VectorColumn):
    """``arrays``: the rows one after another, Arrow arrays of SPARSE_TYPE. A null has no values
    and is never found."""

    def __init__(self, arrays: Sequence[pa.Array]) -> None:
        self.dim = 0
        self.valid = None
        self._arrays = tuple(arrays)
        first_row = 0
        chunks = []
        for array in self._arrays:
            chunks.append(_Chunk(first_row, SparseRows.of(array)))
            first_row += len(array)
        self._chunks = tuple(chunks)
        self.row_count = first_row

    def search(
        self, query: VectorQuery, row_count: int, rows: RowSet | None, interim: Interim | None
    ) -> Neighbours:
        known = interim if isinstance(interim, SparseInterim) else None
        bounds = Bounds.of(query)
        scoring = scoring_of(query)
        queries = SparseRows.of(query.vectors)
        found = []
        for number in range(len(queries)):
            asked = SparseQuery.of(queries, number)
            parts = []
            for first_row, scores in self._scores(asked, row_count, known, scoring):
                best, offsets = pick(scores, query.top_k, rows, bounds, first_row)
                parts.append(Neighbours(np.array([len(best)]), best, offsets))
            found.append(merge_neighbours(parts, query.top_k) if parts else Neighbours.none(1))
        return joined(found)

    def _scores(
        self,
        query: SparseQuery,
        row_count: int,
        interim: SparseInterim | None,
        scoring: Bm25 | None,
    ) -> list[tuple[int, Floats]]:
        """Scores of all rows below ``row_count`` as (first row, scores)."""
        scores = []
        covered = 0
        for part in interim.parts if interim is not None else ():
            if part.first_row < row_count:
                covered = min(part.first_row + part.lists.row_count, row_count)
                found = part.lists.scores(query, scoring)
                scores.append((part.first_row, found[: row_count - part.first_row]))
        for chunk in self._chunks:
            skipped = max(covered - chunk.first_row, 0)
            end = min(row_count - chunk.first_row, len(chunk.rows))
            if skipped < end:
                tail = chunk.rows.beyond(skipped)
                if scoring is not None:
                    tail = saturated(tail, end - skipped, scoring)
                first_row = chunk.first_row + skipped
                scores.append((first_row, score_all(tail, query, end - skipped)))
        return scores

    def statistics(self, terms: npt.NDArray[np.uint32], interim: Interim | None) -> TermStatistics:
        """Of ``terms`` in all rows, by the lists of ``interim`` as far as they go."""
        found = TermStatistics.none(len(terms))
        covered = 0
        for part in interim.parts if isinstance(interim, SparseInterim) else ():
            lists = part.lists
            found += TermStatistics(lists.row_count, lists.tokens(), lists.rows_with(terms))
            covered = part.first_row + lists.row_count
        for chunk in self._chunks:
            skipped = max(covered - chunk.first_row, 0)
            if skipped < len(chunk.rows):
                tail = chunk.rows.beyond(skipped)
                found += TermStatistics.of(tail, len(tail), terms)
        return found

    def score_some(self, query: SparseQuery, offsets: Ints, scoring: Bm25 | None = None) -> Floats:
        """float32 (n,): scores of the rows at ``offsets``, inner products without ``scoring``."""
        scores = np.zeros(len(offsets), np.float32)
        for chunk in self._chunks:
            within = offsets - chunk.first_row
            at = np.flatnonzero((within >= 0) & (within < len(chunk.rows)))
            if len(at):
                rows = chunk.rows
                if scoring is not None:
                    rows = saturated(rows, len(rows), scoring)
                scores[at] = score_some(rows, query, within[at])
        return scores

    def take(self, offsets: Ints) -> Any:
        if len(self._arrays) == 1:
            return self._arrays[0].take(pa.array(offsets))
        parts, places = [pa.array([], SPARSE_TYPE)], [np.empty(0, np.int64)]
        for chunk, array in zip(self._chunks, self._arrays, strict=True):
            within = offsets - chunk.first_row
            at = np.flatnonzero((within >= 0) & (within < len(array)))
            if len(at):
                parts.append(array.take(pa.array(within[at])))
                places.append(at)
        order = np.empty(len(offsets), np.int64)
        order[np.concatenate(places)] = np.arange(len(offsets))
        return pa.concat_arrays(parts).take(pa.array(order))

    @property
    def size_bytes(self) -> int:
        return 0

    def forget(self) -> None:
        """Nothing is kept."""

    def is_interim_due(self, current: Interim | None) -> bool:
        covered = 0 if current is None else current.covered
        return self.row_count - covered >= max(TAIL_ROWS, int(covered * TAIL_PART))

    def extended(self, metric: MetricType, current: Interim | None) -> Interim | None:
        known: dict[tuple[int, int], _Part] = {}
        if isinstance(current, SparseInterim):
            known = {(part.first_row, part.lists.row_count): part for part in current.parts}
        parts = []
        for chunk in self._chunks:
            part = known.get((chunk.first_row, len(chunk.rows)))
            parts.append(part or _Part(chunk.first_row, InvertedLists.build(chunk.rows)))
        return SparseInterim(metric, parts)


def joined(found: Sequence[Neighbours]) -> Neighbours:
    """The answers for one query each as the answer for all."""
    if not found:
        return Neighbours.none(0)
    if len(found) == 1:
        return found[0]
    return Neighbours(
        np.concatenate([part.counts for part in found]),
        np.concatenate([part.similarities for part in found]),
        np.concatenate([part.offsets for part in found]),
    )
