"""How vectors of each kind are held: in Arrow columns, in NumPy arrays, in files and queries.

A *dense* vector is ``dim`` numbers, a *binary* one ``dim`` bits in ``dim / 8`` bytes (the first bit
is the highest of its byte), each a fixed-size list. The dtype of the elements tells the kinds
apart: float32, float16, int8, uint8 for packed bits, and uint16 for bfloat16, which NumPy doesn't
have: the upper half of a float32.

A *sparse* vector is a list of (index, value), indices strictly ascending. A column of them is in
Arrow what is known as CSR: row offsets, all indices, all values.

A *list of vectors*, what an ArrayOfVector has in a row, is a list of such fixed-size lists;
a column of them is row offsets and all vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.model.types import DataType

Floats = npt.NDArray[np.float32]

ELEMENT_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.FLOAT_VECTOR: np.dtype("<f4"),
    DataType.FLOAT16_VECTOR: np.dtype("<f2"),
    DataType.BFLOAT16_VECTOR: np.dtype("<u2"),
    DataType.INT8_VECTOR: np.dtype("i1"),
    DataType.BINARY_VECTOR: np.dtype("u1"),
}
"""Of the kinds that are fixed-size lists."""

SPARSE_TYPE = pa.list_(
    pa.struct(
        [
            pa.field("index", pa.uint32(), nullable=False),
            pa.field("value", pa.float32(), nullable=False),
        ]
    )
)
MAX_SPARSE_INDEX = 2**32 - 2
_BFLOAT16_NAN = np.uint16(0x7FC0)


def vector_width(data_type: DataType, dim: int) -> int:
    """Elements of a row of a fixed-size kind."""
    return dim // 8 if data_type is DataType.BINARY_VECTOR else dim


def vector_arrow_type(data_type: DataType, dim: int) -> Any:
    """The ``pyarrow.DataType`` of a column of vectors."""
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        return SPARSE_TYPE
    element = pa.from_numpy_dtype(ELEMENT_DTYPES[data_type])
    return pa.list_(element, vector_width(data_type, dim))


def vector_column(vectors: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> Any:
    """An array (rows, width) of any kind as a fixed-size list array, without a copy; null where
    ``valid``, bool (rows,), is false."""
    mask = None if valid is None or valid.all() else pa.array(~valid)
    flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=mask)


def vectors_of(column: Any) -> npt.NDArray[Any]:
    """A fixed-size list array as (rows, width) of its elements' dtype, without a copy. What stands
    in the rows that are null is not defined."""
    width = column.type.list_size
    values = column.values
    dtype = np.dtype(values.type.to_pandas_dtype())
    # Not by way of the elements' own validity: below rows that are null it may be anything.
    start = values.offset * dtype.itemsize
    flat = np.frombuffer(values.buffers()[1] or b"", dtype, len(values), start)
    rows: npt.NDArray[Any] = flat[column.offset * width : (column.offset + len(column)) * width]
    return rows.reshape(-1, width)


def widened(elements: npt.NDArray[Any]) -> Floats:
    """Dense elements of any kind as float32, exactly; float32 itself without a copy."""
    if elements.dtype == np.uint16:
        shifted = elements.astype(np.uint32)
        shifted <<= 16
        return shifted.view(np.float32)
    return elements.astype(np.float32, copy=False)


def narrowed(floats: Floats, data_type: DataType) -> npt.NDArray[Any]:
    """float32 as elements of a dense kind, rounded to the nearest (ties to even); what is too
    large becomes infinite. Not for Int8Vector."""
    if data_type is DataType.BFLOAT16_VECTOR:
        bits = np.ascontiguousarray(floats, np.float32).view(np.uint32)
        rounded = bits + (((bits >> 16) & 1) + 0x7FFF)
        result = (rounded >> 16).astype(np.uint16)
        return np.where(np.isnan(floats), _BFLOAT16_NAN, result)
    with np.errstate(over="ignore"):
        return floats.astype(ELEMENT_DTYPES[data_type])


@dataclass(frozen=True, slots=True)
class SparseRows:
    """The parts of a sparse column, without a copy.

    offsets: int32 (rows + 1,), where each row begins in ``indices``, uint32 (n,), and ``values``,
    float32 (n,).
    """

    offsets: npt.NDArray[np.int32]
    indices: npt.NDArray[np.uint32]
    values: Floats

    @staticmethod
    def of(column: Any) -> "SparseRows":
        """``column``: Arrow array of SPARSE_TYPE; a null counts as a row without values."""
        if not len(column):
            none = np.empty(0, np.uint32)
            return SparseRows(np.zeros(1, np.int32), none, none.view(np.float32))
        if column.null_count:
            column = column.fill_null([])
        offsets = column.offsets.to_numpy()
        entries = column.values
        return SparseRows(offsets, entries.field(0).to_numpy(), entries.field(1).to_numpy())

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def beyond(self, first: int) -> "SparseRows":
        """The rows from ``first`` on."""
        return SparseRows(self.offsets[first:], self.indices, self.values)

    def row(self, number: int) -> tuple[npt.NDArray[np.uint32], Floats]:
        """(indices, values) of one row."""
        start, end = self.offsets[number], self.offsets[number + 1]
        return self.indices[start:end], self.values[start:end]


def sparse_column(
    offsets: npt.NDArray[Any], indices: npt.NDArray[np.uint32], values: Floats
) -> Any:
    """An Arrow array of SPARSE_TYPE of the parts of a CSR matrix, without a copy."""
    entries = pa.StructArray.from_arrays(
        [pa.array(indices, pa.uint32()), pa.array(values, pa.float32())],
        fields=list(SPARSE_TYPE.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries, type=SPARSE_TYPE)


def concat_vectors(parts: Sequence[Any]) -> Any:
    """Query vectors of one kind, one after another."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return pa.concat_arrays(list(parts))


@dataclass(frozen=True, slots=True)
class VectorLists:
    """The parts of a column of lists of vectors, without a copy of the vectors.

    offsets: int64 (rows + 1,), where each row begins in ``vectors``, (n, width) of the dtype of
    the kind. The first row begins at 0, the last ends at n.
    """

    offsets: npt.NDArray[np.int64]
    vectors: npt.NDArray[Any]

    @staticmethod
    def of(column: Any) -> "VectorLists":
        """``column``: Arrow array of lists of fixed-size lists; a null counts as an empty list."""
        vectors = vectors_of(column.values)
        if not len(column):
            return VectorLists(np.zeros(1, np.int64), vectors[:0])
        offsets = column.offsets.to_numpy().astype(np.int64)
        if column.null_count and np.diff(offsets)[np.asarray(column.is_null())].any():
            lengths = column.value_lengths().fill_null(0).to_numpy()
            return VectorLists(
                np.concatenate([[0], np.cumsum(lengths)]), vectors_of(column.flatten())
            )
        first, last = offsets[0], offsets[-1]
        return VectorLists(offsets - first, vectors[first:last])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, number: int) -> npt.NDArray[Any]:
        """The vectors of one row, (n, width)."""
        return self.vectors[self.offsets[number] : self.offsets[number + 1]]


def list_column(
    offsets: npt.NDArray[Any],
    vectors: npt.NDArray[Any],
    present: npt.NDArray[np.bool_] | None = None,
) -> Any:
    """An Arrow array of lists of vectors, the reverse of :class:`VectorLists`; null where
    ``present``, bool (rows,), is false."""
    mask = None if present is None or present.all() else pa.array(~present)
    values = vector_column(vectors)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, mask=mask)


def take_vectors(vectors: Any, which: npt.NDArray[np.int64]) -> Any:
    """The query vectors at these positions."""
    return vectors[which] if isinstance(vectors, np.ndarray) else vectors.take(pa.array(which))
