"""Columns of files as columns of an insert.

Numbers, strings and dense vectors stay arrays all the way. What is nested, or a text that has to be
parsed, takes the way of JSON values. A text in place of such a value (in CSV files always, in
Parquet files of JSON and sparse vectors) is its JSON.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from elanus.errors import InvalidParameter
from elanus.model.schema import DYNAMIC_FIELD, CollectionSchema, FieldSchema, StructSchema
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, narrowed, vector_width
from elanus.rows.objects import column_message, struct_column_message
from elanus.rows.texts import json_name
from elanus.wire.columns import HOLDERS, WireColumn, decode_column
from elanus.wire.lists import flattened
from elanus.workers.data.importing.pieces import Columns

_PLAIN_TEXTS = (DataType.VARCHAR, DataType.JSON, DataType.GEOMETRY, DataType.TIMESTAMPTZ)
"""Types that a text is a value of as it is."""
_HALVES = (DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)


def wire_columns(piece: Columns, schema: CollectionSchema, null_text: str) -> list[WireColumn]:
    """The columns of ``piece`` as a client would have sent them; values are not checked yet.

    null_text: what stands for null in texts. Raises InvalidParameter, InsertDataError.
    """
    structs = {struct.name: struct for struct in schema.structs}
    found: list[WireColumn] = []
    extra: dict[str, Any] = {}
    for name, values in piece.columns.items():
        field = schema.by_name.get(name)
        if name in structs:
            found += _struct(piece, structs[name], values, schema)
        elif field is None or field.is_dynamic or field.struct:
            extra[name] = values
        else:
            taken = _without_null_texts(field, values, null_text) if piece.are_texts else values
            column = _direct(field, taken) or _by_values(piece, field, taken)
            if column is not None:
                found.append(column)
    if extra:
        found.append(_dynamic(piece, extra, schema))
    return found


def _without_null_texts(field: FieldSchema, texts: Any, null_text: str) -> Any:
    if not field.nullable and field.default_value is None:
        return texts
    return pc.if_else(pc.equal(texts, null_text), pa.scalar(None, texts.type), texts)


# --- without Python's objects -------------------------------------------------------------------


def _direct(field: FieldSchema, values: Any) -> WireColumn | None:
    """The column, if its values need no look at each of them; else None."""
    valid = values.is_valid().to_numpy(zero_copy_only=False) if values.null_count else None
    present = values.drop_null() if values.null_count else values
    if not len(present):
        return None
    if field.data_type in ELEMENT_DTYPES:
        taken: Any = _vectors(field, present)
    else:
        taken = _scalars(field.data_type, present)
    if taken is None:
        return None
    return WireColumn(
        name=field.name,
        data_type=field.data_type,
        holder=HOLDERS[field.data_type],
        values=taken,
        valid=valid,
    )


def _scalars(data_type: DataType, values: Any) -> Any:
    kind = values.type
    if data_type is DataType.VARCHAR:
        return values.cast(pa.string()) if _is_text(kind) else None
    if data_type is DataType.BOOL:
        return values.to_numpy(zero_copy_only=False) if pa.types.is_boolean(kind) else None
    if data_type.is_integer and pa.types.is_integer(kind):
        wide = values.cast(pa.int64(), safe=True).to_numpy()
        if data_type is DataType.INT64:
            return wide
        bounds = np.iinfo(np.int32)
        if ((wide < bounds.min) | (wide > bounds.max)).any():
            return None  # the other way says which
        return wide.astype(np.int32)
    if data_type.is_floating and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        dtype = np.float32 if data_type is DataType.FLOAT else np.float64
        with np.errstate(over="ignore"):  # what becomes infinite is refused later
            return values.to_numpy(zero_copy_only=False).astype(dtype)
    return None


def _vectors(field: FieldSchema, values: Any) -> Any:
    """NumPy (rows, width) of the elements of the field's kind, if all rows have one width."""
    if not _is_list(values.type):
        return None
    flat = values.flatten()
    width, rest = divmod(len(flat), len(values))
    lengths = pc.list_value_length(values).to_numpy()
    if rest or not width or flat.null_count or (lengths != width).any():
        return None
    element = flat.type
    elements = flat.to_numpy(zero_copy_only=False)
    dtype = ELEMENT_DTYPES[field.data_type]
    if field.data_type in _HALVES:
        if element == pa.uint8() and width == field.dim * dtype.itemsize:
            return np.ascontiguousarray(elements).view(dtype).reshape(len(values), -1)
        if pa.types.is_floating(element):
            floats = elements.astype(np.float32).reshape(-1, width)
            return narrowed(floats, field.data_type)
        return None
    if field.data_type is DataType.FLOAT_VECTOR:
        if not (pa.types.is_floating(element) or pa.types.is_integer(element)):
            return None
        with np.errstate(over="ignore"):
            return elements.astype(np.float32, copy=False).reshape(-1, width)
    if not pa.types.is_integer(element):
        return None
    bounds = np.iinfo(dtype)
    if elements.min() < bounds.min or elements.max() > bounds.max:
        return None
    return elements.astype(dtype, copy=False).reshape(-1, width)


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


# --- value by value -----------------------------------------------------------------------------


def _by_values(piece: Columns, field: FieldSchema, values: Any) -> WireColumn | None:
    plain = _python_values(field, values)
    if _is_text(values.type) and _is_parsed(field):
        plain = [_parsed(piece, field.name, n, text) for n, text in enumerate(plain)]
    message = column_message(field, plain, piece.first_row)
    return None if message is None else decode_column(message)


def _is_parsed(field: FieldSchema) -> bool:
    is_nested = field.data_type.is_vector or field.data_type is DataType.ARRAY
    return is_nested and field.data_type not in _PLAIN_TEXTS


def _python_values(field: FieldSchema, values: Any) -> list[Any]:
    kind = values.type
    if pa.types.is_timestamp(kind):
        return [None if each is None else each.isoformat() for each in values.to_pylist()]
    if field.data_type is DataType.JSON and pa.types.is_binary(kind):
        return values.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    return values.to_pylist()  # type: ignore[no-any-return]


def _parsed(piece: Columns, name: str, number: int, text: str | bytes | None) -> Any:
    if text is None:
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidParameter(
            f"row {piece.first_row + number} has no valid JSON for the field {name}: {error}"
        ) from error


def _struct(
    piece: Columns, struct: StructSchema, values: Any, schema: CollectionSchema
) -> list[WireColumn]:
    plain: list[Any] = values.to_pylist()
    if _is_text(values.type):
        plain = [_parsed(piece, struct.name, n, text or None) for n, text in enumerate(plain)]
    else:
        _encode_halves(schema.parts_of[struct.name], plain)
    message = struct_column_message(struct, plain, schema, piece.first_row)
    return [decode_column(part, name) for name, part in flattened([message])]


def _encode_halves(parts: Sequence[FieldSchema], structs: Sequence[Any]) -> None:
    """Vectors of 16-bit numbers that are stored as their bytes, in the form of JSON."""
    for part in parts:
        if part.element_type not in _HALVES:
            continue
        size = 2 * vector_width(part.element_type, part.dim)
        for struct in structs:
            for each in struct or ():
                stored = each.get(part.local_name)
                if isinstance(stored, list) and len(stored) == size and type(stored[0]) is int:
                    each[part.local_name] = base64.b64encode(bytes(stored)).decode()


def _dynamic(piece: Columns, extra: dict[str, Any], schema: CollectionSchema) -> WireColumn:
    """``$meta`` of the column of that name and of those that no field has a name for."""
    if not schema.enable_dynamic_field:
        names = ", ".join(name for name in extra)
        raise InvalidParameter(f"the collection has no field {names}, and no dynamic field")
    rows: list[dict[str, Any]] = [{} for _ in range(len(piece))]
    for name, values in extra.items():
        plain: list[Any] = values.to_pylist()
        for number, value in enumerate(plain):
            if name == DYNAMIC_FIELD:
                rows[number].update(_object(piece, number, value))
            elif value is not None:
                rows[number][name] = _guessed(value) if piece.are_texts else value
    texts = [orjson.dumps(row, default=str) for row in rows]
    return WireColumn(
        name=DYNAMIC_FIELD,
        data_type=DataType.JSON,
        holder=HOLDERS[DataType.JSON],
        values=pa.array(texts, pa.binary()),
        is_dynamic=True,
    )


def _object(piece: Columns, number: int, value: Any) -> dict[str, Any]:
    if value is None or value in ("", b""):
        return {}
    parsed = (
        _parsed(piece, DYNAMIC_FIELD, number, value) if isinstance(value, str | bytes) else value
    )
    if not isinstance(parsed, dict):
        raise InvalidParameter(
            f"row {piece.first_row + number} should have an object in {DYNAMIC_FIELD}, "
            f"but has {json_name(parsed)}"
        )
    return parsed


def _guessed(text: str) -> Any:
    """What the text says if it is JSON, else itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
