"""Storage that grows behind the back of readers: vectors in blocks, numbers in one array.

One writer fills; what it has published is never moved or changed, so readers need no lock.
"""

from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, inverse_norms

FIRST_BLOCK_ROWS = 1_024
LARGEST_BLOCK_ROWS = 65_536
LARGEST_BLOCK_BYTES = 64 << 20


class VectorBlocks:
    """Vectors of one field with the inverse of their lengths, in preallocated blocks that are few
    and large, so that a scan is few kernel calls. Only what is filled of a large block is resident:
    the system gives memory to pages when they are first written."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._largest = max(64, min(LARGEST_BLOCK_ROWS, LARGEST_BLOCK_BYTES // (4 * dim)))
        self._full: tuple[VectorBlock, ...] = ()
        self._first_row = 0
        self._vectors: Floats = np.empty((0, dim), np.float32)
        self._norms: Floats = np.empty(0, np.float32)
        self._filled = 0

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
        capacity = self._largest if self._filled else min(FIRST_BLOCK_ROWS, self._largest)
        self._first_row += self._filled
        self._vectors = np.empty((capacity, self._dim), np.float32)
        self._norms = np.empty(capacity, np.float32)
        self._filled = 0

    @property
    def size_bytes(self) -> int:
        """Of what is filled."""
        return (self._first_row + self._filled) * 4 * (self._dim + 1)


Number = TypeVar("Number", np.int64, np.uint64)


class Numbers(Generic[Number]):
    """An array with room to grow; ``view`` is replaced, never resized."""

    def __init__(self, kind: type[Number]) -> None:
        self._room: npt.NDArray[Number] = np.empty(FIRST_BLOCK_ROWS, kind)
        self.view: npt.NDArray[Number] = self._room[:0]

    def append(self, values: npt.NDArray[Number] | int, count: int) -> None:
        """``count`` numbers, or one number as many times."""
        start, end = len(self.view), len(self.view) + count
        if end > len(self._room):
            room = np.empty(max(end, 2 * len(self._room)), self._room.dtype)
            room[:start] = self.view
            self._room = room
        self._room[start:end] = values
        self.view = self._room[:end]

    @property
    def size_bytes(self) -> int:
        return int(self._room.nbytes)


def gather(blocks: tuple[VectorBlock, ...], offsets: npt.NDArray[np.int64], dim: int) -> Floats:
    """The vectors of the rows at ``offsets``, float32 (n, dim)."""
    result = np.empty((len(offsets), dim), np.float32)
    for block in blocks:
        within = offsets - block.first_row
        at = np.flatnonzero((within >= 0) & (within < len(block.vectors)))
        if len(at):
            result[at] = block.vectors[within[at]]
    return result
