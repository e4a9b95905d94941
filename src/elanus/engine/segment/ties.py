"""Rows that tie with the last hit.

Which of several equal rows is a hit is decided by their primary keys, so that pages neither repeat
nor lose a row. A kernel decides by row offset, or as it pleases. So one row more than wanted is
asked for: it shows whether the last hit ties with a row behind it, and only then the search goes on
until it is past the tie, unless what was found holds all that tie.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from elanus.engine.index.dense.neighbours import (
    Ints,
    Neighbours,
    equal_counts,
    part_of,
    scatter,
)
from elanus.model.reads import VectorQuery
from elanus.model.vectors import take_vectors

Find = Callable[[VectorQuery], Neighbours]

GROWTH = 16
"""Rows asked for next, for each row that was not enough: bounds the number of searches."""


def find_with_ties(find: Find, query: VectorQuery, available: int) -> Neighbours:
    """The best ``top_k`` rows of each query, and whatever else scores as the last of them.

    find: the best rows of a query, equal ones in any choice. available: rows that there are.
    """
    top_k = query.top_k
    if available <= top_k:
        return find(query)
    width = top_k + 1
    found = find(query.wanting(width))
    clear = _clear(found, top_k) if len(found.counts) == 1 else _all_clear(found, top_k)
    if clear is not None:
        return clear
    if found.holds_ties:
        return _without_worse(found, top_k)
    torn = _are_torn(found, top_k, width)
    if not torn.any():
        return _without_worse(found, top_k)
    pending = np.arange(len(found.counts))
    parts = []
    while True:
        parts.append((pending[~torn], _without_worse(part_of(found, ~torn), top_k)))
        pending = pending[torn]
        if not len(pending):
            return scatter(parts, len(query.vectors))
        width = min(width * GROWTH, available)
        vectors = take_vectors(query.vectors, pending)
        found = find(replace(query, vectors=vectors, top_k=width))
        torn = _are_torn(found, top_k, width)
        if width == available:
            torn[:] = False


def _clear(found: Neighbours, top_k: int) -> Neighbours | None:
    """The hits of one query by as few steps as can be; None if the last one is tied."""
    similarities = found.similarities
    if len(similarities) <= top_k:
        return found
    if similarities.item(top_k) == similarities.item(top_k - 1):
        return None
    return Neighbours(equal_counts(1, top_k), similarities[:top_k], found.offsets[:top_k])


def _all_clear(found: Neighbours, top_k: int) -> Neighbours | None:
    """As ``_clear`` for several queries; None too if one of them found less than was asked for."""
    nq, width = len(found.counts), top_k + 1
    if len(found.offsets) != nq * width or not bool((found.counts == width).all()):
        return None
    similarities = found.similarities.reshape(nq, width)
    if bool((similarities[:, -1] == similarities[:, -2]).any()):
        return None
    offsets = found.offsets.reshape(nq, width)[:, :-1].ravel()
    return Neighbours(equal_counts(nq, top_k), similarities[:, :-1].ravel(), offsets)


def _are_torn(found: Neighbours, top_k: int, width: int) -> npt.NDArray[np.bool_]:
    """bool (nq,): whether the last of ``width`` rows equals the one at place ``top_k``, so that
    more such rows may follow."""
    torn: npt.NDArray[np.bool_] = found.counts == width
    ends = np.cumsum(found.counts)[torn]
    torn[torn] = found.similarities[ends - 1] == found.similarities[ends - 1 - width + top_k]
    return torn


def _without_worse(found: Neighbours, top_k: int) -> Neighbours:
    """Without the rows that score less than the one at place ``top_k`` of their query."""
    if int(found.counts.max(initial=0)) <= top_k:
        return found
    if len(found.counts) == 1:
        tied = found.similarities[top_k:] == found.similarities[top_k - 1]
        end = top_k + int(np.count_nonzero(tied))
        return Neighbours(np.array([end]), found.similarities[:end], found.offsets[:end])
    starts = np.cumsum(found.counts) - found.counts
    queries = np.repeat(np.arange(len(found.counts)), found.counts)
    places = np.arange(len(found.offsets)) - starts[queries]
    last = _last_of(found, starts, top_k)
    kept = (places < top_k) | (found.similarities == last[queries])
    counts: Ints = np.bincount(queries[kept], minlength=len(found.counts))
    return Neighbours(counts, found.similarities[kept], found.offsets[kept])


def _last_of(found: Neighbours, starts: Ints, top_k: int) -> npt.NDArray[np.float32]:
    """float32 (nq,): the similarity at place ``top_k`` of each query; NaN where there is none."""
    last = np.full(len(starts), np.nan, np.float32)
    long = found.counts >= top_k
    last[long] = found.similarities[starts[long] + top_k - 1]
    return last
