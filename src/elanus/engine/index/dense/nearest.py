"""The usual search of an index, the best of all rows for one query, by as few steps as can be.

Behind a kernel that has gone through a megabyte of codes the caches are cold, and whatever object
Python or NumPy touches costs several times what it costs with warm ones. So what is the same for
all such queries is bound once, in functions that are prepared for one number of hits and one choice
of parameters. See ``VectorIndex.nearest``.
"""

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import LOWEST, Floats, Ints
from elanus.engine.index.library import ROOM_SIZE, score_in_room
from elanus.model.types import MetricType

Ranked = tuple[Floats, Ints]
"""Similarities, float32 (top_k,), and rows, int64 (top_k,), best first."""
Rank = Callable[[npt.NDArray[Any]], Ranked | None]


def ranking(block: VectorBlock, metric: MetricType, top_k: int) -> Rank | None:
    """What finds the best ``top_k`` of candidates, integers (depth,), by exact similarities to the
    query that is in the thread's room. None, of either, as ``VectorIndex.nearest`` says.

    block: all rows, as float32.
    """
    dim, is_l2 = int(block.vectors.shape[1]), metric is MetricType.L2
    vectors = block.pointer
    weights = block.weights_pointer if metric is MetricType.COSINE else None

    def rank(labels: npt.NDArray[Any]) -> Ranked | None:
        similarities, rows = score_in_room(vectors, weights, labels, dim, is_l2)
        order = similarities.argsort()[: -top_k - 2 : -1]
        best = similarities.take(order)
        if not is_cut_clear(best, top_k):
            return None
        return best[:top_k], rows.take(order[:top_k])

    return rank if dim <= ROOM_SIZE else None


def is_cut_clear(best: Floats, top_k: int) -> bool:
    """Whether the row behind the first ``top_k`` is there, and scores less than the last of
    them. What is no number comes first."""
    if len(best) <= top_k:
        return False
    first, last, behind = best.item(0), best.item(top_k - 1), best.item(top_k)
    return bool(first >= last > behind >= LOWEST)
