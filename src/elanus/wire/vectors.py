"""Vectors between Milvus's VectorField and NumPy or Arrow, as :mod:`elanus.model.vectors` has them.

Bulk data stays bytes: a column of a fixed-size kind is one buffer on both sides. A sparse row is a
message field of its own, (index u32, value f32) little-endian one after another; rows are joined
and taken apart as one array.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.errors import InvalidParameter
from elanus.model.types import DataType
from elanus.model.vectors import (
    ELEMENT_DTYPES,
    MAX_SPARSE_INDEX,
    SparseRows,
    sparse_column,
    vector_width,
    vectors_of,
)
from elanus.wire.protocol import pack, packed

VECTOR_HOLDERS: dict[DataType, str] = {
    DataType.FLOAT_VECTOR: "float_vector",
    DataType.BINARY_VECTOR: "binary_vector",
    DataType.FLOAT16_VECTOR: "float16_vector",
    DataType.BFLOAT16_VECTOR: "bfloat16_vector",
    DataType.INT8_VECTOR: "int8_vector",
    DataType.SPARSE_FLOAT_VECTOR: "sparse_float_vector",
}
"""The oneof member of VectorField in which each type travels."""
VECTOR_HOLDER_NAMES = {holder: holder.replace("_", " ") for holder in VECTOR_HOLDERS.values()}
TYPE_OF_HOLDER = {holder: data_type for data_type, holder in VECTOR_HOLDERS.items()}
_ENTRY = np.dtype([("index", "<u4"), ("value", "<f4")])
_DATA_NAMES = {
    DataType.FLOAT_VECTOR: "float data",
    DataType.FLOAT16_VECTOR: "float16 data",
    DataType.BFLOAT16_VECTOR: "bfloat16 data",
    DataType.INT8_VECTOR: "int8 data",
}


def decode_vectors(vectors: Any, holder: str, name: str) -> Any:
    """The values of a schema.VectorField message: an array (rows, width) of the kind's dtype, of
    sparse vectors an Arrow array; None if the holder is none that is served.

    Raises InvalidParameter for data that doesn't divide into vectors.
    """
    data_type = TYPE_OF_HOLDER.get(holder)
    if data_type is None:
        return None
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        return decode_sparse(list(vectors.sparse_float_vector.contents))
    dim = vectors.dim
    if dim <= 0:
        raise InvalidParameter(f"the dim ({dim}) of field data({name}) should be greater than 0")
    dtype = ELEMENT_DTYPES[data_type]
    if data_type is DataType.FLOAT_VECTOR:
        values = packed(vectors.float_vector, "data")
    else:
        data = getattr(vectors, holder)
        if len(data) % dtype.itemsize:
            raise undivided(data_type, len(data), dim)
        values = np.frombuffer(data, dtype)
    width = vector_width(data_type, dim)
    if (data_type is DataType.BINARY_VECTOR and dim % 8) or len(values) % width:
        raise undivided(data_type, len(values), dim)
    return values.reshape(-1, width)


def undivided(data_type: DataType, length: int, dim: int) -> InvalidParameter:
    """The error of ``length`` elements (bytes, of a binary kind) that are no whole vectors."""
    if data_type is DataType.BINARY_VECTOR:
        return InvalidParameter(f"the num({length * 8}) of all bits should divide the dim({dim})")
    return InvalidParameter(
        f"the length({length}) of {_DATA_NAMES[data_type]} should divide the dim({dim})"
    )


def decode_sparse(rows: Sequence[bytes]) -> Any:
    """An Arrow array of sparse vectors, checked. Raises InvalidParameter."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    uneven = np.flatnonzero(lengths % _ENTRY.itemsize)
    if len(uneven):
        raise InvalidParameter(f"invalid data length in sparse float vector: {lengths[uneven[0]]}")
    entries = np.frombuffer(b"".join(rows), _ENTRY)
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(lengths // _ENTRY.itemsize, out=offsets[1:])
    return checked_sparse(offsets, entries["index"].copy(), entries["value"].copy())


def checked_sparse(
    offsets: npt.NDArray[np.int32],
    indices: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
) -> Any:
    """An Arrow array of the parts of a CSR matrix. Raises InvalidParameter for indices that are
    too large or not ascending within a row, and for values that are negative or not finite."""
    if indices.max(initial=0) > MAX_SPARSE_INDEX:
        raise InvalidParameter("invalid index in sparse float vector: must be less than 2^32-1")
    is_next = np.ones(len(indices), np.bool_)
    starts = offsets[:-1]
    is_next[starts[starts < len(indices)]] = False
    at = np.flatnonzero(is_next)
    if (indices[at] <= indices[at - 1]).any():
        raise InvalidParameter("unsorted or same indices in sparse float vector")
    check_finite(values)
    if values.min(initial=0) < 0:
        raise InvalidParameter("negative value in sparse float vector")
    return sparse_column(offsets, indices, values)


def check_finite(values: Any) -> None:
    """Raises InvalidParameter for NaN and infinities in a NumPy array of floats."""
    finite = np.isfinite(values)
    if np.count_nonzero(finite) == finite.size:  # in one step, where ``all`` takes several
        return
    found = values[~finite].flat[0]
    shown = "NaN" if np.isnan(found) else ("+Inf" if found > 0 else "-Inf")
    raise InvalidParameter(f"value '{shown}' is not a number or infinity")


def encode_vectors(message: Any, data_type: DataType, column: Any) -> None:
    """Put the rows of an Arrow column that are not null into a schema.VectorField message."""
    if column.null_count:
        column = column.drop_null()
    is_sparse = data_type is DataType.SPARSE_FLOAT_VECTOR
    put_vectors(message, data_type, column if is_sparse else vectors_of(column))


def put_vectors(message: Any, data_type: DataType, vectors: Any) -> None:
    """Put vectors into a schema.VectorField message: NumPy (rows, width) of the type's elements,
    or an Arrow array of sparse ones, without nulls."""
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        sparse = message.sparse_float_vector
        sparse.SetInParent()
        contents, dim = encode_sparse(vectors)
        sparse.contents.extend(contents)
        sparse.dim = dim
        message.dim = dim
        return
    message.dim = vectors.shape[1] * (8 if data_type is DataType.BINARY_VECTOR else 1)
    if data_type is DataType.FLOAT_VECTOR:
        message.float_vector.SetInParent()
        message.float_vector.data.extend(pack(vectors.reshape(-1), "<f4"))
    else:
        setattr(message, VECTOR_HOLDERS[data_type], vectors.tobytes())


def encode_sparse(column: Any) -> tuple[list[bytes], int]:
    """(each row's bytes, one more than the largest index) of an Arrow array of sparse vectors."""
    rows = SparseRows.of(column)
    first, last = rows.offsets[0], rows.offsets[-1]
    entries = np.empty(last - first, _ENTRY)
    entries["index"] = rows.indices[first:last]
    entries["value"] = rows.values[first:last]
    data = entries.tobytes()
    ends = ((rows.offsets - first) * _ENTRY.itemsize).tolist()
    contents = [data[start:end] for start, end in pairwise(ends)]
    return contents, int(entries["index"].max(initial=0)) + 1 if len(entries) else 0
