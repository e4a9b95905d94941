"""Exact scores of rows that codes chose, the same as those of exact scans.

The candidates of one query go through kernels only, in a thread's room (see
:mod:`elanus.engine.index.library`); those of many are scored into arrays of their own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import VectorBlock, pointer, score_pairs_of
from elanus.engine.index.dense.neighbours import (
    Floats,
    Ints,
    Neighbours,
    are_full,
    best_of_each,
    clear_best,
)
from elanus.engine.index.library import faiss, score_few
from elanus.model.types import MetricType


def best_labels(
    queries: Floats,
    blocks: Sequence[VectorBlock],
    labels: npt.NDArray[Any],
    metric: MetricType,
    top_k: int,
) -> Neighbours:
    """The best ``top_k`` of each query's own rows, ``labels`` (nq, depth), integers, by exact
    similarities; -1, at the end, is no row."""
    if len(labels) == 1:
        few = _score_few(queries, blocks, labels[0], metric)
        found = None if few is None else clear_best(*few, top_k)
        if found is not None:
            return found
    labels = labels.astype(np.int64, copy=False)
    return best_of_each(score_labels(queries, blocks, labels, metric), labels, top_k)


def score_labels(
    queries: Floats, blocks: Sequence[VectorBlock], labels: Ints, metric: MetricType
) -> Floats:
    """Similarities of each query to rows of its own, ``labels`` (nq, depth), of the same shape;
    -inf where the label is -1, which stand at the end."""
    few = _score_few(queries, blocks, labels[0], metric) if len(labels) == 1 else None
    if few is not None:
        return few[0][None].copy()
    block = blocks[0]
    if len(blocks) > 1 or block.first_row or block.is_narrow:
        return _score_labels_of(queries, blocks, labels, metric)
    labels = np.ascontiguousarray(labels)
    (nq, depth), is_l2 = labels.shape, metric is MetricType.L2
    result = np.empty(labels.shape, np.float32)
    # To labels below 0 this kernel gives the worst score.
    kernel = faiss.fvec_L2sqr_by_idx if is_l2 else faiss.fvec_inner_products_by_idx
    kernel(
        pointer(result),
        pointer(queries),
        block.pointer,
        pointer(labels),
        queries.shape[1],
        nq,
        depth,
    )
    if is_l2:
        return np.negative(result, out=result)
    if block.inverse_norms is not None and metric is MetricType.COSINE:
        norms = block.inverse_norms.take(labels)
        # An infinite score is not to be multiplied with 0.
        np.multiply(result, norms, out=result, where=are_full(labels) or labels >= 0)
    return result


def _score_few(
    query: Floats, blocks: Sequence[VectorBlock], labels: npt.NDArray[Any], metric: MetricType
) -> tuple[Floats, Ints] | None:
    """See ``library.score_few``; None too if the vectors are not one block of float32."""
    block = blocks[0]
    if len(blocks) > 1 or block.first_row or block.is_narrow:
        return None
    weights = block.weights_pointer if metric is MetricType.COSINE else None
    return score_few(query, block.pointer, weights, labels, metric)


def _score_labels_of(
    queries: Floats, blocks: Sequence[VectorBlock], labels: Ints, metric: MetricType
) -> Floats:
    flat = labels.ravel()
    held = np.flatnonzero(flat >= 0)
    result = np.full(len(flat), -np.inf, np.float32)
    owners = held // labels.shape[1]
    result[held] = score_pairs_of(queries, owners, blocks, flat[held], metric)
    return result.reshape(labels.shape)
