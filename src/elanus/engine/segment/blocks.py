"""Storage that grows behind the back of readers: vectors in blocks, timestamps in one array.

One writer fills; what it has published is never moved or changed, so readers need no lock.
"""

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, inverse_norms

FIRST_BLOCK_ROWS = 1_024
BLOCK_GROWTH = 4
LARGEST_BLOCK_ROWS = 65_536
LARGEST_BLOCK_BYTES = 64 << 20


class VectorBlocks:
    """Vectors of one field with the inverse of their lengths, in preallocated blocks that are
    few and large, so that an exact scan is few kernel calls."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._largest = max(64, min(LARGEST_BLOCK_ROWS, LARGEST_BLOCK_BYTES // (4 * dim)))
        self._full: tuple[VectorBlock, ...] = ()
        self._first_row = 0
        self._vectors: Floats = np.empty((0, dim), np.float32)
        self._norms: Floats = np.empty(0, np.float32)
        self._filled = 0
        self.size_bytes = 0

    def append(self, vectors: Floats) -> tuple[VectorBlock, ...]:
        """Copies ``vectors``, float32 (rows, dim). Returns blocks of all rows so far."""
        while len(vectors):
            if self._filled == len(self._vectors):
                self._open_block()
            piece = vectors[: len(self._vectors) - self._filled]
            end = self._filled + len(piece)
            self._vectors[self._filled : end] = piece
            self._norms[self._filled : end] = inverse_norms(piece)
            self._filled = end
            vectors = vectors[len(piece) :]
        return (*self._full, self._last())

    def _last(self) -> VectorBlock:
        end = self._filled
        return VectorBlock(self._first_row, self._vectors[:end], self._norms[:end])

    def _open_block(self) -> None:
        if self._filled:
            self._full = (*self._full, self._last())
        capacity = len(self._vectors) * BLOCK_GROWTH or FIRST_BLOCK_ROWS
        capacity = min(capacity, self._largest)
        self._first_row += self._filled
        self._vectors = np.empty((capacity, self._dim), np.float32)
        self._norms = np.empty(capacity, np.float32)
        self._filled = 0
        self.size_bytes += self._vectors.nbytes + self._norms.nbytes


class Timestamps:
    """A uint64 array with room to grow; ``view`` is replaced, never resized."""

    def __init__(self) -> None:
        self._room = np.empty(FIRST_BLOCK_ROWS, np.uint64)
        self.view: npt.NDArray[np.uint64] = self._room[:0]

    def append(self, value: int, count: int) -> None:
        start, end = len(self.view), len(self.view) + count
        if end > len(self._room):
            room = np.empty(max(end, 2 * len(self._room)), np.uint64)
            room[:start] = self.view
            self._room = room
        self._room[start:end] = value
        self.view = self._room[:end]

    @property
    def size_bytes(self) -> int:
        return self._room.nbytes


def gather(blocks: tuple[VectorBlock, ...], offsets: npt.NDArray[np.int64], dim: int) -> Floats:
    """The vectors of the rows at ``offsets``, float32 (n, dim)."""
    result = np.empty((len(offsets), dim), np.float32)
    for block in blocks:
        within = offsets - block.first_row
        at = np.flatnonzero((within >= 0) & (within < len(block.vectors)))
        if len(at):
            result[at] = block.vectors[within[at]]
    return result
