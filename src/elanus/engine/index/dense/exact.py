"""Exact nearest neighbours among some or all rows of blocks of vectors.

One or a few queries go row by row through faiss's distance kernels, which scan at the speed of
memory. More queries go through matrix products over pieces that stay in the cache: four times
faster than faiss's own multi-query scan at 100 queries. Rows that are not wanted are left out by
gathering the others when these are few, else by masking their scores. Winners of matrix products
are scored again by the distance kernel, so that a row's score never depends on the way taken.
Products lose the last digits of L2, all of them where vectors are far from 0 beside their
distances: queries for which that may matter go row by row after all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import (
    LOWEST,
    Bounds,
    Floats,
    Ints,
    Neighbours,
    keep_best,
    part_of,
    prepare_queries,
    scatter,
)
from elanus.engine.index.dense.products import product_errors, squared_lengths
from elanus.engine.index.library import (
    faiss,
    floats_out,
    ints_pointer,
    query_pointer,
    rows_pointer,
)
from elanus.engine.index.rows import RowSet
from elanus.engine.index.scan import rows_within, scan_blocks
from elanus.model.types import MetricType
from elanus.model.vectors import widened

MATRIX_QUERIES = 4
"""From this many queries on matrix products win."""
PIECE_ROWS = 4096
QUERY_GROUP = 256
"""Queries of one matrix product: bounds its result to PIECE_ROWS × QUERY_GROUP floats."""
MATRIX_GATHER_DENSITY = 0.5
TOLERATED_ERROR = 1e-4
"""Of products, as a part of the largest distance found."""
RESCORE_ROWS = 1 << 20
WIDENED_FLOATS = 1 << 17
"""Narrow elements are widened for the kernels by pieces of so many, which stay in the cache."""


@dataclass(frozen=True)
class VectorBlock:
    """Consecutive rows of a segment.

    vectors: (rows, dim), C-contiguous; float32, or another dense kind of elements (see
    :mod:`elanus.model.vectors`), of which kernels get pieces as float32. inverse_norms: float32
    (rows,) for COSINE over vectors as given; None if the vectors have unit length (or the metric
    does not care).
    """

    first_row: int
    vectors: npt.NDArray[Any]
    inverse_norms: Floats | None = None

    @cached_property
    def is_narrow(self) -> bool:
        """Whether the elements must be widened."""
        return bool(self.vectors.dtype != np.float32)

    @cached_property
    def pointer(self) -> Any:
        """Of the vectors of a block that is not narrow, for kernels."""
        return rows_pointer(self.vectors)

    @cached_property
    def weights_pointer(self) -> Any:
        """Of the inverse norms, for kernels; None if there are none."""
        return None if self.inverse_norms is None else rows_pointer(self.inverse_norms)

    def floats(self, which: slice | Ints) -> Floats:
        """Some of the rows as float32 (n, dim)."""
        return widened(self.vectors[which])

    def piece(self, which: slice | Ints) -> "VectorBlock":
        """Some of the rows, as float32, as a block of its own that begins with row 0."""
        norms = None if self.inverse_norms is None else self.inverse_norms[which]
        return VectorBlock(0, self.floats(which), norms)

    def pieces(self, ids: Ints | None) -> Iterator[tuple[slice, "VectorBlock"]]:
        """The rows ``ids`` (None: all) as (where they stand among these, piece)."""
        size = len(self.vectors) if ids is None else len(ids)
        step = max(64, WIDENED_FLOATS // self.vectors.shape[1])
        for start in range(0, size, step):
            which = slice(start, min(start + step, size))
            yield which, self.piece(which if ids is None else ids[which])


def exact_search(
    blocks: Sequence[VectorBlock],
    vectors: Floats,
    metric: MetricType,
    top_k: int,
    rows: RowSet | None = None,
    bounds: Bounds | None = None,
) -> Neighbours:
    """The best ``top_k`` of ``rows`` (None: all) for each of ``vectors``, float32 (nq, dim)."""
    return exact_search_prepared(
        blocks, prepare_queries(vectors, metric), metric, top_k, rows, bounds
    )


def exact_search_prepared(
    blocks: Sequence[VectorBlock],
    queries: Floats,
    metric: MetricType,
    top_k: int,
    rows: RowSet | None,
    bounds: Bounds | None,
) -> Neighbours:
    """``exact_search`` for vectors that ``prepare_queries`` has been over."""
    if not blocks or (rows is not None and rows.count == 0):
        return Neighbours.none(len(queries))

    def scored(query: Floats) -> Callable[[VectorBlock, Ints | None], Floats]:
        return lambda block, ids: score_rows(query, block, metric, ids)

    # Products lose digits of L2, so that a bound could keep out what belongs in.
    is_scanned = np.ones(len(queries), np.bool_)
    parts: list[tuple[Ints, Neighbours]] = []
    if len(queries) >= MATRIX_QUERIES and (bounds is None or metric is not MetricType.L2):
        for start in range(0, len(queries), QUERY_GROUP):
            products = _Products(queries[start : start + QUERY_GROUP], metric, top_k, bounds)
            found = products.run(blocks, rows)
            doubtful = products.are_doubtful(found)
            is_scanned[start : start + QUERY_GROUP] = doubtful
            parts.append((start + np.flatnonzero(~doubtful), part_of(found, ~doubtful)))
    for i in np.flatnonzero(is_scanned).tolist():
        scanned = scan_blocks(blocks, scored(queries[i : i + 1]), top_k, rows, bounds)
        parts.append((np.array([i]), scanned))
    return scatter(parts, len(queries))


def pointer(array: Any) -> Any:
    return faiss.swig_ptr(array)


def score_rows(query: Floats, block: VectorBlock, metric: MetricType, ids: Ints | None) -> Floats:
    """Similarities of one prepared query (1, dim) to the block's rows ``ids`` (within the block,
    ascending; None: all)."""
    dim = query.shape[1]
    size = len(block.vectors) if ids is None else len(ids)
    if size == 0:
        return np.empty(0, np.float32)
    if block.is_narrow:
        widened_rows = np.empty(size, np.float32)
        for which, piece in block.pieces(ids):
            widened_rows[which] = score_rows(query, piece, metric, None)
        return widened_rows
    is_l2 = metric is MetricType.L2
    x, y = query_pointer(query), block.pointer
    result, out, is_kept = floats_out(size)
    if ids is None:
        kernel = faiss.fvec_L2sqr_ny if is_l2 else faiss.fvec_inner_products_ny
        kernel(out, x, y, dim, size)
    else:
        kernel = faiss.fvec_L2sqr_by_idx if is_l2 else faiss.fvec_inner_products_by_idx
        kernel(out, x, y, ints_pointer(ids), dim, 1, size)
    kept = result if is_kept else None
    if is_l2:
        return np.negative(result, out=kept)
    if block.inverse_norms is not None and metric is MetricType.COSINE:
        norms = block.inverse_norms if ids is None else block.inverse_norms[ids]
        return np.multiply(result, norms, out=kept)
    return result if is_kept else result.copy()


class _Products:
    """One group of queries against pieces of rows, with a running bar that a row must reach."""

    def __init__(
        self, queries: Floats, metric: MetricType, top_k: int, bounds: Bounds | None
    ) -> None:
        self._queries = queries
        self._transposed = np.ascontiguousarray(queries.T)
        self._metric = metric
        self._top_k = top_k
        self._bounds = bounds
        self._squares = squared_lengths(queries)
        self._largest_square = 0.0
        self._bar = np.full(len(queries), LOWEST, np.float32)
        self._found: list[tuple[Ints, Floats, Ints]] = []
        self._pending = 0
        self._full = False
        self._buffer = np.empty((PIECE_ROWS, len(queries)), np.float32)

    def run(self, blocks: Sequence[VectorBlock], rows: RowSet | None) -> Neighbours:
        masked = rows is not None and rows.density > MATRIX_GATHER_DENSITY
        for block in blocks:
            if rows is None or masked:
                for start in range(0, len(block.vectors), PIECE_ROWS):
                    self._piece(block, slice(start, start + PIECE_ROWS), rows)
            else:
                wanted = rows_within(block, rows)
                for start in range(0, len(wanted), PIECE_ROWS):
                    self._piece(block, wanted[start : start + PIECE_ROWS], None)
        return self._rescored(self._compress(), blocks)

    def are_doubtful(self, found: Neighbours) -> npt.NDArray[np.bool_]:
        """bool (nq,): the queries for which digits that were lost may have kept out a row."""
        is_full = found.counts == self._top_k
        if self._metric is not MetricType.L2 or not is_full.any():
            return np.zeros(len(self._queries), np.bool_)
        worst = np.full(len(self._queries), np.inf, np.float32)
        worst[is_full] = -found.similarities[np.cumsum(found.counts)[is_full] - 1]
        errors = product_errors(self._squares, self._largest_square)
        doubtful: npt.NDArray[np.bool_] = ~(errors <= TOLERATED_ERROR * worst)
        return doubtful

    def _piece(self, block: VectorBlock, which: slice | Ints, rows: RowSet | None) -> None:
        vectors = block.floats(which)
        similarities = np.matmul(vectors, self._transposed, out=self._buffer[: len(vectors)])
        if self._metric is MetricType.L2:
            squares = squared_lengths(vectors)
            self._largest_square = max(self._largest_square, float(squares.max(initial=0)))
            similarities *= 2
            similarities -= squares[:, None]
            similarities -= self._squares
        elif block.inverse_norms is not None and self._metric is MetricType.COSINE:
            similarities *= block.inverse_norms[which][:, None]
        first = block.first_row
        if rows is not None and isinstance(which, slice):
            mask = rows.mask[first + which.start : first + which.start + len(vectors)]
            similarities[~mask] = -np.inf
        if self._bounds is not None:
            similarities[~self._bounds.holds(similarities)] = -np.inf
        self._collect(
            similarities,
            first + which.start if isinstance(which, slice) else first,
            None if isinstance(which, slice) else which,
        )

    def _collect(self, similarities: Floats, first_row: int, ids: Ints | None) -> None:
        nq = similarities.shape[1]
        if self._full:
            chosen = np.flatnonzero(similarities > self._bar)
        else:
            self._raise_bar(similarities)
            chosen = np.flatnonzero(similarities >= self._bar)
        if not len(chosen):
            return
        row = chosen // nq
        offsets = first_row + (row if ids is None else ids[row])
        self._found.append((chosen % nq, similarities.ravel()[chosen], offsets))
        self._pending += len(chosen)
        if self._pending > 2 * self._top_k * nq + 1024:
            self._compress()

    def _raise_bar(self, similarities: Floats) -> None:
        """See ``neighbours.threshold``: the k-th best of the maxima of groups of rows."""
        rows, nq = similarities.shape
        group = rows // (2 * self._top_k)
        if group < 2:
            return
        maxima = similarities[: rows // group * group].reshape(group, -1, nq).max(axis=0)
        at = len(maxima) - self._top_k
        np.maximum(self._bar, np.partition(maxima, at, axis=0)[at], out=self._bar)

    def _compress(self) -> Neighbours:
        nq = len(self._queries)
        if not self._found:
            return Neighbours.none(nq)
        queries, similarities, offsets = (
            np.concatenate(part) for part in zip(*self._found, strict=True)
        )
        kept = keep_best(queries, similarities, offsets, nq, self._top_k)
        if (kept.counts == self._top_k).all():
            # Rows come in ascending order: a later one must be better, not equal, to get in.
            self._full = True
            self._bar = kept.similarities.reshape(nq, self._top_k)[:, -1].copy()
        queries = np.repeat(np.arange(nq), kept.counts)
        self._found = [(queries, kept.similarities, kept.offsets)]
        self._pending = 0
        return kept

    def _rescored(self, found: Neighbours, blocks: Sequence[VectorBlock]) -> Neighbours:
        if not len(found.offsets):
            return found
        queries = np.repeat(np.arange(len(self._queries)), found.counts)
        similarities = score_pairs_of(self._queries, queries, blocks, found.offsets, self._metric)
        if self._bounds is not None:
            held = np.flatnonzero(self._bounds.holds(similarities))
            queries, similarities = queries[held], similarities[held]
            return keep_best(
                queries, similarities, found.offsets[held], len(self._queries), self._top_k
            )
        return keep_best(queries, similarities, found.offsets, len(self._queries), self._top_k)


def score_pairs_of(
    queries: Floats, which: Ints, blocks: Sequence[VectorBlock], offsets: Ints, metric: MetricType
) -> Floats:
    """Similarities of the pairs (``queries[which[i]]``, the segment's row ``offsets[i]``)."""
    if len(blocks) == 1:
        return score_pairs(queries, which, blocks[0], offsets - blocks[0].first_row, metric)
    similarities = np.empty(len(which), np.float32)
    for block in blocks:
        within = offsets - block.first_row
        at = np.flatnonzero((within >= 0) & (within < len(block.vectors)))
        if len(at):
            similarities[at] = score_pairs(queries, which[at], block, within[at], metric)
    return similarities


def score_pairs(
    queries: Floats, which: Ints, block: VectorBlock, ids: Ints, metric: MetricType
) -> Floats:
    """Similarities of the pairs (``queries[which[i]]``, row ``ids[i]`` of the block)."""
    result = np.empty(len(which), np.float32)
    which, ids = np.ascontiguousarray(which), np.ascontiguousarray(ids)
    if block.is_narrow:
        for part, piece in block.pieces(ids):
            within = np.arange(part.stop - part.start)
            result[part] = score_pairs(queries, which[part], piece, within, metric)
        return result
    kernel = (
        faiss.pairwise_indexed_L2sqr
        if metric is MetricType.L2
        else faiss.pairwise_indexed_inner_product
    )
    kernel(
        queries.shape[1],
        len(which),
        pointer(queries),
        pointer(which),
        pointer(block.vectors),
        pointer(ids),
        pointer(result),
    )
    if metric is MetricType.L2:
        return np.negative(result, out=result)
    if block.inverse_norms is not None and metric is MetricType.COSINE:
        result *= block.inverse_norms[ids]
    return result
