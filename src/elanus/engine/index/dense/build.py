"""Builds index files: HNSW and IVF_FLAT by faiss. FLAT has no file, it scans the column.

For COSINE the index holds vectors of unit length and compares by inner product. Vectors go in by
pieces, so that a build over a mapped column needs the index's memory and no second copy.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Floats, prepare_queries
from elanus.engine.index.library import faiss
from elanus.errors import InvalidParameter
from elanus.model.types import MetricType

PIECE_ROWS = 16_384
TRAINING_ROWS_PER_LIST = 256
MIN_ROWS_PER_LIST = 39
DEFAULT_NLIST = 128
DEFAULT_M = 30
DEFAULT_EF_CONSTRUCTION = 360

FILE_INDEX_TYPES = frozenset({"HNSW", "IVF_FLAT"})
"""Index types that live in a file; FLAT is searched without one."""


def build_index(
    index_type: str,
    metric: MetricType,
    params: Mapping[str, Any],
    vectors: npt.NDArray[np.float32],
    out_path: str,
    threads: int = 1,
) -> int:
    """Build over ``vectors``, float32 (rows, dim), memory-mapped or not, and write ``out_path``.

    params: M, efConstruction (HNSW); nlist (IVF_FLAT); values may be text. Returns the number of
    rows. Raises InvalidParameter for a type that has no file. The caller makes the file durable.
    """
    if index_type not in FILE_INDEX_TYPES:
        raise InvalidParameter(
            "index type can't be built into a file",
            expected=" or ".join(sorted(FILE_INDEX_TYPES)),
            actual=index_type,
        )
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(1, threads))
    try:
        index = _hnsw(metric, params, vectors) if index_type == "HNSW" else None
        index = index if index is not None else _ivf_flat(metric, params, vectors)
        for piece in _pieces(vectors, metric):
            index.add(piece)
        faiss.write_index(index, out_path)
        return int(index.ntotal)
    finally:
        faiss.omp_set_num_threads(before)


def faiss_metric(metric: MetricType) -> int:
    return int(faiss.METRIC_L2 if metric is MetricType.L2 else faiss.METRIC_INNER_PRODUCT)


def _pieces(vectors: Floats, metric: MetricType) -> Iterator[Floats]:
    for start in range(0, len(vectors), PIECE_ROWS):
        yield prepare_queries(vectors[start : start + PIECE_ROWS], metric)


def _hnsw(metric: MetricType, params: Mapping[str, Any], vectors: Floats) -> Any:
    index = faiss.IndexHNSWFlat(
        vectors.shape[1], int(params.get("M", DEFAULT_M)), faiss_metric(metric)
    )
    index.hnsw.efConstruction = int(params.get("efConstruction", DEFAULT_EF_CONSTRUCTION))
    return index


def _ivf_flat(metric: MetricType, params: Mapping[str, Any], vectors: Floats) -> Any:
    rows, dim = vectors.shape
    # Lists of fewer rows than this are noise: a small segment gets fewer lists.
    nlist = max(1, min(int(params.get("nlist", DEFAULT_NLIST)), rows // MIN_ROWS_PER_LIST))
    flat = faiss.IndexFlatL2(dim) if metric is MetricType.L2 else faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(flat, dim, nlist, faiss_metric(metric))
    index.cp.min_points_per_centroid = 1
    step = max(1, rows // (nlist * TRAINING_ROWS_PER_LIST))
    index.train(prepare_queries(vectors[::step], metric))
    return index
