"""faiss and SciPy without their type stubs, which know a part of them or are not there.

SciPy is imported by who first needs it, not by every process: it brings along parts of NumPy that
nothing here uses, a quarter of all that a start imports.
"""

from functools import cache
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from elanus.model.types import MetricType

faiss: Any = _faiss


@cache
def sparse_matrices() -> Any:
    """SciPy's classes of sparse matrices."""
    import scipy.sparse  # type: ignore[import-untyped]

    return scipy.sparse


@cache
def sparse_loops() -> Any:
    """SciPy's loops over sparse matrices: by way of its classes each call would copy what it
    multiplies."""
    from scipy.sparse import _sparsetools

    return _sparsetools


def faiss_metric(metric: MetricType) -> int:
    """Of dense vectors. For COSINE faiss has them of unit length and compares by inner product."""
    return int(faiss.METRIC_L2 if metric is MetricType.L2 else faiss.METRIC_INNER_PRODUCT)


def search_faiss(
    index: Any, queries: npt.NDArray[np.float32], depth: int, params: Any
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """``index.search`` without the price of its checks, which a small search notices.

    queries: C-contiguous, (nq, dim). Returns scores and labels, both (nq, depth).
    """
    nq = len(queries)
    scores, labels = np.empty((nq, depth), np.float32), np.empty((nq, depth), np.int64)
    pointer = faiss.swig_ptr
    index.search_c(nq, pointer(queries), depth, pointer(scores), pointer(labels), params)
    return scores, labels
