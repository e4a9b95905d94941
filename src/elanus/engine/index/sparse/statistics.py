"""What BM25 needs to know of all documents of a shard, added up from its segments.

Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009). Rows that are
deleted count until a compaction drops them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.sparse.inverted import Bm25
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import Floats, SparseRows

K1, B, AVERAGE_LENGTH = "bm25_k1", "bm25_b", "bm25_avgdl"
"""Parameters of a query."""


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """rows: all rows. tokens: all tokens in them. rows_with: int64 (terms,), rows that have each
    of the terms asked for."""

    rows: int
    tokens: float
    rows_with: npt.NDArray[np.int64]

    def __add__(self, other: "TermStatistics") -> "TermStatistics":
        return TermStatistics(
            self.rows + other.rows, self.tokens + other.tokens, self.rows_with + other.rows_with
        )

    @property
    def average_length(self) -> float:
        return self.tokens / self.rows if self.rows else 0.0

    @property
    def idf(self) -> npt.NDArray[np.float64]:
        """float64 (terms,), ln(1 + (N - n + 0.5) / (n + 0.5))."""
        found: npt.NDArray[np.float64] = np.log1p(
            (self.rows - self.rows_with + 0.5) / (self.rows_with + 0.5)
        )
        return found

    @staticmethod
    def none(terms: int) -> "TermStatistics":
        return TermStatistics(0, 0.0, np.zeros(terms, np.int64))

    @staticmethod
    def of(rows: SparseRows, end: int, terms: npt.NDArray[np.uint32]) -> "TermStatistics":
        """Of the first ``end`` rows of a column, read as they lie."""
        first, last = rows.offsets[0], rows.offsets[end]
        indices = rows.indices[first:last]
        at = np.searchsorted(terms, indices)
        known = at < len(terms)
        known[known] = terms[at[known]] == indices[known]
        rows_with = np.bincount(at[known], minlength=len(terms)).astype(np.int64)
        return TermStatistics(end, float(rows.values[first:last].sum(dtype=np.float64)), rows_with)


def scoring_of(query: VectorQuery) -> Bm25 | None:
    """How the query's parameters say that documents are scored; None for inner products."""
    if query.metric is not MetricType.BM25:
        return None
    params: dict[str, Any] = query.params
    return Bm25(float(params[K1]), float(params[B]), float(params[AVERAGE_LENGTH]))


def saturated(rows: SparseRows, end: int, scoring: Bm25) -> SparseRows:
    """The first ``end`` rows with what BM25 gives for a count, before idf, in its place."""
    first, last = int(rows.offsets[0]), int(rows.offsets[end])
    counts = rows.values[first:last]
    offsets = rows.offsets[: end + 1] - first
    sums = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    lengths = (sums[offsets[1:]] - sums[offsets[:-1]]).astype(np.float32)
    damping = np.repeat(scoring.damping(lengths), np.diff(offsets))
    values: Floats = np.float32(scoring.k1 + 1) * counts / (counts + damping)
    return SparseRows(offsets, rows.indices[first:last], values)
