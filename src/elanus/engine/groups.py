"""Hits in groups: which rows stay, and the order in which users get them.

A group is as good as its best row. The best groups of a query stay, each with the best of its rows;
equal scores are ordered by primary key, as they are among hits without groups.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Ints
from elanus.engine.reduce import merge_hits, selected
from elanus.errors import Unavailable
from elanus.model.reads import Hits, VectorQuery


def merge_found(parts: Sequence[Hits], query: VectorQuery) -> Hits:
    """Many answers to one search become one: the best hits, or the best groups. Raises ValueError
    without any part."""
    if query.grouping is None:
        return merge_hits(parts, query.top_k, query.metric.larger_is_better)
    return best_groups(merge_all(parts, query), query.top_k, query.grouping.size)


def merge_all(parts: Sequence[Hits], query: VectorQuery) -> Hits:
    """All hits, the best first, one for each key."""
    total = sum(len(part.scores) for part in parts)
    return merge_hits(parts, max(total, 1), query.metric.larger_is_better)


def best_groups(hits: Hits, top_k: int, size: int) -> Hits:
    """The hits of each query's best ``top_k`` groups, at most ``size`` of each, the best first."""
    if not len(hits.scores):
        return hits
    ranks, places = standings(hits.counts, hits.groups)
    kept = np.flatnonzero((ranks < top_k) & (places < size))
    return selected(hits, kept, _counts(hits, kept)) if len(kept) < len(ranks) else hits


def group_by_group(hits: Hits, offset: int) -> tuple[Hits, Ints]:
    """Each query's hits without its first ``offset`` groups, one group after another; and where
    they stood among ``hits``, int64 (n,)."""
    if not len(hits.scores):
        return hits, np.empty(0, np.int64)
    ranks, places = standings(hits.counts, hits.groups)
    queries = np.repeat(np.arange(len(hits.counts)), hits.counts)
    order = np.lexsort((places, ranks, queries))
    order = order[ranks[order] >= offset]
    return selected(hits, order, _counts(hits, order)), order


def standings(counts: Ints, groups: Any) -> tuple[Ints, Ints]:
    """(the rank of each hit's group among its query's groups, the hit's place within the group),
    both int64 (n,), from 0. Of some hits, the best of a query first, as Hits has them."""
    codes = group_codes(groups)
    queries = np.repeat(np.arange(len(counts)), counts)
    slots = queries * (int(codes.max()) + 1) + codes
    order = np.argsort(slots, kind="stable")
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = slots[order][1:] != slots[order][:-1]
    starts = np.flatnonzero(fresh)
    sizes = np.diff(np.append(starts, len(order)))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    first = np.empty(len(order), np.int64)
    first[order] = np.repeat(order[starts], sizes)
    # A group's rank: how many groups begin before it in the hits of its query.
    begins = np.zeros(len(order) + 1, np.int64)
    begins[order[starts] + 1] = 1
    begun = np.cumsum(begins)
    before_query = begun[np.cumsum(counts) - counts]
    return begun[first] - before_query[queries], places


def group_codes(values: Any) -> Ints:
    """int64 (n,): equal for equal values of an Arrow array, nulls among them. Raises Unavailable if
    the hits have come without groups, from a node of an older version."""
    if values is None:
        raise Unavailable("a node of an older version can't group hits yet, try again later")
    encoded = values.dictionary_encode(null_encoding="encode")
    codes: Ints = np.asarray(encoded.indices).astype(np.int64)
    return codes


def _counts(hits: Hits, kept: npt.NDArray[np.int64]) -> Ints:
    """int64 (nq,): how many of the hits at these positions each query has."""
    queries = np.repeat(np.arange(len(hits.counts)), hits.counts)
    counts: Ints = np.bincount(queries[kept], minlength=len(hits.counts))
    return counts
