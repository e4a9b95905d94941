"""BIN_IVF_FLAT: rows in lists around centroids, the nearest lists of a query are compared.

The file has the centroids and which rows each list holds; the vectors stay in the segment's
column. A list is nearer if its centroid differs in fewer bits. Where few rows survive a filter, or
many hits are wanted, more lists are looked into, until ``SEEN_PER_HIT`` survivors for each hit are
seen.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.arrays import open_arrays, write_arrays
from elanus.engine.index.base import VectorColumn, VectorIndex
from elanus.engine.index.binary.column import BinaryColumn
from elanus.engine.index.binary.exact import Bytes, differing_bits, exact_search
from elanus.engine.index.dense.neighbours import Bounds, Ints, Neighbours
from elanus.engine.index.library import faiss
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.column import joined
from elanus.errors import CorruptData, InternalError
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

_KIND = "binary inverted file"
DEFAULT_NPROBE = 8
SEEN_PER_HIT = 8
MIN_ROWS_PER_LIST = 39
TRAINING_ROWS_PER_LIST = 64
ITERATIONS = 10
PIECE_ROWS = 4_096


class BinaryIvfIndex(VectorIndex):
    """centroids: uint8 (lists, bytes). starts: int64 (lists + 1,), where each list begins in
    ``members``, int64 (rows,): rows, ascending within a list."""

    def __init__(
        self, centroids: Bytes, starts: Ints, members: Ints, metric: MetricType, dim: int
    ) -> None:
        self.index_type = "BIN_IVF_FLAT"
        self.metric = metric
        self.row_count = len(members)
        self.dim = dim
        self.size_bytes = 0
        self._centroids = centroids
        self._starts = starts
        self._members = members

    def search(self, column: VectorColumn, query: VectorQuery, rows: RowSet | None) -> Neighbours:
        if not isinstance(column, BinaryColumn):
            raise InternalError(f"{self.index_type} needs binary vectors")
        blocks = column.blocks(query.metric)
        bounds = Bounds.of(query)
        queries = np.ascontiguousarray(query.vectors)
        found = []
        for number in range(len(queries)):
            asked = queries[number : number + 1]
            near = self._near(asked, query, rows)
            chosen = near if rows is None else RowSet(self.row_count, mask=near.mask & rows.mask)
            found.append(exact_search(blocks, asked, query.metric, query.top_k, chosen, bounds))
        return joined(found)

    def _near(self, asked: Bytes, query: VectorQuery, rows: RowSet | None) -> RowSet:
        """The rows of the lists that are looked into."""
        lists = len(self._centroids)
        order = np.argsort(differing_bits(asked, self._centroids), kind="stable")
        sizes = np.diff(self._starts)
        if rows is not None:
            held = np.concatenate([[0], np.cumsum(rows.mask[self._members])])
            sizes = held[self._starts[1:]] - held[self._starts[:-1]]
        least = query.top_k if rows is None else SEEN_PER_HIT * query.top_k
        if query.radius is not None and query.range_filter is not None:
            least = self.row_count  # the inner bound may hide any number of nearer rows
        probes = min(int(query.params.get("nprobe", DEFAULT_NPROBE)), lists)
        seen = np.cumsum(sizes[order])
        probes = max(probes, int(np.searchsorted(seen, min(least, int(seen[-1])))) + 1)
        mask = np.zeros(self.row_count, np.bool_)
        for number in order[:probes]:
            mask[self._members[self._starts[number] : self._starts[number + 1]]] = True
        return RowSet(self.row_count, mask=mask)


def build_binary_ivf(vectors: Bytes, nlist: int, out_path: str, threads: int) -> int:
    """Write the lists of ``vectors``, uint8 (rows, bytes); returns the number of rows."""
    rows, width = vectors.shape
    # Lists of fewer rows than this are noise: a small segment gets fewer lists.
    nlist = max(1, min(nlist, rows // MIN_ROWS_PER_LIST))
    centroids = _centroids(vectors, nlist, threads)
    lists = np.empty(rows, np.int64)
    quantizer = faiss.IndexBinaryFlat(width * 8)
    quantizer.add(centroids)
    for start in range(0, rows, PIECE_ROWS):
        piece = np.ascontiguousarray(vectors[start : start + PIECE_ROWS])
        lists[start : start + len(piece)] = quantizer.search(piece, 1)[1][:, 0]
    starts = np.zeros(nlist + 1, np.int64)
    np.cumsum(np.bincount(lists, minlength=nlist), out=starts[1:])
    members = np.argsort(lists, kind="stable")
    arrays: dict[str, npt.NDArray[Any]] = {
        "centroids": centroids,
        "starts": starts,
        "members": members,
    }
    write_arrays(out_path, _KIND, {"rows": rows, "dim": width * 8}, arrays)
    return int(rows)


def _centroids(vectors: Bytes, nlist: int, threads: int) -> Bytes:
    """Means of clusters of bits, rounded to bits."""
    rows, width = vectors.shape
    step = max(1, math.ceil(rows / (nlist * TRAINING_ROWS_PER_LIST)))
    bits: Any = np.unpackbits(np.ascontiguousarray(vectors[::step]), axis=1)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, threads))
    try:
        clusters = faiss.Kmeans(width * 8, nlist, niter=ITERATIONS, min_points_per_centroid=1)
        clusters.train(bits.astype(np.float32))
    finally:
        faiss.omp_set_num_threads(before)
    means: npt.NDArray[np.float32] = clusters.centroids
    return np.packbits(means > 0.5, axis=1)


def open_binary_ivf(path: str, metric: MetricType, row_count: int, dim: int) -> BinaryIvfIndex:
    """Map a file of ``build_binary_ivf``. Raises CorruptData."""
    opened = open_arrays(path, _KIND)
    found = (opened.facts.get("rows"), opened.facts.get("dim"))
    if found != (row_count, dim):
        raise CorruptData(
            f"index file {path} has {found[0]} rows of {found[1]} dimensions, "
            f"expected {row_count} of {dim}"
        )
    arrays = opened.arrays
    return BinaryIvfIndex(arrays["centroids"], arrays["starts"], arrays["members"], metric, dim)
