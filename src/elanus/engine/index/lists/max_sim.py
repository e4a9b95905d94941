"""Exact scores of lists of vectors against one list of query vectors.

The score of a row is a sum: of each query vector's similarity to that vector of the row which is
most like it. So every query vector is compared with every vector of the rows, in pieces of whole
rows that stay in the cache.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from elanus.engine.index.binary import exact as binary
from elanus.engine.index.binary.column import BinaryColumn
from elanus.engine.index.binary.exact import BinaryBlock
from elanus.engine.index.dense import exact as dense
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, Ints, prepare_queries
from elanus.model.types import MetricType

PIECE_VECTORS = 4_096
"""Of a piece, unless one row has more."""

Elements: TypeAlias = DenseColumn | BinaryColumn
"""The vectors of all rows, one after another."""


def prepared(vectors: npt.NDArray[Any], metric: MetricType) -> npt.NDArray[Any]:
    """Query vectors, (m, width), as ``max_sim`` wants them for ``metric`` between vectors."""
    if vectors.dtype == np.uint8:
        return np.ascontiguousarray(vectors)
    return prepare_queries(vectors, metric)


def max_sim(
    elements: Elements, offsets: Ints, queries: npt.NDArray[Any], metric: MetricType, rows: Ints
) -> Floats:
    """float32 (n,): the similarities of ``rows``, int64 (n,), ascending, none of them empty.

    offsets: int64 (rows + 1,), where each row begins among the elements. queries: prepared,
    (m, width). metric: between vectors.
    """
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    ends = np.cumsum(lengths)
    blocks = elements.blocks(metric)
    result = np.empty(len(rows), np.float32)
    first = done = 0
    while first < len(rows):
        last = max(first + 1, int(np.searchsorted(ends, done + PIECE_VECTORS, "right")))
        ids = runs(starts[first:last], lengths[first:last])
        similarities = _similarities(blocks, ids, queries, metric)
        begins = ends[first:last] - lengths[first:last] - done
        best = np.maximum.reduceat(similarities, begins, axis=1)
        result[first:last] = best.sum(axis=0, dtype=np.float64)
        first, done = last, int(ends[last - 1])
    return result


def runs(starts: Ints, lengths: Ints) -> Ints:
    """The numbers ``starts[i] … starts[i] + lengths[i] - 1`` for each i, one after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Ints = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return numbers


def _similarities(
    blocks: Sequence[VectorBlock] | Sequence[BinaryBlock],
    ids: Ints,
    queries: npt.NDArray[Any],
    metric: MetricType,
) -> Floats:
    """float32 (m, n): of each query vector to each element of ``ids``, ascending."""
    result = np.empty((len(queries), len(ids)), np.float32)
    for block in blocks:
        end = block.first_row + len(block.vectors)
        low, high = np.searchsorted(ids, (block.first_row, end))
        if low < high:
            which = _compact(ids[low:high] - block.first_row)
            if isinstance(block, BinaryBlock):
                result[:, low:high] = _of_bits(block, which, queries, metric)
            else:
                result[:, low:high] = _of_numbers(block, which, queries, metric)
    return result


def _compact(ids: Ints) -> slice | Ints:
    """A slice, which copies nothing, if the ascending ids have no gap."""
    first, last = int(ids[0]), int(ids[-1])
    return slice(first, last + 1) if last - first + 1 == len(ids) else ids


def _of_numbers(
    block: VectorBlock, which: slice | Ints, queries: Floats, metric: MetricType
) -> Floats:
    piece = block.piece(which)
    if metric is MetricType.L2:
        # A product would lose the digits of small distances.
        return _by_rows(piece, queries, metric)
    similarities: Floats = queries @ piece.vectors.T
    if metric is MetricType.COSINE and piece.inverse_norms is not None:
        similarities *= piece.inverse_norms
    return similarities


def _by_rows(piece: VectorBlock, queries: Floats, metric: MetricType) -> Floats:
    found = [dense.score_rows(query[None], piece, metric, None) for query in queries]
    return np.stack(found)


def _of_bits(
    block: BinaryBlock, which: slice | Ints, queries: npt.NDArray[Any], metric: MetricType
) -> Floats:
    counts = None if block.counts is None else block.counts[which]
    piece = BinaryBlock(0, np.ascontiguousarray(block.vectors[which]), counts)
    return np.stack([binary.score_rows(query[None], piece, metric, None) for query in queries])
