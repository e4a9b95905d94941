"""An inverted index of sparse rows: for each index that occurs, the rows that have it.

A search adds up, term by term, what each posting gives to its row. Scores of all rows lie in one
array, so that a filter is a mask and the best are picked at the speed of memory.

For BM25 the values are the counts of each term in a document; :class:`Bm25` turns them into
weights with the average length of the documents of the whole collection, which changes with every
insert, so nothing of it is stored. The idf of a term is for the caller to put into the query's
weights.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Bounds, Floats, Ints, best, threshold
from elanus.engine.index.library import sparse_loops, sparse_matrices
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.scan import SparseQuery
from elanus.model.vectors import SparseRows

DIRECT_INDICES = 1 << 22
"""Rows whose indices are below this are sorted by counting, others are numbered first."""
KEPT_SHARES = 1 << 22
"""Postings of one set of lists for which BM25's shares are kept, 4 bytes each."""
_LEAST = float(np.nextafter(np.float32(0), np.float32(1)))


@dataclass(frozen=True, slots=True)
class Bm25:
    """tf · (k1 + 1) / (tf + k1 · (1 − b + b · length / average_length)) in place of the value."""

    k1: float
    b: float
    average_length: float

    def damping(self, lengths: Floats) -> Floats:
        """What is added to a count in the denominator: float32 (rows,), of documents of
        ``lengths`` tokens."""
        share = np.float32(self.b / max(self.average_length, 1e-9))
        result: Floats = np.float32(self.k1) * (np.float32(1 - self.b) + share * lengths)
        return result


class Shares:
    """What BM25 gives for the counts of the terms that were searched for, before idf, under one
    scoring. Threads may make the same twice."""

    def __init__(self, scoring: Bm25, lengths: Floats) -> None:
        self.scoring = scoring
        self._damping = scoring.damping(lengths)
        self._by_term: dict[int, Floats] = {}
        self._kept = 0

    def of_term(self, term: int, rows: npt.NDArray[np.int32], counts: Floats) -> Floats:
        found = self._by_term.get(term)
        if found is None:
            gain = np.float32(self.scoring.k1 + 1)
            found = gain * counts / (counts + self._damping[rows])
            if self._kept + len(rows) <= KEPT_SHARES:
                self._kept += len(rows)
                self._by_term[term] = found
        return found


class KeptShares:
    """Of the scoring that was last asked for."""

    def __init__(self) -> None:
        self._last: Shares | None = None

    def of(self, scoring: Bm25, lengths: Floats) -> Shares:
        last = self._last
        if last is None or last.scoring != scoring:
            self._last = last = Shares(scoring, lengths)
        return last


@dataclass(frozen=True, slots=True)
class InvertedLists:
    """terms: uint32 (terms,), ascending. starts: int32 (terms + 1,), where the postings of each
    begin in ``rows``, int32 (n,), ascending within a term, and ``values``, float32 (n,). lengths:
    float32 (row_count,), the sum of each row's values."""

    terms: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    values: Floats
    lengths: Floats
    shares: KeptShares = field(default_factory=KeptShares, compare=False, repr=False)

    @property
    def row_count(self) -> int:
        return len(self.lengths)

    @property
    def size_bytes(self) -> int:
        arrays = (self.terms, self.starts, self.rows, self.values, self.lengths)
        return sum(array.nbytes for array in arrays)

    @staticmethod
    def build(column: SparseRows) -> "InvertedLists":
        """Over all rows of a column."""
        offsets = column.offsets - column.offsets[0]
        indices = column.indices[column.offsets[0] : column.offsets[-1]]
        values = np.ascontiguousarray(column.values[column.offsets[0] : column.offsets[-1]])
        if int(indices.max(initial=0)) < DIRECT_INDICES:
            known, numbers = None, indices.astype(np.int32)
            width = int(numbers.max(initial=-1)) + 1
        else:
            known, inverse = np.unique(indices, return_inverse=True)
            numbers, width = inverse.astype(np.int32), len(known)
        by_row = sparse_matrices().csr_array((values, numbers, offsets), shape=(len(column), width))
        by_term: Any = by_row.tocsc()
        used = np.flatnonzero(np.diff(by_term.indptr))
        terms = used.astype(np.uint32) if known is None else known[used]
        return InvertedLists(
            terms=terms,
            starts=np.append(by_term.indptr[used], by_term.indptr[-1]).astype(np.int32),
            rows=by_term.indices.astype(np.int32, copy=False),
            values=by_term.data,
            lengths=by_row @ np.ones(width, np.float32),
        )

    def scores(self, query: SparseQuery, scoring: Bm25 | None = None) -> Floats:
        """float32 (row_count,): of all rows; 0 where nothing is shared with the query."""
        result = np.zeros(self.row_count, np.float32)
        at = np.searchsorted(self.terms, query.indices)
        found = at < len(self.terms)
        found[found] = self.terms[at[found]] == query.indices[found]
        shares = None if scoring is None else self.shares.of(scoring, self.lengths)
        add_product = sparse_loops().csc_matvec
        for term, weight in zip(at[found].tolist(), query.weights[found], strict=True):
            start, end = self.starts[term], self.starts[term + 1]
            rows, values = self.rows[start:end], self.values[start:end]
            if shares is not None:
                values = shares.of_term(term, rows, values)
            add_product(
                self.row_count,
                1,
                np.array([0, end - start], np.int32),
                rows,
                values,
                np.array([weight], np.float32),
                result,
            )
        return result

    def rows_with(self, terms: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """int64 (terms,): how many rows have each of the terms."""
        at = np.searchsorted(self.terms, terms)
        known = at < len(self.terms)
        known[known] = self.terms[at[known]] == terms[known]
        counts = np.zeros(len(terms), np.int64)
        counts[known] = self.starts[at[known] + 1] - self.starts[at[known]]
        return counts

    def tokens(self) -> float:
        """The sum of all values."""
        return float(self.lengths.sum(dtype=np.float64))


def pick(
    scores: Floats, top_k: int, rows: RowSet | None, bounds: Bounds | None, first_row: int = 0
) -> tuple[Floats, Ints]:
    """(similarities, offsets) of the best rows that share something with the query, best first.

    scores: of consecutive rows from ``first_row`` on; changed here. Of ``rows`` (None: all).
    """
    if rows is not None:
        scores[~rows.mask[first_row : first_row + len(scores)]] = 0
    if bounds is not None:
        scores[~bounds.holds(scores)] = 0
    if len(scores) > 4 * top_k:
        chosen = np.flatnonzero(scores >= max(threshold(scores, top_k), _LEAST))
    else:
        chosen = np.flatnonzero(scores > 0)
    chosen = chosen[best(scores[chosen], top_k)]
    return scores[chosen], chosen + first_row
