"""What a vector search finds in one segment, and how the best of many scores are picked.

Inside the engine a *similarity* is larger for better rows: the score itself for IP and COSINE, the
negated squared distance for L2. Equal similarities are ordered by row offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from elanus.engine.index.library import faiss, is_usual, unit_query
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

LOWEST = float(np.finfo(np.float32).min)
KEPT_COUNTS = 64
"""A small search notices the making of an array of one number."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range search's bounds on the similarity: ``low`` < similarity ≤ ``high``."""

    low: float
    high: float

    @staticmethod
    def of(query: VectorQuery) -> "Bounds | None":
        """None unless the query has a radius; ``range_filter`` alone does not count."""
        if query.radius is None:
            return None
        sign = 1.0 if query.metric.larger_is_better else -1.0
        inner = float("inf") if query.range_filter is None else sign * query.range_filter
        return Bounds(sign * query.radius, inner)

    def holds(self, similarities: Floats) -> npt.NDArray[np.bool_]:
        inside: npt.NDArray[np.bool_] = (similarities > self.low) & (similarities <= self.high)
        return inside


class Neighbours(msgspec.Struct, frozen=True, eq=False):
    """Found rows of all queries one after another, best first within a query. A struct, which is
    made in a fifth of a dataclass's time: a small search makes two.

    counts: int64 (nq,). similarities: float32 (total,). offsets: int64 (total,), rows.
    holds_ties: whether all rows that score as the last one of their query are there, however many
    were wanted.
    """

    counts: Ints
    similarities: Floats
    offsets: Ints
    holds_ties: bool = False

    @staticmethod
    def none(query_count: int) -> "Neighbours":
        return Neighbours(
            np.zeros(query_count, np.int64), np.empty(0, np.float32), np.empty(0, np.int64)
        )


def least_similarity(query: VectorQuery) -> float:
    """Of a row that is of any use; LOWEST if any may be."""
    if query.least is None:
        return LOWEST
    return query.least if query.metric.larger_is_better else -query.least


@lru_cache(maxsize=KEPT_COUNTS)
def equal_counts(query_count: int, count: int) -> Ints:
    """``count`` for each query, int64 (query_count,), read only."""
    counts = np.full(query_count, count, np.int64)
    counts.flags.writeable = False
    return counts


def prepare_queries(vectors: Floats, metric: MetricType) -> Floats:
    """float32 (nq, dim), C-contiguous; of unit length for COSINE (a zero vector stays zero)."""
    queries = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric is not MetricType.COSINE:
        return queries
    if len(queries) == 1:
        unit = unit_query(queries)
        if unit is not None:
            return unit
    return queries * inverse_norms(queries)[:, None]


def inverse_norms(vectors: Floats) -> Floats:
    """float32 (rows,): 1 / length of each row, 0 for a zero row."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    squares: Floats = np.empty(len(vectors), np.float32)
    faiss.fvec_norms_L2sqr(*map(faiss.swig_ptr, (squares, vectors)), vectors.shape[1], len(vectors))
    if len(squares) and is_usual(squares.min()) and is_usual(squares.max()):
        return np.reciprocal(np.sqrt(squares, out=squares), out=squares)
    # Squares of tiny or huge vectors leave the range of float32; those few rows go in double.
    odd = np.flatnonzero((squares < 1e-30) | ~np.isfinite(squares))
    with np.errstate(divide="ignore"):
        inverse = np.float32(1) / np.sqrt(squares)
    for row in odd:
        length = float(np.linalg.norm(vectors[row].astype(np.float64)))
        inverse[row] = 1.0 / length if length > 0 and 1.0 / length < 3e38 else 0.0
    result: Floats = inverse.astype(np.float32, copy=False)
    return result


def best(similarities: Floats, top_k: int) -> Ints:
    """Positions of the ``top_k`` largest values, best first, ties by position; -inf is left out."""
    size = len(similarities)
    positions: Ints | None = None
    if size > 4 * top_k:
        positions = np.flatnonzero(similarities >= threshold(similarities, top_k))
    if positions is None:
        positions = np.flatnonzero(similarities >= LOWEST)
    order = np.argsort(-similarities[positions], kind="stable")[:top_k]
    return positions[order]


def threshold(similarities: Floats, top_k: int) -> float:
    """A value that at least ``top_k`` of the values reach (or LOWEST).

    The k-th largest of the maxima of groups is such a value, and a group's maximum is found
    at the speed of memory, which a selection over all values is not.
    """
    size = len(similarities)
    group = min(256, size // (4 * top_k))
    maxima = similarities
    if group >= 4:
        whole = size // group * group
        maxima = np.maximum.reduce(similarities[:whole].reshape(group, -1), axis=0)
    at = len(maxima) - top_k
    return max(float(np.partition(maxima, at)[at]), LOWEST)


def keep_best(
    queries: Ints, similarities: Floats, offsets: Ints, nq: int, top_k: int
) -> Neighbours:
    """The best ``top_k`` of each query out of scattered candidates (parallel arrays)."""
    if nq == 1:
        order = np.lexsort((offsets, -similarities))[:top_k]
        return Neighbours(np.array([len(order)]), similarities[order], offsets[order])
    order = np.lexsort((offsets, -similarities, queries))
    queries = queries[order]
    found = np.bincount(queries, minlength=nq)
    starts = np.cumsum(found) - found
    kept = np.arange(len(order)) - starts[queries] < top_k
    order = order[kept]
    counts = np.minimum(found, top_k).astype(np.int64)
    return Neighbours(counts, similarities[order], offsets[order])


def are_full(labels: Ints) -> bool:
    """Whether every query has all the candidates asked for, (nq, depth). What lacks, -1, lacks
    at the end."""
    if len(labels) == 1:
        return bool(labels.item(-1) >= 0)
    return bool(labels[:, -1].min(initial=0) >= 0)


def best_of_each(similarities: Floats, labels: Ints, top_k: int) -> Neighbours:
    """The best ``top_k`` of each query's own candidates, both (nq, depth); -inf is left out."""
    nq, depth = similarities.shape
    if nq == 1:
        found = clear_best(similarities[0], labels[0], top_k)
    else:
        found = _clear_best_of_each(similarities, labels, top_k)
    if found is not None:
        return found
    bar: Floats | float = LOWEST
    if depth > top_k:
        # The k-th best tells which few are to be sorted. What is no number comes last.
        kth = np.partition(-similarities, top_k - 1, axis=1)[:, top_k - 1, None]
        bar = np.fmax(-kth, LOWEST)
    chosen = np.flatnonzero(similarities >= bar)
    queries = chosen // depth
    return keep_best(queries, similarities.ravel()[chosen], labels.ravel()[chosen], nq, top_k)


def clear_best(similarities: Floats, labels: Ints, top_k: int) -> Neighbours | None:
    """``best_of_each`` for one query, both (depth,), by as few steps as can be; None if there are
    ties, or fewer than wanted."""
    order = similarities.argsort()[: -top_k - 2 : -1]
    similarities = similarities.take(order)
    values = similarities.tolist()
    if len(set(values)) < len(values) or len(values) < top_k:
        return None
    # What is no number comes first.
    if not (values[0] >= values[top_k - 1] >= LOWEST):
        return None
    counts = equal_counts(1, top_k)
    return Neighbours(counts, similarities[:top_k], labels.take(order[:top_k]))


def _clear_best_of_each(similarities: Floats, labels: Ints, top_k: int) -> Neighbours | None:
    """As ``clear_best``, (nq, depth) both."""
    nq, depth = similarities.shape
    if depth < top_k or not top_k:
        return None
    order = (-similarities).argsort(axis=1)[:, : top_k + 1]
    best = np.take_along_axis(similarities, order, axis=1)
    # What is no number comes last, and is no larger than anything.
    falls = bool((best[:, :-1] > best[:, 1:]).all())
    if not falls or not bool((best[:, top_k - 1] >= LOWEST).all()):
        return None
    rows = np.take_along_axis(labels, order[:, :top_k], axis=1)
    return Neighbours(equal_counts(nq, top_k), best[:, :top_k].ravel(), rows.ravel())


def merge_neighbours(parts: Sequence[Neighbours], top_k: int) -> Neighbours:
    """The best of several disjoint parts of one segment (the same queries in each)."""
    parts = [part for part in parts if len(part.offsets)] or list(parts[:1])
    if len(parts) == 1:
        return parts[0]
    nq = len(parts[0].counts)
    similarities = np.concatenate([part.similarities for part in parts])
    offsets = np.concatenate([part.offsets for part in parts])
    queries = np.concatenate([np.repeat(np.arange(nq), part.counts) for part in parts])
    return keep_best(queries, similarities, offsets, nq, top_k)


def part_of(found: Neighbours, which: npt.NDArray[np.bool_]) -> Neighbours:
    """What was found for the queries ``which``, bool (nq,)."""
    if which.all():
        return found
    rows = np.repeat(which, found.counts)
    return Neighbours(found.counts[which], found.similarities[rows], found.offsets[rows])


def scatter(parts: Sequence[tuple[Ints, Neighbours]], nq: int) -> Neighbours:
    """Put together answers for disjoint subsets of queries: (positions of the queries, answer)."""
    if len(parts) == 1 and len(parts[0][0]) == nq:
        return parts[0][1]
    queries = np.concatenate([np.repeat(which, part.counts) for which, part in parts])
    order = np.argsort(queries, kind="stable")
    counts = np.bincount(queries, minlength=nq).astype(np.int64)
    return Neighbours(
        counts,
        np.concatenate([part.similarities for _, part in parts])[order],
        np.concatenate([part.offsets for _, part in parts])[order],
    )
