"""faiss and SciPy without their type stubs, which know a part of them or are not there.

SciPy is imported by who first needs it, not by every process: it brings along parts of NumPy that
nothing here uses, a quarter of all that a start imports.
"""

from functools import cache
from typing import Any

import faiss as _faiss

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
