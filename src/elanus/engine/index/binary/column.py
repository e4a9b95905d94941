"""Columns of binary vectors. They are scanned, which is fast: there is no interim index."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.base import Interim, VectorColumn
from elanus.engine.index.binary.exact import BinaryBlock, bit_counts, exact_search
from elanus.engine.index.dense.neighbours import Bounds, Ints, Neighbours
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import vector_column


class BinaryColumn(VectorColumn):
    """``blocks``: the rows one after another. Counts of bits that a block lacks are made when a
    metric first needs them."""

    def __init__(
        self, blocks: Sequence[BinaryBlock], dim: int, valid: npt.NDArray[np.bool_] | None = None
    ) -> None:
        self.dim = dim
        self.valid = valid
        self._blocks = tuple(blocks)
        self._counted: tuple[BinaryBlock, ...] | None = None
        last = self._blocks[-1] if self._blocks else None
        self.row_count = 0 if last is None else last.first_row + len(last.vectors)

    def blocks(self, metric: MetricType) -> tuple[BinaryBlock, ...]:
        """The rows for scans by this metric."""
        if metric is MetricType.HAMMING:
            return self._blocks
        counted = self._counted
        if counted is None:
            counted = tuple(map(_counted, self._blocks))
            self._counted = counted
        return counted

    def search(
        self, query: VectorQuery, row_count: int, rows: RowSet | None, interim: Interim | None
    ) -> Neighbours:
        blocks = trimmed(self.blocks(query.metric), row_count)
        bounds = Bounds.of(query)
        return exact_search(blocks, query.vectors, query.metric, query.top_k, rows, bounds)

    def take(self, offsets: Ints) -> Any:
        found = np.empty((len(offsets), self.dim // 8), np.uint8)
        for block in self._blocks:
            within = offsets - block.first_row
            at = np.flatnonzero((within >= 0) & (within < len(block.vectors)))
            found[at] = block.vectors[within[at]]
        return vector_column(found, None if self.valid is None else self.valid[offsets])

    @property
    def size_bytes(self) -> int:
        pairs = zip(self._counted or (), self._blocks, strict=False)
        return sum(
            new.counts.nbytes for new, old in pairs if new is not old and new.counts is not None
        )

    def forget(self) -> None:
        self._counted = None


def trimmed(blocks: Sequence[BinaryBlock], end: int) -> list[BinaryBlock]:
    """The blocks' rows below ``end``, without a copy."""
    result = []
    for block in blocks:
        size = min(end - block.first_row, len(block.vectors))
        if size > 0:
            counts = None if block.counts is None else block.counts[:size]
            result.append(BinaryBlock(block.first_row, block.vectors[:size], counts))
    return result


def _counted(block: BinaryBlock) -> BinaryBlock:
    if block.counts is not None:
        return block
    return BinaryBlock(block.first_row, block.vectors, bit_counts(block.vectors))
