"""Calls of faiss's approximate searches: one graph or list search with given parameters.

How deep to search, and what to do when too little comes back, is decided in ``engine.strategy``.
"""

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import pointer
from elanus.engine.index.dense.load import LoadedIndex
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours
from elanus.engine.index.library import faiss
from elanus.engine.index.rows import RowSet
from elanus.model.types import MetricType

DEFAULT_NPROBE = 8
MIN_EF = 16


def search_graph(loaded: LoadedIndex, queries: Floats, depth: int, ef: int) -> tuple[Floats, Ints]:
    """The ``depth`` best rows that a walk with ``ef`` finds, visible or not.

    queries: prepared, float32 (nq, dim). Returns similarities and labels, both (nq, depth), best
    first; label -1 where there are fewer.
    """
    params = faiss.SearchParametersHNSW(efSearch=max(ef, depth))
    scores, labels = loaded.index.search(queries, depth, params=params)
    return _similarities(scores, loaded.metric), labels


def rank_lists(loaded: LoadedIndex, queries: Floats, count: int) -> tuple[Floats, Ints]:
    """The ``count`` nearest lists of an IVF, nearest first: scores and list numbers."""
    scores, lists = loaded.index.quantizer.search(queries, count)
    return scores, lists


def search_lists(
    loaded: LoadedIndex,
    queries: Floats,
    depth: int,
    lists: tuple[Floats, Ints],
    rows: RowSet | None,
) -> tuple[Floats, Ints]:
    """The ``depth`` best rows of ``rows`` in the given lists (scores and numbers from
    ``rank_lists``; number -1 is skipped). Returns as ``search_graph``."""
    selector = None if rows is None else faiss.IDSelectorBitmap(rows.packed)
    params = faiss.SearchParametersIVF(nprobe=lists[1].shape[1], sel=selector)
    near, numbers = np.ascontiguousarray(lists[0]), np.ascontiguousarray(lists[1])
    scores = np.empty((len(queries), depth), np.float32)
    labels = np.empty((len(queries), depth), np.int64)
    # The wrapper that takes arrays does not take parameters; this is what it wraps.
    loaded.index.search_preassigned_c(
        len(queries),
        pointer(queries),
        depth,
        pointer(numbers),
        pointer(near),
        pointer(scores),
        pointer(labels),
        False,
        params,
    )
    return _similarities(scores, loaded.metric), labels


def compact(
    similarities: Floats, labels: Ints, kept: npt.NDArray[np.bool_], top_k: int
) -> Neighbours:
    """The first ``top_k`` of each row of a result where ``kept``, bool (nq, depth)."""
    kept = kept & (np.cumsum(kept, axis=1, dtype=np.int32) <= top_k)
    return Neighbours(kept.sum(axis=1, dtype=np.int64), similarities[kept], labels[kept])


def _similarities(scores: Floats, metric: MetricType) -> Floats:
    return np.negative(scores, out=scores) if metric is MetricType.L2 else scores
