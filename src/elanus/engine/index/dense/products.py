"""How far distances by L2 that come of matrix products can be trusted.

Many vectors are compared with many others by ‖x‖² − 2xy + ‖y‖², by faiss as by us. In float32 that
is off by a part of the squared lengths: nothing beside the distances of most vectors, more than
these where vectors lie close together and far from 0. Then differences must do, which faiss takes
for fewer vectors at once, and wherever it goes from row to row of a list or of a graph.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.library import faiss

PRODUCT_ERROR = 4 * float(np.finfo(np.float32).eps)
"""What a squared distance may be off, as a part of the sum of the squared lengths."""
LONGER = 4.0
"""Times the squared length of a query: the distance of a vector that is longer than that is hardly
less than its own squared length, and so are errors hardly a larger part of it."""
TOLERATED_OF_A_LIST = 1e-3
"""Error as a part of the distance of the last list that is looked into, or of a neighbour."""
NEVER = (1 << 31) - 1

COMPARED_ROWS = 64
"""Of a sample, with all of it."""
BLURRED_SHARE = 1 / 8


def squared_lengths(vectors: Floats) -> Floats:
    """float32 (n,) of (n, dim)."""
    squares: Floats = np.einsum("ij,ij->i", vectors, vectors)
    return squares


def product_errors(squares: Floats, largest_square: float = np.inf) -> Floats:
    """What products may be off, float32 (n,), for queries of these squared lengths and vectors of
    at most the ``largest_square``."""
    own: Floats = PRODUCT_ERROR * squares
    errors: Floats = own + np.minimum(LONGER * own, PRODUCT_ERROR * largest_square)
    return errors


def most_by_differences(dim: int) -> int:
    """Vectors of so many dimensions that faiss compares with others at once without products."""
    return max(1, (int(faiss.cvar.distance_compute_blas_threshold) - 1) // dim)


def nearest_lists(
    quantizer: Any, queries: Floats, count: int, decisive: int
) -> tuple[Floats, Ints]:
    """The lists whose centroids are nearest by L2, of a flat index over these: distances and
    numbers, both (nq, count), nearest first. The first ``decisive`` ones are right."""
    near, numbers = quantizer.search(queries, count)
    few = most_by_differences(queries.shape[1])
    if len(queries) <= few:
        return near, numbers
    errors = product_errors(squared_lengths(queries))
    doubtful = np.flatnonzero(~(errors <= TOLERATED_OF_A_LIST * near[:, decisive - 1]))
    for start in range(0, len(doubtful), few):
        which = doubtful[start : start + few]
        near[which], numbers[which] = quantizer.search(queries[which], count)
    return near, numbers


def are_blurred(sample: Floats) -> bool:
    """Whether products don't tell apart vectors as near to each other as those of a sample,
    float32 (n, dim)."""
    compared = np.ascontiguousarray(sample[:: -(-len(sample) // COMPARED_ROWS)])
    nearest = np.array([_nearest_other(vector, sample) for vector in compared])
    errors = product_errors(squared_lengths(compared))
    blurred: npt.NDArray[np.bool_] = errors > TOLERATED_OF_A_LIST * nearest
    return bool(blurred.mean() > BLURRED_SHARE)


def _nearest_other(vector: Floats, sample: Floats) -> float:
    """The squared distance of the nearest vector that isn't the same."""
    distances = np.empty(len(sample), np.float32)
    pointers = map(faiss.swig_ptr, (distances, vector, sample))
    faiss.fvec_L2sqr_ny(*pointers, sample.shape[1], len(sample))
    return float(distances.min(initial=np.inf, where=distances > 0))


@contextmanager
def differences_only() -> Iterator[None]:
    """No products by faiss meanwhile, whichever thread of the process asks."""
    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = NEVER
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
