"""Many answers to one read become one: of segments, of nodes, of shards.

Hits: per query the best first, equal scores by ascending primary key, one hit for each key (or for
each element of a row, where those are searched). Rows:
by ascending primary key, one row for each key, the latest. Inputs may hold duplicates of a key,
within a part and across parts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from elanus.engine.index.dense.neighbours import Ints, equal_counts
from elanus.engine.segment.hits import key_ranks, order_key
from elanus.model.reads import Hits, Rows

FEW_KEYS = 256
"""Looked at as Python's numbers: NumPy's loops over so few take longer to begin than to run."""


def empty_hits(query_count: int, string_keys: bool = False) -> Hits:
    return Hits(
        np.zeros(query_count, np.int64),
        np.empty(0, np.float32),
        _no_keys(string_keys),
        np.empty(0, np.uint64),
        np.empty(0, np.int64),
        np.empty(0, np.int64),
    )


def empty_rows(string_keys: bool = False) -> Rows:
    none = np.empty(0, np.int64)
    return Rows(_no_keys(string_keys), np.empty(0, np.uint64), none, none)


def merge_hits(parts: Sequence[Hits], top_k: int, larger_is_better: bool) -> Hits:
    """The best ``top_k`` hits of each query. Raises ValueError without any part."""
    if not parts:
        raise ValueError("there are no hits to merge, not even the number of queries is known")
    full = [part for part in parts if len(part.scores)]
    if not full:
        return parts[0]
    query_count = len(parts[0].counts)
    if len(full) == 1:
        part = full[0]
        if query_count == 1 and _are_plainly_unique(part):
            return at_most(part, top_k)
        queries = np.repeat(np.arange(query_count), part.counts)
        if not _has_duplicates(queries, part):
            return at_most(part, top_k)
        return _ranked(part, queries, query_count, top_k, larger_is_better)
    if query_count == 1 and (merged := _quickly_merged(full, top_k, larger_is_better)) is not None:
        return merged
    queries = np.concatenate([np.repeat(np.arange(query_count), part.counts) for part in full])
    together = replace(_joined_hits(full), counts=np.bincount(queries, minlength=query_count))
    return _ranked(together, queries, query_count, top_k, larger_is_better)


def _quickly_merged(parts: Sequence[Hits], top_k: int, larger_is_better: bool) -> Hits | None:
    """Of one query with integer keys, with as few steps as can be; None if the best of many hits
    have equal scores or keys, or if there are groups or elements."""
    first = parts[0]
    is_plain = first.groups is None and first.elements is None
    if not is_plain or not isinstance(first.keys, np.ndarray):
        return None
    scores = np.concatenate([part.scores for part in parts])
    worse = -scores if larger_is_better else scores
    order = worse.argsort()[: top_k + 1]
    ranked = scores.take(order).tolist()
    order = order[:top_k]
    keys = np.concatenate([part.keys for part in parts])
    timestamps = np.concatenate([part.timestamps for part in parts])
    if len(set(ranked)) < len(ranked) or len(set(keys.take(order).tolist())) < len(order):
        if len(keys) > FEW_KEYS:
            return None
        order = _order_of_few(worse, keys, timestamps, top_k)
    return Hits(
        equal_counts(1, len(order)),
        scores.take(order),
        keys.take(order),
        timestamps.take(order),
        np.concatenate([part.sources for part in parts]).take(order),
        np.concatenate([part.offsets for part in parts]).take(order),
    )


def _order_of_few(
    worse: npt.NDArray[np.float32],
    keys: Ints,
    timestamps: npt.NDArray[np.uint64],
    top_k: int,
) -> Ints:
    """Positions of the first ``top_k`` hits in the order of ``_ranked``, one for each key."""
    later = [-timestamp for timestamp in timestamps.tolist()]
    ranked = sorted(zip(worse.tolist(), keys.tolist(), later, range(len(later)), strict=True))
    first: dict[int, int] = {}
    for _, key, _, position in ranked:
        first.setdefault(key, position)
    return np.array([*first.values()][:top_k], np.int64)


def merge_rows(parts: Sequence[Rows], limit: int | None) -> Rows:
    """At most the first ``limit`` rows. Of one key's rows the latest stays. If each part was cut
    at ``limit`` rows, so may the result be shorter where keys repeat within a part."""
    if not parts:
        return empty_rows()
    full = [part for part in parts if len(part.timestamps)]
    if not full:
        return parts[0]
    keys = full[0].keys if len(full) == 1 else _joined([part.keys for part in full])
    timestamps = np.concatenate([part.timestamps for part in full])
    ranks = key_ranks(keys)
    # A part is ascending already: one part needs no sort.
    order = np.arange(len(ranks)) if len(full) == 1 else np.lexsort((timestamps, ranks))
    sorted_ranks = ranks[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = sorted_ranks[1:] != sorted_ranks[:-1]
    kept = order[last][:limit]
    sources = np.concatenate([part.sources for part in full])
    offsets = np.concatenate([part.offsets for part in full])
    return Rows(_taken(keys, kept), timestamps[kept], sources[kept], offsets[kept])


def at_most(hits: Hits, limit: int) -> Hits:
    """Each query's first ``limit`` hits."""
    counts = hits.counts
    most = counts.item() if len(counts) == 1 else counts.max(initial=0)
    return hits if most <= limit else slice_hits(hits, 0, limit)


def slice_hits(hits: Hits, offset: int, limit: int | None = None) -> Hits:
    """Each query's hits without the first ``offset``, at most ``limit`` of them."""
    starts = np.cumsum(hits.counts) - hits.counts
    position = np.arange(len(hits.scores)) - np.repeat(starts, hits.counts)
    kept = position >= offset
    if limit is not None:
        kept &= position < offset + limit
    counts = np.maximum(hits.counts - offset, 0)
    if limit is not None:
        counts = np.minimum(counts, limit)
    return selected(hits, np.flatnonzero(kept), counts)


def _ranked(
    hits: Hits, queries: Ints, query_count: int, top_k: int, larger_is_better: bool
) -> Hits:
    """Sorted by (query, score, key), later insert first where all are equal; then deduplicated."""
    ranks = order_key(key_ranks(hits.keys), hits.elements)
    worse = -hits.scores if larger_is_better else hits.scores
    # MAX - ts sorts the latest first without leaving uint64.
    later = np.uint64(0xFFFFFFFFFFFFFFFF) - hits.timestamps
    if query_count == 1:
        order = np.lexsort((later, ranks, worse))
    else:
        order = np.lexsort((later, ranks, worse, queries))
    order = order[_first_of_each(queries[order], ranks[order])]
    queries = queries[order]
    found = np.bincount(queries, minlength=query_count)
    starts = np.cumsum(found) - found
    order = order[np.arange(len(order)) - starts[queries] < top_k]
    return selected(hits, order, np.minimum(found, top_k).astype(np.int64))


def _first_of_each(queries: Ints, ranks: Ints) -> Any:
    """Where each (query, key) occurs first, ascending positions; a slice if all are unique."""
    order = np.lexsort((np.arange(len(ranks)), ranks, queries))
    same = np.zeros(len(order), np.bool_)
    same[1:] = (ranks[order][1:] == ranks[order][:-1]) & (queries[order][1:] == queries[order][:-1])
    if not same.any():
        return slice(None)
    return np.sort(order[~same])


def _are_plainly_unique(hits: Hits) -> bool:
    """Whether a few integer keys of rows are surely all different."""
    if hits.elements is not None or not isinstance(hits.keys, np.ndarray):
        return False
    return len(hits.keys) <= FEW_KEYS and len(set(hits.keys.tolist())) == len(hits.keys)


def _has_duplicates(queries: Ints, hits: Hits) -> bool:
    ranks = order_key(key_ranks(hits.keys), hits.elements)
    if len(ranks) <= FEW_KEYS and queries[0] == queries[-1]:
        return len(set(ranks.tolist())) < len(ranks)
    if len(queries) and queries[0] == queries[-1]:
        return len(np.unique(ranks)) < len(ranks)
    return not isinstance(_first_of_each(queries, ranks), slice)


def selected(hits: Hits, order: Ints, counts: Ints) -> Hits:
    """The hits at the positions ``order``, of which each query has ``counts``."""
    return Hits(
        counts,
        hits.scores[order],
        _taken(hits.keys, order),
        hits.timestamps[order],
        hits.sources[order],
        hits.offsets[order],
        None if hits.groups is None else hits.groups.take(pa.array(order)),
        None if hits.elements is None else hits.elements[order],
    )


def _taken(keys: Any, order: Ints) -> Any:
    return keys[order] if isinstance(keys, np.ndarray) else keys.take(pa.array(order))


def _joined(keys: Sequence[Any]) -> Any:
    if isinstance(keys[0], np.ndarray):
        return np.concatenate(keys)
    return pa.concat_arrays(list(keys))


def _joined_hits(parts: Sequence[Hits]) -> Hits:
    """The hits of the parts one after another; the counts are those of the first."""
    return Hits(
        parts[0].counts,
        np.concatenate([part.scores for part in parts]),
        _joined([part.keys for part in parts]),
        np.concatenate([part.timestamps for part in parts]),
        np.concatenate([part.sources for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        _joined_groups([part.groups for part in parts]),
        _joined_elements([part.elements for part in parts]),
    )


def _joined_groups(groups: Sequence[Any]) -> Any:
    return None if any(part is None for part in groups) else pa.concat_arrays(list(groups))


def _joined_elements(elements: Sequence[Any]) -> Any:
    return None if any(part is None for part in elements) else np.concatenate(elements)


def _no_keys(string_keys: bool) -> Any:
    return pa.array([], pa.string()) if string_keys else np.empty(0, np.int64)
