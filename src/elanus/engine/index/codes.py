"""Codes that stand for vectors where no built index is there, for estimates of their similarities.

Four bits stand for two dimensions (product quantisation), so that all codes are scanned at many
times the speed of the vectors, in one call.

The kernels are faiss's; the method is from Jégou, Douze, Schmid, "Product quantization for nearest
neighbor search" (2011), and André, Kermarrec, Le Scouarnec, "Quicker ADC" (2019).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.library import faiss, faiss_metric, room, search_faiss
from elanus.model.types import MetricType

TRAINING_ROWS = 2_048
ITERATIONS = 4
LARGEST_CODED = np.float32(1e15)
LARGEST_SQUARE = 1e30


class Codes:
    """Of the rows ``0 … count-1``. Never changes: adding rows gives others."""

    def __init__(self, metric: MetricType, index: Any) -> None:
        self.metric = metric
        self.count = int(index.ntotal)
        self._index = index
        self._search = index.search_c

    @staticmethod
    def bytes_per_row(dim: int) -> int:
        """Of memory, for a field of so many dimensions."""
        return (dim + 3) // 4

    @property
    def size_bytes(self) -> int:
        return int(self._index.codes.size())

    @staticmethod
    def trained(sample: Floats, metric: MetricType) -> "Codes":
        """Of no row yet. sample: prepared vectors like those to come, ``TRAINING_ROWS`` or more."""
        training = _codable(sample)
        dim = training.shape[1]
        index = faiss.IndexPQFastScan(dim, dim // 2, 4, faiss_metric(metric))
        index.pq.cp.niter = ITERATIONS
        index.pq.cp.min_points_per_centroid = 1
        index.train(training)
        return Codes(metric, index)

    def with_added(self, pieces: Iterable[Floats]) -> "Codes":
        """These and, behind them, the codes of prepared vectors."""
        index = faiss.clone_index(self._index)
        for piece in pieces:
            index.add(_codable(piece))
        return Codes(self.metric, index)

    def codable(self, queries: Floats) -> Floats:
        """Prepared queries as ``nearest`` takes them."""
        is_unit = self.metric is MetricType.COSINE
        return queries if is_unit and not queries.shape[1] % 2 else _codable(queries)

    def nearest(self, coded: Floats, depth: int) -> tuple[Floats, Ints]:
        """By code, the best first: estimated similarities and rows, both (nq, depth); -1 is no
        row."""
        scores, labels = search_faiss(self._index, coded, depth)
        if self.metric is MetricType.L2:
            np.negative(scores, out=scores)
        return scores, labels

    def scan_room(self, depth: int) -> tuple[Floats, Ints] | None:
        """As ``nearest`` for the query in the thread's room: (estimated similarities times -1, so
        that they ascend; rows), both (depth,). None if there are fewer, or numbers are out of
        range."""
        own = room()
        self._search(1, own.query_pointer, depth, own.floats_pointer, own.ints_pointer, None)
        scores, labels = own.floats[:depth], own.ints[:depth].copy()
        losses = scores.copy() if self.metric is MetricType.L2 else -scores
        if labels.item(-1) < 0:
            return None
        is_usual = losses.item(0) > -LARGEST_SQUARE and losses.item(-1) < LARGEST_SQUARE
        return (losses, labels) if is_usual else None


def _codable(vectors: Floats) -> Floats:
    """Without numbers whose squares would leave the range of float32, and with a dimension of
    zeros more if there is an odd number of them."""
    clipped: Floats = np.minimum(np.maximum(vectors, -LARGEST_CODED), LARGEST_CODED)
    if clipped.shape[1] % 2:
        clipped = np.pad(clipped, ((0, 0), (0, 1)))
    return clipped
