"""Storage that grows behind the back of readers: vectors in blocks, numbers in one array.

One writer fills; what it has published is never moved or changed, so readers need no lock.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.index.base import VectorColumn
from elanus.engine.index.binary.column import BinaryColumn
from elanus.engine.index.binary.exact import BinaryBlock, bit_counts
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import inverse_norms
from elanus.engine.index.lists.column import VectorListColumn
from elanus.engine.index.sparse.column import SparseColumn
from elanus.engine.segment import chunks as chunk_list
from elanus.engine.segment.chunks import Chunks
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.model.vectors import (
    ELEMENT_DTYPES,
    VectorLists,
    vector_column,
    vector_width,
    vectors_of,
    widened,
)

FIRST_BLOCK_ROWS = 1_024
LARGEST_BLOCK_ROWS = 1 << 20
LARGEST_BLOCK_BYTES = 256 << 20
_SPARSE = "vectors"

Block = TypeVar("Block")
Measure = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


class Blocks(Generic[Block]):
    """Vectors of fixed size with a number that is measured of each, in preallocated blocks that
    are few and large, so that a scan is few kernel calls: most segments have one. Only what is
    filled of a large block is resident: the system gives memory to pages when they are first
    written. The first block is small at first, for collections of few rows, and copied once.

    make: a block of (first row, vectors, numbers). measure: the numbers (rows,) of vectors.
    """

    def __init__(
        self,
        width: int,
        dtype: np.dtype[Any],
        make: Callable[[int, npt.NDArray[Any], npt.NDArray[Any]], Block],
        measure: Measure,
    ) -> None:
        self._make = make
        self._measure = measure
        self._row_bytes = width * dtype.itemsize
        self._largest = max(64, min(LARGEST_BLOCK_ROWS, LARGEST_BLOCK_BYTES // self._row_bytes))
        self._full: tuple[Block, ...] = ()
        self._first_row = 0
        self._vectors: npt.NDArray[Any] = np.empty((0, width), dtype)
        self._numbers = measure(self._vectors)
        self._filled = 0

    def append(self, vectors: npt.NDArray[Any]) -> tuple[Block, ...]:
        """Copies ``vectors``, (rows, width). Returns blocks of all rows so far."""
        while len(vectors):
            if self._filled == len(self._vectors):
                self._open_block()
            piece = vectors[: len(self._vectors) - self._filled]
            end = self._filled + len(piece)
            self._vectors[self._filled : end] = piece
            self._numbers[self._filled : end] = self._measure(piece)
            self._filled = end
            vectors = vectors[len(piece) :]
        return (*self._full, self._last()) if self._filled else ()

    def _last(self) -> Block:
        end = self._filled
        return self._make(self._first_row, self._vectors[:end], self._numbers[:end])

    def _open_block(self) -> None:
        """Make room behind the last row, which fills its block."""
        vectors, numbers, kept = self._vectors, self._numbers, self._filled
        capacity = self._largest if kept else min(FIRST_BLOCK_ROWS, self._largest)
        if kept == self._largest:
            self._full = (*self._full, self._last())
            self._first_row += kept
            kept = 0
        self._vectors = np.empty((capacity, vectors.shape[1]), vectors.dtype)
        self._numbers = np.empty(capacity, numbers.dtype)
        self._vectors[:kept], self._numbers[:kept] = vectors[:kept], numbers[:kept]
        self._filled = kept

    @property
    def size_bytes(self) -> int:
        """Of what is filled."""
        row_bytes = self._row_bytes + self._numbers.dtype.itemsize
        return (self._first_row + self._filled) * row_bytes


Number = TypeVar("Number", np.int64, np.uint64, np.bool_)


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


class GrowingVectors(ABC):
    """A vector field of a growing segment."""

    @abstractmethod
    def append(self, column: pa.Array) -> VectorColumn:
        """Copies the rows of an Arrow column. Returns all rows so far."""

    @property
    @abstractmethod
    def size_bytes(self) -> int: ...


def growing_vectors(field: FieldSchema) -> GrowingVectors:
    """Room for the vectors of a field of any kind."""
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        return _GrowingSparse()
    if field.data_type is DataType.ARRAY_OF_VECTOR:
        return _GrowingLists(field)
    return _GrowingFixed(field)


class _GrowingFixed(GrowingVectors):
    """Dense or binary vectors."""

    def __init__(self, field: FieldSchema) -> None:
        self._dim = field.dim
        self._is_binary = field.data_type is DataType.BINARY_VECTOR
        self._valid = Numbers(np.bool_) if field.nullable else None
        dtype = ELEMENT_DTYPES[field.data_type]
        width = vector_width(field.data_type, field.dim)
        self._blocks: Blocks[Any] = (
            Blocks(width, dtype, BinaryBlock, bit_counts)
            if self._is_binary
            else Blocks(width, dtype, VectorBlock, _lengths)
        )

    def append(self, column: pa.Array) -> DenseColumn | BinaryColumn:
        vectors = vectors_of(column)
        valid = None
        if self._valid is not None:
            present = column.is_valid().to_numpy(zero_copy_only=False)
            self._valid.append(present, len(present))
            valid = self._valid.view
            if column.null_count:
                # Nothing is known of what stands in place of a vector that isn't there.
                vectors = np.where(present[:, None], vectors, np.zeros(1, vectors.dtype))
        blocks = self._blocks.append(vectors)
        if self._is_binary:
            return BinaryColumn(blocks, self._dim, valid)
        return DenseColumn(blocks, self._dim, valid)

    @property
    def size_bytes(self) -> int:
        return self._blocks.size_bytes + (self._valid.size_bytes if self._valid else 0)


def _lengths(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return inverse_norms(widened(vectors))


class _GrowingSparse(GrowingVectors):
    """Sparse vectors, in chunks that are merged like those of scalars."""

    def __init__(self) -> None:
        self._chunks: Chunks = ()

    def append(self, column: pa.Array) -> VectorColumn:
        self._chunks = chunk_list.with_batch(self._chunks, pa.record_batch({_SPARSE: column}))
        return SparseColumn([chunk.rows.column(0) for chunk in self._chunks])

    @property
    def size_bytes(self) -> int:
        return sum(chunk.size_bytes for chunk in self._chunks)


class _GrowingLists(GrowingVectors):
    """Lists of dense or binary vectors."""

    def __init__(self, field: FieldSchema) -> None:
        self._elements = _GrowingFixed(field.of_elements)
        self._offsets = Numbers(np.int64)
        self._offsets.append(0, 1)
        self._hold = Numbers(np.bool_)
        self._present = Numbers(np.bool_) if field.nullable else None

    def append(self, column: pa.Array) -> VectorColumn:
        lists = VectorLists.of(column)
        ends = lists.offsets[1:] + self._offsets.view[-1]
        elements = self._elements.append(vector_column(lists.vectors))
        self._offsets.append(ends, len(ends))
        self._hold.append(np.diff(lists.offsets) > 0, len(ends))
        present = None
        if self._present is not None:
            self._present.append(np.asarray(column.is_valid()), len(ends))
            present = self._present.view
        return VectorListColumn(self._offsets.view, elements, self._hold.view, present)

    @property
    def size_bytes(self) -> int:
        held = self._elements.size_bytes + self._offsets.size_bytes + self._hold.size_bytes
        return held + (self._present.size_bytes if self._present else 0)
