"""Columns of rows, between Milvus's FieldData and Arrow or NumPy.

Inwards (:func:`decode_column`) a column is taken exactly as it was sent: the values of the holder
that the client filled, only the valid ones if it marked nulls. What the schema says about them
(type, dimension, ranges, row counts, defaults) is for the proxy to check and complete.

Outwards (:func:`encode_column`) a complete Arrow column becomes FieldData by Milvus's rules: scalar
columns have full length, with zero values where ``valid_data`` is false; vectors have only the
valid rows; a column without rows still has its type and its holder.

Numbers of fixed width never become Python objects on the way (see :mod:`elanus.wire.protocol`);
integers and strings do, once, inside protobuf's own loops.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.geometry import wkts_of
from elanus.model.schema import FieldSchema
from elanus.model.timestamptz import UTC_TEXT, TimeOutput, format_timestamps, parts_of
from elanus.model.types import DataType
from elanus.wire.lists import LIST_HOLDER, decode_lists, encode_lists
from elanus.wire.protocol import pack, packed, packed_rows, schema
from elanus.wire.vectors import (
    VECTOR_HOLDER_NAMES,
    VECTOR_HOLDERS,
    decode_vectors,
    encode_vectors,
)

# The oneof member of ScalarField or VectorField in which each type travels.
HOLDERS: dict[DataType, str] = {
    DataType.BOOL: "bool_data",
    DataType.INT8: "int_data",
    DataType.INT16: "int_data",
    DataType.INT32: "int_data",
    DataType.INT64: "long_data",
    DataType.FLOAT: "float_data",
    DataType.DOUBLE: "double_data",
    DataType.VARCHAR: "string_data",
    DataType.ARRAY: "array_data",
    DataType.JSON: "json_data",
    DataType.GEOMETRY: "geometry_wkt_data",
    DataType.TIMESTAMPTZ: "string_data",
    DataType.ARRAY_OF_VECTOR: LIST_HOLDER,
    **VECTOR_HOLDERS,
}
_HOLDER_NAMES = {
    "bool_data": "bool array",
    "int_data": "int array",
    "long_data": "long array",
    "float_data": "float array",
    "double_data": "double array",
    "string_data": "string array",
    "array_data": "array array",
    "json_data": "json array",
    "geometry_wkt_data": "geometry wkt array",
    LIST_HOLDER: "vector array",
    **VECTOR_HOLDER_NAMES,
}
# Arrow types of the values as sent: integers below 64 bits travel as int32.
_SENT_TYPES: dict[str, Any] = {
    "bool_data": pa.bool_(),
    "int_data": pa.int32(),
    "long_data": pa.int64(),
    "float_data": pa.float32(),
    "double_data": pa.float64(),
    "string_data": pa.string(),
    "json_data": pa.binary(),
    "geometry_wkt_data": pa.string(),
}
_PACKED_DTYPES = {"bool_data": "?", "float_data": "<f4", "double_data": "<f8"}
_INTEGER_DTYPES = {"int_data": np.int32, "long_data": np.int64}
_ZEROS: dict[str, Any] = {
    "bool_data": False,
    "int_data": 0,
    "long_data": 0,
    "float_data": 0.0,
    "double_data": 0.0,
    "string_data": "",
    "json_data": b"",
    "geometry_wkt_data": "",
}
_WITH_ELEMENTS = (DataType.ARRAY, DataType.ARRAY_OF_VECTOR)
_json_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class WireColumn:
    """A column as a client sent it.

    data_type: as declared by the client; may be NONE, and need not fit ``holder``.
    holder: the oneof member that holds the values (see HOLDERS), empty if there is none.
    values: the valid values only. NumPy bool, int32 (Int8 to Int32), int64, float32, float64 (n,);
        vectors as :mod:`elanus.model.vectors` has them: (n, width) of the kind's dtype, sparse
        ones an Arrow array; VarChar, Timestamptz (ISO 8601) and Geometry (WKT) an Arrow string
        array, JSON an Arrow binary array;
        Array and ArrayOfVector an Arrow list array (elements of Int8 to Int32 as int32; of null
        type if no row has any). None if the holder is one that is not served.
    valid: bool (rows,), or None if the client marked no nulls. Not checked against ``values``.
    element_holder: the oneof member that holds the elements of rows of such an array, empty if no
        row says. element_type: of them, as declared: most clients leave it NONE of an Array.
    dim: of a vector, as declared.
    """

    name: str
    data_type: DataType
    holder: str
    values: Any
    valid: npt.NDArray[np.bool_] | None = None
    element_holder: str = ""
    element_type: DataType = DataType.NONE
    is_dynamic: bool = False
    dim: int = 0

    @property
    def count(self) -> int:
        """How many values were sent, nulls not included."""
        return 0 if self.values is None else len(self.values)


def decode_column(message: Any, name: str = "") -> WireColumn:
    """The column of a schema.FieldData message (not of one of structs).
    name: of its field, where the message has another.

    Raises InvalidParameter for values that can't be read: an unknown type, float data that doesn't
    divide into vectors, an array row of another element type.
    """
    name = name or message.field_name
    data_type = _data_type(message.type, name)
    valid = packed(message, "valid_data")
    container = message.WhichOneof("field")
    holder, values, element_holder, element_type, dim = "", None, "", DataType.NONE, 0
    if container == "scalars":
        holder = message.scalars.WhichOneof("data") or ""
        if holder == "array_data":
            element_type = _data_type(message.scalars.array_data.element_type, name)
            element_holder, values = _decode_arrays(message.scalars.array_data, name)
        elif holder in _SENT_TYPES:
            values = _decode_scalars(getattr(message.scalars, holder), holder)
    elif container == "vectors":
        holder = message.vectors.WhichOneof("data") or ""
        dim = message.vectors.dim
        if holder == LIST_HOLDER:
            element_type = _data_type(message.vectors.vector_array.element_type, name)
            element_holder, values = decode_lists(message.vectors.vector_array, name)
        else:
            values = decode_vectors(message.vectors, holder, name)
    elif container is not None:
        holder = container
    return WireColumn(
        name=name,
        data_type=data_type,
        holder=holder,
        values=values,
        valid=valid if len(valid) else None,
        element_holder=element_holder,
        element_type=element_type,
        is_dynamic=message.is_dynamic,
        dim=dim,
    )


def require_holder(column: WireColumn, field: FieldSchema) -> None:
    """Raises InvalidParameter if the values of ``column`` are not of the type of ``field``."""
    expected = HOLDERS.get(field.data_type)
    if expected is None:
        raise Unimplemented(
            f"field '{field.name}': the type {field.data_type.milvus_name} is not implemented yet"
        )
    if column.holder != expected:
        raise _mismatch(
            f"field '{field.name}' is illegal, array type mismatch", expected, column.holder
        )
    if field.data_type in _WITH_ELEMENTS and column.element_holder:
        expected = HOLDERS[field.element_type]
        if column.element_holder != expected:
            raise _mismatch(
                f"field '{field.name}' is illegal, array element type mismatch",
                expected,
                column.element_holder,
            )


def encode_column(
    field: FieldSchema,
    column: Any,
    *,
    dynamic_keys: Sequence[str] | None = None,
    times: TimeOutput = UTC_TEXT,
) -> Any:
    """A schema.FieldData message of a complete column.

    column: Arrow array or chunked array of the field's Arrow type. dynamic_keys: of the dynamic
    field only, the keys to keep of each row; None keeps all. times: how timestamps are shown.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    message = schema.FieldData(
        type=int(field.data_type),
        field_name=field.local_name,
        field_id=field.field_id,
        is_dynamic=field.is_dynamic,
    )
    if field.nullable:
        valid = array.is_valid().to_numpy(zero_copy_only=False)
        message.valid_data.extend(pack(valid, "?"))
    if field.data_type is DataType.ARRAY_OF_VECTOR:
        encode_lists(message.vectors, field, array)
    elif field.data_type.is_vector:
        encode_vectors(message.vectors, field.data_type, array)
    elif field.data_type is DataType.ARRAY:
        _encode_arrays(message.scalars.array_data, field.element_type, array)
    elif field.data_type is DataType.TIMESTAMPTZ and times.parts:
        message.type = int(DataType.ARRAY)
        _encode_arrays(message.scalars.array_data, DataType.INT64, _time_parts(array, times))
    else:
        if dynamic_keys is not None:
            array = _keep_keys(array, dynamic_keys)
        elif field.data_type is DataType.TIMESTAMPTZ:
            array = _time_texts(array, times)
        elif field.data_type is DataType.GEOMETRY:
            array = pa.array(wkts_of(array.to_pylist()), pa.string())
        _encode_scalars(message.scalars, HOLDERS[field.data_type], array)
    return message


def ids_message(keys: Any) -> Any:
    """A schema.IDs message of primary keys, as ``encode_ids`` takes them."""
    message = schema.IDs()
    encode_ids(message, keys)
    return message


def encode_ids(message: Any, keys: Any) -> None:
    """Put primary keys into a schema.IDs message: int64 NumPy or Arrow array, or Arrow string
    array. Without any it says of which kind they would be."""
    if isinstance(keys, np.ndarray):
        holder, values = message.int_id, keys.tolist()
    elif pa.types.is_integer(keys.type):
        holder, values = message.int_id, keys.to_numpy().tolist()
    else:
        holder, values = message.str_id, keys.to_pylist()
    if values:
        holder.data.extend(values)
    else:
        holder.SetInParent()


def decode_ids(message: Any) -> Any:
    """The primary keys of a schema.IDs message: Arrow int64 or string array, empty int64 if the
    message has none."""
    if message.WhichOneof("id_field") == "str_id":
        return pa.array(message.str_id.data[:], pa.string())
    return pa.array(_integers(message.int_id.data, np.int64))


def _mismatch(message: str, expected: str, actual: str) -> InvalidParameter:
    return InvalidParameter(
        message,
        expected=f"need {_HOLDER_NAMES[expected]}",
        actual=f"got {_HOLDER_NAMES.get(actual, actual) or 'nil'}",
    )


def _data_type(code: int, name: str) -> DataType:
    try:
        return DataType(code)
    except ValueError:
        raise InvalidParameter(f"data type {code} of field {name} is not valid") from None


# --- inwards -----------------------------------------------------------------------------------


def _decode_scalars(values: Any, holder: str) -> Any:
    if holder in _PACKED_DTYPES:
        return packed(values, "data")
    if holder in _INTEGER_DTYPES:
        return _integers(values.data, _INTEGER_DTYPES[holder])
    return pa.array(values.data[:], _SENT_TYPES[holder])


def _integers(container: Any, dtype: Any) -> npt.NDArray[Any]:
    # Without a way of their own into NumPy (protobuf 7 has one), a list is the faster way.
    return np.array(container if hasattr(container, "__array__") else container[:], dtype)


def _decode_arrays(arrays: Any, name: str) -> tuple[str, Any]:
    """The holder of the elements, and an Arrow list array of the rows: their values joined, and
    the row boundaries. The first row that has a holder says what the elements are."""
    holders = [row.WhichOneof("data") for row in arrays.data]
    holder = next(filter(None, holders), "")
    if not holder:
        return "", pa.array([[]] * len(holders), pa.list_(pa.null()))
    if holder not in _SENT_TYPES or holder in ("json_data", "geometry_wkt_data"):
        raise InvalidParameter(f"element type {holder} of the arrays of field {name} is not valid")
    for position, sent in enumerate(holders):
        if sent != holder and sent is not None:
            message = f"array {position} of field {name} has elements of another type"
            raise _mismatch(message, holder, sent)
    rows = [getattr(row, holder) for row in arrays.data]
    joined: Any
    if holder in _PACKED_DTYPES:
        joined, lengths = packed_rows(arrays, rows, "data")
    else:
        parts = [row.data[:] for row in rows]
        joined = list(chain.from_iterable(parts))
        lengths = np.fromiter(map(len, parts), np.int64, len(parts))
    offsets = np.zeros(len(rows) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    elements = pa.array(joined, _SENT_TYPES[holder])
    return holder, pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), elements)


# --- outwards ----------------------------------------------------------------------------------


def _encode_scalars(scalars: Any, holder: str, array: Any) -> None:
    if array.null_count:
        array = array.fill_null(_ZEROS[holder])
    target = getattr(scalars, holder)
    target.SetInParent()
    if holder in _PACKED_DTYPES:
        values = array.to_numpy(zero_copy_only=False)
        target.data.extend(pack(values, _PACKED_DTYPES[holder]))
    elif holder in _INTEGER_DTYPES:
        target.data.extend(array.to_numpy().tolist())
    else:
        target.data.extend(array.to_pylist())


def _encode_arrays(arrays: Any, element_type: DataType, array: Any) -> None:
    """One ScalarField for each row; an empty one for null."""
    arrays.SetInParent()
    arrays.element_type = int(element_type)
    holder = HOLDERS[element_type]
    # flatten() leaves out what lies under nulls, so that the lengths of the others are boundaries.
    lengths = array.value_lengths().fill_null(0).to_numpy()
    ends = np.cumsum(lengths).tolist()
    values = array.flatten()
    if holder in _PACKED_DTYPES:
        dtype = np.dtype(_PACKED_DTYPES[holder])
        flat: Any = values.to_numpy(zero_copy_only=False).astype(dtype, copy=False).tobytes()
        width = dtype.itemsize
    else:
        flat = values.to_pylist()
        width = 0
    start = 0
    for end in ends:
        row = getattr(arrays.data.add(), holder)
        row.SetInParent()
        if end > start:
            if width:
                row.data.append(flat[start * width : end * width])
            else:
                row.data.extend(flat[start:end])
        start = end


def _time_texts(array: Any, times: TimeOutput) -> Any:
    moments = array.fill_null(0).to_numpy()
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return pa.array(format_timestamps(moments, times.zone), pa.string(), mask=missing)


def _time_parts(array: Any, times: TimeOutput) -> Any:
    """A list array of the wanted parts of each timestamp."""
    parts = parts_of(array.fill_null(0).to_numpy(), times.zone, times.parts)
    offsets = np.arange(0, parts.size + 1, len(times.parts), dtype=np.int32)
    missing = array.is_null() if array.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(parts.reshape(-1)), mask=missing)


def _keep_keys(array: Any, keys: Sequence[str]) -> Any:
    """Rows of JSON objects with only ``keys``; each value's text stays as it is."""
    rows = []
    for text in array.to_pylist():
        entries = _json_object.decode(text) if text else {}
        rows.append(msgspec.json.encode({key: entries[key] for key in keys if key in entries}))
    return pa.array(rows, pa.binary())
