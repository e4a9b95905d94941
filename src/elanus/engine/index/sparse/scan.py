"""Scores of sparse rows read as they lie: row after row, without an index.

Products are added up in the order of the indices, in float32, as an inverted index adds them: a
row has the same score however it was found.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.library import sparse_loops
from elanus.model.vectors import SparseRows

TABLE_INDICES = 1 << 22
"""Queries with indices below this are looked up in a table, others by binary search."""
PIECE_ENTRIES = 1 << 20


@dataclass(frozen=True, slots=True)
class SparseQuery:
    """One query: indices, uint32 (n,), ascending, and their weights, float32 (n,), none 0."""

    indices: npt.NDArray[np.uint32]
    weights: Floats

    @staticmethod
    def of(queries: SparseRows, number: int) -> "SparseQuery":
        indices, weights = queries.row(number)
        used = weights != 0
        return SparseQuery(indices[used], weights[used])

    def without_smallest(self, ratio: float) -> "SparseQuery":
        """Without the smallest ``ratio`` of its weights; equal ones stay together."""
        dropped = int(ratio * len(self.weights))
        if dropped == 0:
            return self
        least = np.partition(self.weights, dropped)[dropped]
        kept = self.weights >= least
        return SparseQuery(self.indices[kept], self.weights[kept])


def score_all(rows: SparseRows, query: SparseQuery, end: int) -> Floats:
    """float32 (end,): the inner products of the first ``end`` rows."""
    result = np.zeros(end, np.float32)
    if not len(query.indices) or not end:
        return result
    weights = np.append(query.weights, np.float32(0))
    table = _table(query)
    add_product = sparse_loops().csr_matvec
    start = 0
    while start < end:
        # As many rows as have so many entries, at least one.
        bound = rows.offsets[start] + PIECE_ENTRIES
        stop = max(start + 1, int(np.searchsorted(rows.offsets[: end + 1], bound, "right")) - 1)
        first, last = rows.offsets[start], rows.offsets[stop]
        add_product(
            stop - start,
            len(weights),
            rows.offsets[start : stop + 1] - first,
            _positions(rows.indices[first:last], query, table),
            np.ascontiguousarray(rows.values[first:last]),
            weights,
            result[start:stop],
        )
        start = stop
    return result


def score_some(rows: SparseRows, query: SparseQuery, ids: Ints) -> Floats:
    """float32 (n,): the inner products of the rows ``ids``."""
    lengths = rows.offsets[ids + 1] - rows.offsets[ids]
    offsets = np.zeros(len(ids) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    entries = np.arange(offsets[-1]) + np.repeat(rows.offsets[ids] - offsets[:-1], lengths)
    chosen = SparseRows(offsets, rows.indices[entries], rows.values[entries])
    return score_all(chosen, query, len(ids))


def _table(query: SparseQuery) -> npt.NDArray[np.int32] | None:
    """Position in the query by index, its length for indices that it lacks; None if that would be
    too large."""
    largest = int(query.indices[-1])
    if largest >= TABLE_INDICES:
        return None
    table = np.full(largest + 2, len(query.indices), np.int32)
    table[query.indices] = np.arange(len(query.indices), dtype=np.int32)
    return table


def _positions(
    indices: npt.NDArray[np.uint32], query: SparseQuery, table: npt.NDArray[np.int32] | None
) -> npt.NDArray[np.int32]:
    if table is not None:
        return table[np.minimum(indices, np.uint32(len(table) - 1))]
    found = np.searchsorted(query.indices, indices).astype(np.int32)
    missing = query.indices[np.minimum(found, len(query.indices) - 1)] != indices
    found[missing] = len(query.indices)
    return found
