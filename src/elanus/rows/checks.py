"""What the values of a column must be like, and Milvus's texts when they aren't.

Each check takes the valid values of one column and gives them back as an Arrow array of the
field's type. Numbers are checked as arrays; JSON is parsed value by value, since only a parser can
tell that a text is JSON.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import tzinfo
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from elanus.errors import InvalidParameter
from elanus.model.geometry import wkbs_of
from elanus.model.schema import DYNAMIC_FIELD, CollectionSchema, FieldSchema, arrow_type
from elanus.model.timestamptz import parse_timestamps
from elanus.model.types import DataType
from elanus.model.vectors import vector_column, vector_width, vectors_of, widened
from elanus.wire.columns import WireColumn, require_holder
from elanus.wire.vectors import check_finite

_NARROW: dict[DataType, type[np.int8] | type[np.int16]] = {
    DataType.INT8: np.int8,
    DataType.INT16: np.int16,
}
_WITHOUT_ALL_NUMBERS = (
    DataType.FLOAT_VECTOR,
    DataType.FLOAT16_VECTOR,
    DataType.BFLOAT16_VECTOR,
)
"""Types whose elements can be NaN or infinite, and must not be."""


def checked_values(field: FieldSchema, column: WireColumn, json_max_length: int) -> pa.Array:
    """The values of ``column`` (valid rows only) as an array of ``arrow_type(field)``; timestamps
    come as microseconds (see :func:`read_times`).

    Raises InvalidParameter for values of another type, out of range, too long, or not finite.
    """
    require_holder(column, field)
    values = column.values
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        return values
    if field.data_type is DataType.ARRAY_OF_VECTOR:
        return _vector_lists(field, column)
    if field.data_type.is_vector:
        return _vectors(field, values)
    if field.data_type is DataType.ARRAY:
        return _arrays(field, column)
    if field.data_type is DataType.JSON:
        return _json(field, values, json_max_length)
    if field.data_type is DataType.GEOMETRY:
        return pa.array(wkbs_of(values.to_pylist(), field.name), pa.binary())
    return _scalars(field.data_type, field, pa.array(values) if _is_numpy(values) else values)


def read_times(
    columns: Mapping[str, WireColumn], schema: CollectionSchema, zone: tzinfo
) -> dict[str, WireColumn]:
    """``columns`` by field with the texts of timestamps as microseconds; ``zone`` is that of a
    text without an offset. Raises InvalidParameter."""
    read = dict(columns)
    for name, column in columns.items():
        field = schema.by_name[name]
        if field.data_type is DataType.TIMESTAMPTZ and column.values is not None:
            require_holder(column, field)
            moments = pa.array(parse_timestamps(column.values.to_pylist(), zone))
            read[name] = replace(column, values=moments)
    return read


def check_dynamic(rows: pa.Array, schema: CollectionSchema) -> None:
    """Every row of ``$meta`` must be an object without the names of static fields."""
    reserved = {DYNAMIC_FIELD} | {field.struct or field.name for field in schema.user_fields}
    for number, text in enumerate(rows.to_pylist()):
        keys = _parse(text, DYNAMIC_FIELD, number)
        if not isinstance(keys, dict):
            raise InvalidParameter(
                f"dynamic field should be a JSON object, row number: {number}, got: "
                f"{type(keys).__name__}"
            )
        if not reserved.isdisjoint(keys):
            name = next(key for key in keys if key in reserved)
            raise InvalidParameter(
                f"dynamic field name cannot include the static field name: {name}"
            )


def _is_numpy(values: Any) -> bool:
    return isinstance(values, np.ndarray)


def _scalars(data_type: DataType, field: FieldSchema, values: pa.Array) -> pa.Array:
    """Checks values of a scalar type: a field's own, or the elements of an Array field."""
    if data_type in _NARROW:
        return _narrow(data_type, values)
    if data_type.is_floating:
        check_finite(values.to_numpy())
    elif data_type is DataType.VARCHAR:
        _check_length(field, values)
    return values


def _narrow(data_type: DataType, values: pa.Array) -> pa.Array:
    bounds = np.iinfo(_NARROW[data_type])
    sent = values.to_numpy()
    outside = np.flatnonzero((sent < bounds.min) | (sent > bounds.max))
    if len(outside):
        number = int(outside[0])
        raise InvalidParameter(
            f"the {number}th element ({sent[number]}) out of range: [{bounds.min}, {bounds.max}]",
            expected="integer doesn't overflow",
            actual="out of range",
        )
    return pa.array(sent.astype(_NARROW[data_type]))


def _check_length(field: FieldSchema, values: pa.Array) -> None:
    """Lengths are counted in bytes."""
    lengths = pc.binary_length(values)
    longest = pc.max(lengths).as_py() or 0
    if longest <= field.max_length:
        return
    number = pc.index(pc.greater(lengths, field.max_length), True).as_py()
    raise InvalidParameter(
        f"length of varchar field {field.name} exceeds max length, row number: {number}, "
        f"length: {lengths[number].as_py()}, max length: {field.max_length}"
    )


def _vectors(field: FieldSchema, vectors: npt.NDArray[Any]) -> pa.Array:
    """(rows, width) as a fixed-size list, without a copy."""
    if vectors.shape[1] != vector_width(field.data_type, field.dim):
        is_binary = field.data_type is DataType.BINARY_VECTOR
        dim = vectors.shape[1] * (8 if is_binary else 1)
        raise InvalidParameter(
            f"the dim ({dim}) of field data({field.name}) is not equal to schema dim ({field.dim})"
        )
    if field.data_type in _WITHOUT_ALL_NUMBERS:
        check_finite(vectors if vectors.dtype == np.float32 else widened(vectors))
    return vector_column(vectors)


def _vector_lists(field: FieldSchema, column: WireColumn) -> pa.Array:
    rows = column.values
    _check_capacity(field, rows)
    if not column.element_holder:  # no row has a vector
        return pa.array([[]] * len(rows), arrow_type(field))
    vectors = _vectors(field.of_elements, vectors_of(rows.values))
    return pa.ListArray.from_arrays(rows.offsets, vectors, type=arrow_type(field))


def _arrays(field: FieldSchema, column: WireColumn) -> pa.Array:
    rows = column.values
    _check_capacity(field, rows)
    if not column.element_holder:  # no row has an element that would tell their type
        return rows.cast(arrow_type(field))
    elements = _scalars(field.element_type, field, rows.values)
    return pa.ListArray.from_arrays(rows.offsets, elements, type=arrow_type(field))


def _check_capacity(field: FieldSchema, rows: pa.Array) -> None:
    lengths = pc.list_value_length(rows).to_numpy()
    too_long = np.flatnonzero(lengths > field.max_capacity)
    if len(too_long):
        number = int(too_long[0])
        raise InvalidParameter(
            f"the length ({lengths[number]}) of {number}th array exceeds max capacity "
            f"({field.max_capacity})",
            expected="valid length array",
            actual="array length exceeds max capacity",
        )


def _json(field: FieldSchema, values: pa.Array, max_length: int) -> pa.Array:
    """JSON texts in UTF-8; an empty dynamic row counts as an empty object."""
    lengths = pc.binary_length(values)
    longest = pc.max(lengths).as_py() or 0
    if longest > max_length:
        raise InvalidParameter(
            f"the length ({longest}) of json field ({field.name}) exceeds max length ({max_length})"
        )
    if field.is_dynamic:
        return pc.if_else(pc.equal(lengths, 0), pa.scalar(b"{}", pa.binary()), values)
    for number, text in enumerate(values.to_pylist()):
        _parse(text, field.name, number)
    return values


def _parse(text: bytes, field_name: str, number: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(
            f"field {field_name} is not valid JSON, row number: {number}, {error}"
        ) from error
