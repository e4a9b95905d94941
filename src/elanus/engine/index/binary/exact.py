"""Exact nearest neighbours among binary vectors.

One kernel counts the bits in which a query and each row differ; with the number of bits that are
set in each, the size of union and intersection follow, and so every metric. A row belongs among
the hits of SUBSTRUCTURE if the query's bits are among its own (the query is a part of the row), of
SUPERSTRUCTURE if its own are among the query's; all such rows have the same score, 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import (
    Bounds,
    Floats,
    Ints,
    Neighbours,
    scatter,
)
from elanus.engine.index.library import faiss
from elanus.engine.index.rows import RowSet
from elanus.engine.index.scan import scan_blocks
from elanus.model.types import MetricType

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BinaryBlock:
    """Consecutive rows of a segment.

    vectors: uint8 (rows, bytes), C-contiguous. counts: int32 (rows,), how many bits of each row
    are set; None if it is not known, which HAMMING does not need.
    """

    first_row: int
    vectors: Bytes
    counts: npt.NDArray[np.int32] | None = None


def bit_counts(vectors: Bytes) -> npt.NDArray[np.int32]:
    """int32 (rows,): how many bits of each row are set."""
    zero = np.zeros((1, vectors.shape[1]), np.uint8)
    return differing_bits(zero, np.ascontiguousarray(vectors))


def exact_search(
    blocks: Sequence[BinaryBlock],
    vectors: Bytes,
    metric: MetricType,
    top_k: int,
    rows: RowSet | None = None,
    bounds: Bounds | None = None,
) -> Neighbours:
    """The best ``top_k`` of ``rows`` (None: all) for each of ``vectors``, uint8 (nq, bytes)."""
    if not blocks or (rows is not None and rows.count == 0):
        return Neighbours.none(len(vectors))
    queries = np.ascontiguousarray(vectors)

    def scored(query: Bytes) -> Callable[[BinaryBlock, Ints | None], Floats]:
        return lambda block, ids: score_rows(query, block, metric, ids)

    parts = [
        (np.array([i]), scan_blocks(blocks, scored(queries[i : i + 1]), top_k, rows, bounds))
        for i in range(len(queries))
    ]
    return scatter(parts, len(queries)) if parts else Neighbours.none(0)


def score_rows(query: Bytes, block: BinaryBlock, metric: MetricType, ids: Ints | None) -> Floats:
    """Similarities of one query (1, bytes) to the block's rows ``ids`` (within the block; None:
    all); -inf for rows that can't be hits."""
    differing = differing_bits(query, block.vectors if ids is None else block.vectors[ids])
    if metric is MetricType.HAMMING:
        similarities: Floats = np.negative(differing.astype(np.float32))
        return similarities
    counts = bit_counts(block.vectors) if block.counts is None else block.counts
    own = counts if ids is None else counts[ids]
    asked = int(np.bitwise_count(query).sum(dtype=np.int64))
    shared = (own + asked - differing) >> 1
    if metric is MetricType.JACCARD:
        union = (own + asked + differing) >> 1
        similar = shared.astype(np.float32) / np.maximum(union, 1).astype(np.float32)
        distances: Floats = np.float32(1) - similar
        return -distances
    holds = shared == (asked if metric is MetricType.SUBSTRUCTURE else own)
    return np.where(holds, np.float32(-0.0), np.float32(-np.inf))


def differing_bits(query: Bytes, vectors: Bytes) -> npt.NDArray[np.int32]:
    """int32 (rows,): the bits in which each row differs from the query (1, bytes)."""
    result = np.empty(len(vectors), np.int32)
    if len(vectors):
        ends: Any = (faiss.swig_ptr(query), faiss.swig_ptr(vectors))
        faiss.hammings(*ends, 1, len(vectors), vectors.shape[1], faiss.swig_ptr(result))
    return result
