"""Rows without a built index that beat what was found elsewhere, for one query, in few steps.

It is the usual search of growing rows: the sealed ones have been searched, and few of the growing
are as good. What :mod:`elanus.engine.index.unindexed` does for any search is written out here, with
all bound that doesn't depend on the query; why is said in :mod:`elanus.engine.index.dense.nearest`.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.interim import DEPTH_PER_HIT, SURE_DEVIATIONS, InterimIndex
from elanus.engine.index.library import ROOM_SIZE, query_in_room, score_in_room
from elanus.model.types import MetricType


class BetterRows:
    """A Better (see ``VectorColumn.better``) over all rows of a column.

    block: these, as float32, with an even number of dimensions, at most ROOM_SIZE.
    """

    def __init__(self, interim: InterimIndex, block: VectorBlock, top_k: int) -> None:
        row_count, self._dim = block.vectors.shape
        self._interim = interim
        self._block = block
        self._top_k = top_k
        self._is_cosine = interim.metric is MetricType.COSINE
        self._is_l2 = interim.metric is MetricType.L2
        self._weights = block.weights_pointer if self._is_cosine else None
        self._behind = np.arange(interim.covered, row_count)

    def __call__(
        self, query: Any, least: float, end: int, mask: npt.NDArray[np.bool_] | None
    ) -> tuple[Floats, Ints] | None:
        interim, top_k = self._interim, self._top_k
        behind = self._behind[: end - interim.covered]
        if end < interim.covered or query_in_room(query, self._is_cosine) is None:
            return None
        for depth in interim.depths(top_k, least, density=1.0):
            if depth >= interim.covered or depth + len(behind) > ROOM_SIZE:
                return None
            scanned = interim.codes.scan_room(depth)
            if scanned is None:
                return None
            losses, labels = scanned
            rows = np.concatenate((labels, behind)) if len(behind) else labels
            similarities = self._score(rows)
            errors = losses + similarities[:depth]
            deviation = math.sqrt(errors.dot(errors) / depth)
            found, good = _best(similarities, rows, least, mask)
            worst = least if len(found) < top_k else found.item(top_k - 1)
            if len(found) > top_k and found.item(top_k) == worst:
                return None
            # As good as the last code may be rows behind it.
            reached = losses.searchsorted(SURE_DEVIATIONS * deviation - worst, "right")
            needed = max(int(reached) + 1, DEPTH_PER_HIT * min(len(found), top_k))
            interim.usual_depth.note(needed)
            if needed <= depth:
                return found[:top_k], good[:top_k]
        return None

    def _score(self, rows: Ints) -> Floats:
        """float32 (n,), in the room."""
        block, weights = self._block, self._weights
        return score_in_room(block.pointer, weights, rows, self._dim, self._is_l2)[0]


def _best(
    similarities: Floats, rows: Ints, least: float, mask: npt.NDArray[np.bool_] | None
) -> tuple[Floats, Ints]:
    """Those of ``mask`` (None: all) that reach ``least``, the best first."""
    good = (similarities >= least).nonzero()[0]
    if mask is not None:
        good = good[mask.take(rows.take(good))]
    found = similarities.take(good)
    if len(good) > 1:
        order = (-found).argsort(kind="stable")
        found, good = found.take(order), good.take(order)
    return found, rows.take(good)
