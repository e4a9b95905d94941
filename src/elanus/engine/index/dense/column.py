"""Columns of dense vectors: scanned exactly, or by an interim index as far as that covers them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import Better, Interim, VectorColumn
from elanus.engine.index.better import BetterRows
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, Ints, Neighbours, inverse_norms
from elanus.engine.index.interim import InterimIndex, is_worth_building
from elanus.engine.index.library import ROOM_SIZE
from elanus.engine.index.rows import RowSet
from elanus.engine.index.unindexed import search_unindexed
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import vector_column

NORM_PIECE_ROWS = 16_384


class DenseColumn(VectorColumn):
    """``blocks``: the rows one after another. Lengths that a block lacks are computed when COSINE
    first needs them."""

    def __init__(
        self,
        blocks: Sequence[VectorBlock],
        dim: int,
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.dim = dim
        self.valid = valid
        self._blocks = tuple(blocks)
        self._measured: tuple[VectorBlock, ...] | None = None
        last = self._blocks[-1] if self._blocks else None
        self.row_count = 0 if last is None else last.first_row + len(last.vectors)

    def blocks(self, metric: MetricType) -> tuple[VectorBlock, ...]:
        """The rows for exact scans by this metric."""
        if metric is not MetricType.COSINE:
            return self._blocks
        measured = self._measured
        if measured is None:
            measured = tuple(map(_measured, self._blocks))
            self._measured = measured
        return measured

    def whole(self, metric: MetricType) -> VectorBlock | None:
        """``blocks`` if it is one of float32; None if there are several, or elements are narrow."""
        blocks = self.blocks(metric)
        return blocks[0] if len(blocks) == 1 and not blocks[0].is_narrow else None

    def search(
        self, query: VectorQuery, row_count: int, rows: RowSet | None, interim: Interim | None
    ) -> Neighbours:
        known = interim if isinstance(interim, InterimIndex) else None
        return search_unindexed(self.blocks(query.metric), known, query, row_count, rows)

    def better(self, metric: MetricType, top_k: int, interim: Interim) -> Better | None:
        block = self.whole(metric)
        if block is None or self.valid is not None or not isinstance(interim, InterimIndex):
            return None
        if interim.metric is not metric or self.dim % 2 or self.dim > ROOM_SIZE:
            return None
        return BetterRows(interim, block, top_k)

    def take(self, offsets: Ints) -> Any:
        if len(self._blocks) == 1:
            found = self._blocks[0].vectors[offsets]
        else:
            found = gather(self._blocks, offsets, self.dim)
        return vector_column(found, None if self.valid is None else self.valid[offsets])

    @property
    def size_bytes(self) -> int:
        pairs = zip(self._measured or (), self._blocks, strict=False)
        return sum(
            new.inverse_norms.nbytes
            for new, old in pairs
            if new is not old and new.inverse_norms is not None
        )

    def forget(self) -> None:
        self._measured = None

    def is_interim_due(self, current: Interim | None) -> bool:
        if not isinstance(current, InterimIndex):
            return is_worth_building(self.row_count, self.dim)
        return self.row_count - current.covered >= current.wanted_tail

    def extended(self, metric: MetricType, current: Interim | None) -> Interim | None:
        known = current if isinstance(current, InterimIndex) else None
        if known is None and not is_worth_building(self.row_count, self.dim):
            return None
        blocks = self.blocks(metric)
        if known is None or known.metric is not metric:
            known = InterimIndex.train(blocks, metric, self.row_count)
        elif known.is_outgrown(self.row_count):
            known = InterimIndex.train(blocks, metric, self.row_count, known.usual_depth)
        return known.extended(blocks, self.row_count)


def _measured(block: VectorBlock) -> VectorBlock:
    return block if block.inverse_norms is not None else with_norms(block)


def with_norms(block: VectorBlock) -> VectorBlock:
    """The block with the inverse lengths of its vectors."""
    pieces = range(0, len(block.vectors), NORM_PIECE_ROWS)
    norms: list[Floats] = [
        inverse_norms(block.floats(slice(start, start + NORM_PIECE_ROWS))) for start in pieces
    ]
    joined = np.concatenate(norms) if norms else np.empty(0, np.float32)
    return VectorBlock(block.first_row, block.vectors, joined)


def gather(blocks: Sequence[VectorBlock], offsets: Ints, dim: int) -> npt.NDArray[Any]:
    """The vectors of the rows at ``offsets``, (n, dim) of the blocks' dtype."""
    dtype = blocks[0].vectors.dtype if blocks else np.dtype(np.float32)
    result = np.empty((len(offsets), dim), dtype)
    for block in blocks:
        within = offsets - block.first_row
        at = np.flatnonzero((within >= 0) & (within < len(block.vectors)))
        if len(at):
            result[at] = block.vectors[within[at]]
    return result
