"""faiss and SciPy without their type stubs, which know a part of them or are not there.

SciPy's loops over sparse matrices are called directly: by way of its classes each call would copy
what it multiplies.
"""

from typing import Any

import faiss as _faiss
import scipy.sparse as _scipy_sparse  # type: ignore[import-untyped]
from scipy.sparse import _sparsetools

from elanus.model.types import MetricType

faiss: Any = _faiss
sparse: Any = _scipy_sparse
sparsetools: Any = _sparsetools


def faiss_metric(metric: MetricType) -> int:
    """Of dense vectors. For COSINE faiss has them of unit length and compares by inner product."""
    return int(faiss.METRIC_L2 if metric is MetricType.L2 else faiss.METRIC_INNER_PRODUCT)
