"""Fusion of several result lists into one, as hybrid search needs it.

Reciprocal rank fusion scores a row Σ 1/(k + rank), weighted fusion Σ weight · norm(score). A row
that a list lacks gets nothing from it. Rows are the same if their primary keys are; equal scores
are ordered by the smaller key. Scores are float32 and are summed in the order of the lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.model.reads import Hits
from elanus.model.types import MetricType

DEFAULT_RRF_K = 60.0

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReciprocalRank:
    """Reciprocal rank fusion; 0 < ``k`` < 16384."""

    k: float = DEFAULT_RRF_K


@dataclass(frozen=True, slots=True)
class Weighted:
    """One weight in [0, 1] for each list; ``normalise`` maps every score into [0, 1] first."""

    weights: tuple[float, ...]
    normalise: bool = False


@dataclass(frozen=True, slots=True)
class Fused:
    """counts: int64 (nq,). scores: float32 (total,), keys, groups: (total,) as in Hits, best first
    within a query."""

    counts: IntArray
    scores: FloatArray
    keys: Any
    groups: Any = None


def fuse(
    lists: Sequence[Hits],
    metrics: Sequence[MetricType],
    ranker: ReciprocalRank | Weighted,
    *,
    offset: int,
    limit: int,
) -> Fused:
    """The best rows of every query, ranks ``offset`` to ``offset + limit``.

    lists: one Hits for each sub-request, all of the same nq; metrics: those of the sub-requests.
    """
    nq = len(lists[0].counts)
    queries = np.concatenate([np.repeat(np.arange(nq), hits.counts) for hits in lists])
    keys, key_ranks = _order_keys([hits.keys for hits in lists])
    if isinstance(ranker, ReciprocalRank):
        parts = [_reciprocal_ranks(hits.counts, ranker.k) for hits in lists]
    else:
        parts = _weighted_scores(lists, metrics, ranker)
    descending = is_descending(metrics, ranker)
    slots, row_of_hit = np.unique(queries * max(len(keys), 1) + key_ranks, return_inverse=True)
    scores = np.zeros(len(slots), dtype=np.float32)
    np.add.at(scores, row_of_hit, np.concatenate(parts))
    query_of_row, rank_of_row = np.divmod(slots, max(len(keys), 1))
    order = np.lexsort((rank_of_row, -scores if descending else scores, query_of_row))
    totals = np.bincount(query_of_row, minlength=nq)
    kept = order[window(totals, offset, limit)]
    return Fused(
        counts=np.clip(totals - offset, 0, limit).astype(np.int64),
        scores=scores[kept],
        keys=take_keys(keys, rank_of_row[kept]),
    )


def window(counts: IntArray, offset: int, limit: int) -> IntArray:
    """Positions, in concatenated lists of ``counts`` rows each, of every list's rows ``offset`` to
    ``offset + limit``."""
    starts = np.cumsum(counts) - counts
    position = np.arange(int(counts.sum())) - np.repeat(starts, counts)
    return np.flatnonzero((position >= offset) & (position < offset + limit))


def round_scores(scores: FloatArray, decimals: int) -> FloatArray:
    """⌊x · 10ⁿ + ½⌋ / 10ⁿ; ``decimals`` -1 leaves the scores as they are."""
    if decimals < 0:
        return scores
    scale = 10.0**decimals
    return (np.floor(scores.astype(np.float64) * scale + 0.5) / scale).astype(np.float32)


def _reciprocal_ranks(counts: IntArray, k: float) -> FloatArray:
    starts = np.cumsum(counts) - counts
    rank = np.arange(1, int(counts.sum()) + 1) - np.repeat(starts, counts)
    return (np.float32(1) / (np.float32(k) + rank.astype(np.float32))).astype(np.float32)


def is_descending(metrics: Sequence[MetricType], ranker: ReciprocalRank | Weighted) -> bool:
    """Whether larger scores are better after the fusion."""
    if isinstance(ranker, ReciprocalRank):
        return True
    return ranker.normalise or any(metric.larger_is_better for metric in metrics)


def _weighted_scores(
    lists: Sequence[Hits], metrics: Sequence[MetricType], ranker: Weighted
) -> list[FloatArray]:
    mixed = len({metric.larger_is_better for metric in metrics}) == 2
    parts = []
    for hits, metric, weight in zip(lists, metrics, ranker.weights, strict=True):
        scores = hits.scores
        if ranker.normalise or (mixed and not metric.larger_is_better):
            scores = normalise_scores(scores, metric)
        parts.append((np.float32(weight) * scores).astype(np.float32))
    return parts


def normalise_scores(scores: FloatArray, metric: MetricType) -> FloatArray:
    """Scores of ``metric`` mapped to [0, 1], larger is better."""
    wide = scores.astype(np.float64)
    if metric is MetricType.COSINE:
        result = (1 + wide) / 2
    elif metric is MetricType.IP or (metric.is_of_lists and metric.larger_is_better):
        result = 0.5 + np.arctan(wide) / np.pi
    else:
        result = 1 - 2 * np.arctan(wide) / np.pi
    return result.astype(np.float32)


def _order_keys(keys: Sequence[Any]) -> tuple[Any, IntArray]:
    """The distinct keys, ascending, and the position of each key among them."""
    if isinstance(keys[0], np.ndarray):
        return np.unique(np.concatenate(keys), return_inverse=True)
    encoded = pa.concat_arrays([one_array(part) for part in keys]).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()]


def one_array(keys: Any) -> Any:
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys


def take_keys(keys: Any, positions: IntArray) -> Any:
    return keys[positions] if isinstance(keys, np.ndarray) else keys.take(pa.array(positions))
