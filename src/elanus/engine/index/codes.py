"""Codes that stand for vectors where no built index is there, for estimates of their similarities.

Four bits stand for two dimensions (product quantisation), so that all codes are scanned at many
times the speed of the vectors, in one call. Codes of many rows lie in lists around centroids, and a
scan of the nearest lists finds most of what a scan of all finds, without reading the rest.

The kernels are faiss's; the method is from Jégou, Douze, Schmid, "Product quantization for nearest
neighbor search" (2011), and André, Kermarrec, Le Scouarnec, "Quicker ADC" (2019).
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.library import faiss, faiss_metric, room, search_faiss
from elanus.model.types import MetricType

MIN_LISTED_ROWS = 32_768
"""Codes of fewer rows fit into a core's own cache, where scanning all takes no longer."""
MAX_LISTS = 512
"""More of them would make adding rows slower than searching them faster."""
TRAINING_ROWS = 2_048
TRAINING_ROWS_PER_LIST = 32
ITERATIONS = 4
LIST_ITERATIONS = 8
LARGEST_CODED = np.float32(1e15)
LARGEST_SQUARE = 1e30

PARTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the lists, that a scan may be confined to."""
ALL = len(PARTS) - 1


class Codes:
    """Of the rows ``0 … count-1``. Never changes: adding rows gives others.

    ``is_listed``: scans may be confined to a part of the lists.
    """

    def __init__(self, metric: MetricType, index: Any) -> None:
        self.metric = metric
        self.count = int(index.ntotal)
        self.is_listed = isinstance(index, faiss.IndexIVFPQFastScan)
        self._index = index
        self._search = index.search_c
        self._scans: list[Any] = [None] * len(PARTS)
        if self.is_listed:
            self._scans = [_scan_of(index.nlist, part) for part in PARTS]

    @staticmethod
    def bytes_per_row(dim: int) -> int:
        """Of memory: the code, and the row's number in a list."""
        return _code_bytes(dim) + 8

    @property
    def size_bytes(self) -> int:
        return self.count * (_code_bytes(self._index.d) + (8 if self.is_listed else 0))

    @staticmethod
    def training_rows(row_count: int) -> int:
        """How many of so many rows ``trained`` is to be given."""
        return max(TRAINING_ROWS, _list_count(row_count) * TRAINING_ROWS_PER_LIST)

    @staticmethod
    def trained(sample: Floats, metric: MetricType, row_count: int) -> "Codes":
        """Of no row yet. sample: prepared vectors like those of the ``row_count`` rows to come."""
        training = _codable(sample)
        dim, lists = training.shape[1], _list_count(row_count)
        arguments = dim // 2, 4, faiss_metric(metric)
        if lists == 1:
            index = faiss.IndexPQFastScan(dim, *arguments)
        else:
            is_l2 = metric is MetricType.L2
            centroids = faiss.IndexFlatL2(dim) if is_l2 else faiss.IndexFlatIP(dim)
            index = faiss.IndexIVFPQFastScan(centroids, dim, lists, *arguments)
            # With L2 each list would need sums of its own.
            index.by_residual = not is_l2
            index.cp.niter = LIST_ITERATIONS
            index.cp.min_points_per_centroid = 1
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

    def nearest(self, coded: Floats, depth: int, part: int = ALL) -> tuple[Floats, Ints]:
        """By code, the best first: estimated similarities and rows, both (nq, depth); -1 is no row.

        part: index of ``PARTS``, the part of the lists that is scanned, those nearest to the query.
        """
        scores, labels = search_faiss(self._index, coded, depth, self._scans[part])
        if self.metric is MetricType.L2:
            np.negative(scores, out=scores)
        return scores, labels

    def scan_room(self, depth: int, part: int) -> tuple[Floats, Ints] | None:
        """As ``nearest`` for the query in the thread's room: (estimated similarities times -1, so
        that they ascend; rows), both (depth,). None if there are fewer, or numbers are out of
        range."""
        own = room()
        self._search(
            1, own.query_pointer, depth, own.floats_pointer, own.ints_pointer, self._scans[part]
        )
        scores, labels = own.floats[:depth], own.ints[:depth].copy()
        losses = scores.copy() if self.metric is MetricType.L2 else -scores
        if labels.item(-1) < 0:
            return None
        is_usual = losses.item(0) > -LARGEST_SQUARE and losses.item(-1) < LARGEST_SQUARE
        return (losses, labels) if is_usual else None

    def parts_with(self, query: Floats, vectors: Floats) -> Ints:
        """For each of some prepared vectors the smallest of ``PARTS``, by index, in which a search
        for ``query``, (1, dim), comes across it."""
        centroids, lists = self._index.quantizer, self._index.nlist
        _, nearest = centroids.search(_codable(query), lists)
        _, owners = centroids.search(_codable(vectors), 1)
        ranks = np.empty(lists, np.int64)
        ranks[nearest[0]] = np.arange(lists)
        scanned = [scan.nprobe for scan in self._scans]
        found: Ints = np.searchsorted(scanned, ranks[owners[:, 0]], "right")
        return found


def _code_bytes(dim: int) -> int:
    return (dim + 3) // 4


def _list_count(row_count: int) -> int:
    if row_count < MIN_LISTED_ROWS:
        return 1
    return min(1 << math.ceil(math.log2(row_count) / 2), MAX_LISTS)


def _scan_of(lists: int, part: float) -> Any:
    return faiss.SearchParametersIVF(nprobe=max(1, math.ceil(lists * part)))


def _codable(vectors: Floats) -> Floats:
    """Without numbers whose squares would leave the range of float32, and with a dimension of
    zeros more if there is an odd number of them."""
    clipped: Floats = np.minimum(np.maximum(vectors, -LARGEST_CODED), LARGEST_CODED)
    if clipped.shape[1] % 2:
        clipped = np.pad(clipped, ((0, 0), (0, 1)))
    return clipped
