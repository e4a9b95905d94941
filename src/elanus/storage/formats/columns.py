"""Columns as files: ``.npy`` for vectors of fixed size and timestamps, Arrow IPC for scalars,
sparse vectors, and vectors some of which are null.

A file holds one contiguous column, so that it is read from a mapping without a copy. Pure: bytes
in, arrays out.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.errors import CorruptData, InternalError
from elanus.model.vectors import vectors_of
from elanus.storage.formats.manifest import Statistic
from elanus.storage.objects.base import Buffer

ARROW = "arrow"
NPY = "npy"
_VALUES = "values"
_NPY_MAGIC = b"\x93NUMPY"
_MAX_STATISTIC_BYTES = 256
_MAX_NPY_HEADER_BYTES = 4_096


def encoding_of(column: Any) -> str:
    """How a column, Array or ChunkedArray, is stored."""
    return NPY if pa.types.is_fixed_size_list(column.type) and not column.null_count else ARROW


def encode_arrow(column: Any) -> list[Buffer]:
    """An Arrow IPC file with one record batch of one column. ``column``: Array or ChunkedArray."""
    return encode_batch(pa.record_batch({_VALUES: contiguous(column)}))


def decode_arrow(buffer: Any, name: str) -> Any:
    """The ``pyarrow.Array`` of a file made by :func:`encode_arrow`; no copy."""
    return decode_batch(buffer, name).column(0)


def encode_batch(batch: Any) -> list[Buffer]:
    """An Arrow IPC file of one record batch."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return [memoryview(sink.getvalue())]


def decode_batch(buffer: Any, name: str) -> Any:
    """The ``pyarrow.RecordBatch`` of a file made by :func:`encode_batch`; no copy."""
    try:
        return pa.ipc.open_file(buffer).get_batch(0)
    except pa.ArrowInvalid as error:
        raise CorruptData(f"file {name} is no Arrow IPC file: {error}") from error


def contiguous(column: Any) -> Any:
    """A column in one piece. Copies only a ChunkedArray of several chunks."""
    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks == 1:
            return column.chunk(0)
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column


def encode_vectors(column: Any) -> list[Buffer]:
    """An ``.npy`` file of a column of fixed-size lists without nulls, chunk after chunk without a
    copy."""
    if column.null_count:
        raise InternalError("a vector column with nulls can't be stored as a plain array")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    # As bytes: not every consumer of buffers knows float16.
    values: list[Any] = [vectors_of(chunk).reshape(-1).view(np.uint8).data for chunk in chunks]
    dtype = np.dtype(column.type.value_type.to_pandas_dtype())
    header = _npy_header(dtype, (len(column), column.type.list_size))
    return [header, *(value for value in values if value.nbytes)]


def encode_numbers(array: npt.NDArray[Any]) -> list[Buffer]:
    """An ``.npy`` file of a C-contiguous array."""
    header = _npy_header(array.dtype, array.shape)
    return [header, np.ascontiguousarray(array).data] if array.size else [header]


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    description = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(sink, description)
    return sink.getvalue()


def decode_numbers(buffer: Any, name: str) -> npt.NDArray[Any]:
    """The array of an ``.npy`` file, read-only, without a copy."""
    head = io.BytesIO(memoryview(buffer)[:_MAX_NPY_HEADER_BYTES])
    try:
        if np.lib.format.read_magic(head) != (1, 0):
            raise ValueError("unknown version")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(head)
        if fortran_order:
            raise ValueError("columns first")
        count = math.prod(shape)
        array = np.frombuffer(buffer, dtype, count, head.tell()) if count else np.empty(0, dtype)
        return array.reshape(shape)
    except ValueError as error:
        raise CorruptData(f"file {name} is no .npy file that we can read: {error}") from error


def map_column(path: str) -> Any:
    """The column of a local file in either form, mapped: a NumPy array of an ``.npy`` file, an
    Arrow array of an Arrow IPC file. Raises CorruptData."""
    with pa.memory_map(path, "r") as file:
        buffer = file.read_buffer()
    is_numpy = bytes(memoryview(buffer)[: len(_NPY_MAGIC)]) == _NPY_MAGIC
    return decode_numbers(buffer, path) if is_numpy else decode_arrow(buffer, path)


def statistics_of(column: Any) -> tuple[Statistic, Statistic]:
    """(minimum, maximum) of a scalar column; (None, None) where a bound would be of no use."""
    data_type = column.type
    numeric = pa.types.is_integer(data_type) or pa.types.is_floating(data_type)
    if not (numeric or pa.types.is_string(data_type) or pa.types.is_boolean(data_type)):
        return None, None
    if pa.types.is_floating(data_type):
        column = column.filter(pc.invert(pc.is_nan(column)))
        if pc.any(pc.is_inf(column)).as_py():  # which JSON can't tell
            return None, None
    bounds = pc.min_max(column).as_py()
    return _in_bounds((bounds["min"], bounds["max"]))


def _in_bounds(values: Sequence[Statistic]) -> tuple[Statistic, Statistic]:
    low, high = values
    texts = [value for value in values if isinstance(value, str)]
    if any(len(text.encode()) > _MAX_STATISTIC_BYTES for text in texts):
        return None, None
    return low, high
