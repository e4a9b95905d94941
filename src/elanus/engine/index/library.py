"""faiss and SciPy without their type stubs, which know a part of them or are not there.

SciPy is imported by who first needs it, not by every process: it brings along parts of NumPy that
nothing here uses, a quarter of all that a start imports.

faiss gives the interpreter's lock away around each of its functions, the one that makes a pointer
of an array included. Where others wait for the lock, each of these is a turn of theirs, and a
search that makes ten pointers waits ten times. So the arrays of small searches are copied into a
thread's own ``Room``, of which pointers are made once.
"""

import math
import threading
from functools import cache, lru_cache
from typing import Any

import faiss as _faiss
import numpy as np
import numpy.typing as npt

from elanus.model.types import MetricType

faiss: Any = _faiss

ROOM_SIZE = 4_096
"""Elements of the arrays of a room: the dimensions of a query, the rows that are scored for it."""
KEPT_POINTERS = 1_024

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


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


class Room:
    """Arrays of one thread with their pointers, for what goes into one call of a kernel and comes
    out of it: whoever needs it longer takes a copy. ``held``: the array of ``unit_query`` that
    ``query`` begins with."""

    def __init__(self) -> None:
        self.held: Floats | None = None
        self.query = np.empty(ROOM_SIZE, np.float32)
        self.floats = np.empty(ROOM_SIZE, np.float32)
        self.weighted = np.empty(ROOM_SIZE, np.float32)
        self.ints = np.empty(ROOM_SIZE, np.int64)
        self.query_pointer = faiss.swig_ptr(self.query)
        self.floats_pointer = faiss.swig_ptr(self.floats)
        self.weighted_pointer = faiss.swig_ptr(self.weighted)
        self.ints_pointer = faiss.swig_ptr(self.ints)


class _Rooms(threading.local):
    def __init__(self) -> None:
        self.own = Room()


_rooms = _Rooms()


def query_pointer(queries: Floats) -> Any:
    """Of C-contiguous queries, for the next call of a kernel."""
    room = _rooms.own
    if room.held is not queries:
        size = queries.size
        if size > ROOM_SIZE:
            return faiss.swig_ptr(queries)
        room.query[:size] = queries.ravel()
        room.held = None
    return room.query_pointer


def unit_query(queries: Floats) -> Floats | None:
    """One query, (1, dim), at length 1, which is not to be changed; None if it is too long for a
    room, or its length can't be had in float32."""
    query = query_in_room(queries, has_unit_length=True)
    if query is None:
        return None
    unit: Floats = query[None].copy()
    _rooms.own.held = unit
    return unit


def query_in_room(queries: Floats, has_unit_length: bool) -> Floats | None:
    """One query, (1, dim), as float32 (dim,) in the room, at length 1 if so wanted; the next one
    takes its place. None as of ``unit_query``."""
    room, size = _rooms.own, queries.size
    if size > ROOM_SIZE:
        return None
    query: Floats = room.query[:size]
    query[:] = queries[0]
    room.held = None
    if has_unit_length:
        pointer = room.query_pointer
        if not is_usual(faiss.fvec_norm_L2sqr(pointer, size)):
            return None
        faiss.fvec_renorm_L2(size, 1, pointer)
    return query


def is_usual(square: float) -> bool:
    """Whether the length of a vector can be had from its square in float32."""
    return 1e-30 < square < math.inf


def ints_pointer(ints: Ints) -> Any:
    """Of C-contiguous numbers, for the next call of a kernel."""
    size = ints.size
    if size > ROOM_SIZE:
        return faiss.swig_ptr(ints)
    room = _rooms.own
    room.ints[:size] = ints.ravel()
    return room.ints_pointer


def rows_pointer(vectors: Floats) -> Any:
    """Of C-contiguous rows, as long as the caller holds them."""
    return _pointer_at(vectors.ctypes.data)


@lru_cache(maxsize=KEPT_POINTERS)
def _pointer_at(address: int) -> Any:
    return faiss.cast_integer_to_float_ptr(address)


def floats_out(size: int) -> tuple[Floats, Any, bool]:
    """Where the next call of a kernel may write, float32 (size,); its pointer; and whether the
    caller may keep it."""
    if size > ROOM_SIZE:
        result = np.empty(size, np.float32)
        return result, faiss.swig_ptr(result), True
    room = _rooms.own
    return room.floats[:size], room.floats_pointer, False


def room() -> Room:
    """The calling thread's own."""
    return _rooms.own


def score_few(
    query: Floats, vectors: Any, inverse_norms: Any, labels: npt.NDArray[Any], metric: MetricType
) -> tuple[Floats, Ints] | None:
    """``score_in_room`` for one query, (1, dim). None if the room is too small."""
    dim = query.shape[1]
    if len(labels) > ROOM_SIZE or dim > ROOM_SIZE:
        return None
    query_pointer(query)
    return score_in_room(vectors, inverse_norms, labels, dim, metric is MetricType.L2)


def score_in_room(
    vectors: Any, inverse_norms: Any, labels: npt.NDArray[Any], dim: int, is_l2: bool
) -> tuple[Floats, Ints]:
    """(similarities of the query in the room to ``labels``, integers (depth,), at most ROOM_SIZE;
    the labels), both in the room; the worst similarity to labels below 0.

    vectors, inverse_norms: pointers; the latter None unless scores are to be weighted by them. Each
    step is a kernel's: one that has just gone through a megabyte of codes leaves caches cold, and
    NumPy's loops then cost a few microseconds each, however short they are.
    """
    own, size = _rooms.own, len(labels)
    asked, out, which = own.query_pointer, own.floats_pointer, own.ints_pointer
    ids = own.ints[:size]
    ids[:] = labels
    if is_l2:
        faiss.fvec_L2sqr_by_idx(out, asked, vectors, which, dim, 1, size)
        scores = own.floats[:size]
        return np.negative(scores, out=scores), ids
    faiss.fvec_inner_products_by_idx(out, asked, vectors, which, dim, 1, size)
    if inverse_norms is None:
        return own.floats[:size], ids
    # Products with vectors of one dimension.
    faiss.fvec_inner_products_by_idx(own.weighted_pointer, out, inverse_norms, which, 1, size, 1)
    return own.weighted[:size], ids


def search_faiss(
    index: Any, queries: Floats, depth: int, params: Any = None
) -> tuple[Floats, Ints]:
    """``index.search`` without the price of its checks, which a small search notices.

    queries: C-contiguous, (nq, dim). Returns scores and labels, both (nq, depth).
    """
    nq = len(queries)
    if nq == 1 and depth <= ROOM_SIZE:
        room, query = _rooms.own, query_pointer(queries)
        index.search_c(1, query, depth, room.floats_pointer, room.ints_pointer, params)
        return room.floats[None, :depth].copy(), room.ints[None, :depth].copy()
    scores, labels = np.empty((nq, depth), np.float32), np.empty((nq, depth), np.int64)
    pointer = faiss.swig_ptr
    index.search_c(nq, pointer(queries), depth, pointer(scores), pointer(labels), params)
    return scores, labels
