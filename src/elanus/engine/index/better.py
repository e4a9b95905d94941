"""Rows without a built index that beat what was found elsewhere, for one query, in few steps.

It is the usual search of growing rows: the sealed ones have been searched, and few of the growing
are as good. What :mod:`elanus.engine.index.unindexed` does for any search is written out here in a
function in which all is bound that doesn't depend on the query; why is said in
:mod:`elanus.engine.index.dense.nearest`.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import Better
from elanus.engine.index.codes import ALL
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.interim import (
    DEPTH_GROWTH,
    DEPTH_PER_HIT,
    LEAST_SCORED,
    SURE_DEVIATIONS,
    InterimIndex,
)
from elanus.engine.index.library import ROOM_SIZE, query_in_room, room, score_in_room
from elanus.model.types import MetricType


def better_rows(interim: InterimIndex, block: VectorBlock, top_k: int) -> Better | None:
    """See ``VectorColumn.better``. block: all rows, as float32."""
    codes, habits, covered = interim.codes, interim.habits, interim.covered
    row_count, dim = block.vectors.shape
    if dim % 2 or dim > ROOM_SIZE:
        return None
    is_cosine, is_l2 = interim.metric is MetricType.COSINE, interim.metric is MetricType.L2
    vectors, weights = block.pointer, block.weights_pointer if is_cosine else None
    every_tail = np.arange(covered, row_count)
    nothing = np.empty(0, np.float32), np.empty(0, np.int64)

    def better(
        query: Any, least: float, end: int, mask: npt.NDArray[np.bool_] | None
    ) -> tuple[Floats, Ints] | None:
        tail = every_tail[: end - covered]
        if end < covered or query_in_room(query, is_cosine) is None:
            return None
        learns = codes.is_listed and habits.learns_next()
        part = ALL if learns else habits.part
        for depth in (habits.depth, habits.depth * DEPTH_GROWTH):
            if depth >= covered or depth + len(tail) > ROOM_SIZE:
                return None
            losses = codes.scan_room(depth, part)
            if losses is None:
                return None
            scored = depth
            if not learns:
                hopeful = losses.searchsorted(SURE_DEVIATIONS * habits.deviation - least)
                scored = max(int(hopeful), LEAST_SCORED)
            labels = room().ints[: scored + len(tail)]
            labels[scored:] = tail
            similarities, rows = score_in_room(vectors, weights, labels, dim, is_l2)
            errors = losses[:scored] + similarities[:scored]
            deviation = math.sqrt(errors.dot(errors) / scored)
            habits.note_deviation(deviation)
            if learns:
                unit = room().query[:dim][None].copy()
                interim.learn_parts([block], unit, rows[:depth].copy(), similarities[:depth].copy())
            good = (similarities >= least).nonzero()[0]
            if mask is not None:
                good = good[mask.take(rows.take(good))]
            count, worst = len(good), least
            if count:
                order = similarities.take(good).argsort()[::-1]
                good = good.take(order)
                found = similarities.take(good)
                if count >= top_k:
                    worst = found.item(top_k - 1)
                    if count > top_k and found.item(top_k) == worst:
                        return None
            # As good as the last code may be rows behind it.
            reached = losses.searchsorted(SURE_DEVIATIONS * deviation - worst, "right")
            needed = max(int(reached) + 1, DEPTH_PER_HIT * min(count, top_k))
            habits.note_depth(needed)
            if needed <= depth:
                return (found[:top_k], rows.take(good[:top_k])) if count else nothing
        return None

    return better
