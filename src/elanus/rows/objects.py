"""The rows of an insert or upsert, JSON objects, as columns of the protocol.

A key that is missing or null is null, or the default of its field. What no field has a name for
goes into the dynamic field, if there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from elanus.errors import InvalidParameter
from elanus.model.schema import (
    DYNAMIC_FIELD,
    CollectionSchema,
    FieldSchema,
    StructSchema,
    arrow_type,
)
from elanus.rows.build import generates_keys
from elanus.rows.struct_values import struct_column
from elanus.rows.texts import as_text
from elanus.rows.unfit import InsertDataError, Unfit
from elanus.rows.values import TEXT_TYPES, arrow_column
from elanus.wire.columns import HOLDERS, encode_column
from elanus.wire.protocol import pack
from elanus.wire.protocol import schema as protocol
from elanus.wire.vectors import put_vectors

MAX_SHOWN = 64
"""Most characters of a value that are shown in a message."""


@dataclass(frozen=True, slots=True)
class WriteMode:
    """upsert: primary keys are given. partial: columns that no row has are left as they are.
    first_row: what the first row is called in messages."""

    upsert: bool = False
    partial: bool = False
    first_row: int = 0


def field_messages(
    rows: Sequence[dict[str, Any]],
    schema: CollectionSchema,
    properties: Mapping[str, str],
    mode: WriteMode,
) -> list[Any]:
    """schema.FieldData messages of ``rows``. Raises InsertDataError."""
    messages = []
    for field in schema.user_fields:
        if field.struct or (
            field.is_function_output and not any(field.name in row for row in rows)
        ):
            continue
        values = [row.get(field.name) for row in rows]
        missing = values.count(None)
        if missing == len(values):
            message = _absent(field, rows, schema, mode)
        else:
            if field.is_primary and not mode.upsert:
                _check_given_keys(schema, field, properties)
            message = _column(field, values, missing, rows, mode)
        if message is not None:
            messages.append(message)
    for struct in schema.structs:
        message = _struct(struct, rows, schema, mode)
        if message is not None:
            messages.append(message)
    dynamic = _dynamic(rows, schema)
    return messages if dynamic is None else [*messages, dynamic]


def column_message(field: FieldSchema, values: list[Any], first_row: int) -> Any:
    """The schema.FieldData message of a field's values, None for null; None if all are null and the
    field takes that. Raises InsertDataError."""
    missing = values.count(None)
    if missing < len(values):
        return _column(field, values, missing, (), WriteMode(first_row=first_row))
    if not _takes_nulls(field):
        raise _missing(field, first_row)
    return None


def struct_column_message(
    struct: StructSchema, values: list[Any], schema: CollectionSchema, first_row: int
) -> Any:
    """As :func:`column_message` of arrays of structs."""
    rows = [{struct.name: value} for value in values]
    return _struct(struct, rows, schema, WriteMode(first_row=first_row))


def _check_given_keys(
    schema: CollectionSchema, field: FieldSchema, properties: Mapping[str, str]
) -> None:
    given: Any = {field.name: None}
    try:
        generates_keys(schema, given, properties)
    except InvalidParameter as error:
        raise InsertDataError(error.message) from error


def _absent(
    field: FieldSchema, rows: Sequence[dict[str, Any]], schema: CollectionSchema, mode: WriteMode
) -> Any:
    """The message of a column without any value, None if it is not to be sent."""
    if mode.partial and not any(field.name in row for row in rows):
        return None
    if field.is_primary and (field.auto_id or mode.upsert):
        return None  # generated, or missed by the core
    if not _takes_nulls(field):
        raise _missing(field, mode.first_row)
    if not mode.partial:
        return None  # the core fills it
    return _encode(field, pa.array([], arrow_type(field)), np.zeros(len(rows), bool))


def _column(
    field: FieldSchema,
    values: list[Any],
    missing: int,
    rows: Sequence[dict[str, Any]],
    mode: WriteMode,
) -> Any:
    valid: npt.NDArray[np.bool_] | None = None
    if missing:
        valid = np.fromiter((value is not None for value in values), bool, len(values))
        if not _takes_nulls(field):
            raise _missing(field, mode.first_row + int(valid.argmin()))
        if mode.partial and not all(field.name in row for row in rows):
            raise _uneven(field.name)
        values = [value for value in values if value is not None]
    try:
        column = arrow_column(field, values)
    except Unfit as unfit:
        number = unfit.position if valid is None else int(np.flatnonzero(valid)[unfit.position])
        raise InsertDataError(_unfit_text(field.name, mode.first_row + number, unfit)) from unfit
    return _encode(field, column, valid)


def _struct(
    struct: StructSchema, rows: Sequence[dict[str, Any]], schema: CollectionSchema, mode: WriteMode
) -> Any:
    name = struct.name
    there = [name in row for row in rows]
    if mode.partial and not any(there):
        return None
    values = [row.get(name) for row in rows]
    if None in values and not struct.nullable:
        raise InsertDataError(f"missing struct array field: {name}")
    if mode.partial and not all(there):
        raise _uneven(name)
    try:
        return struct_column(schema, name, values)
    except Unfit as unfit:
        raise InsertDataError(_unfit_text(name, mode.first_row + unfit.position, unfit)) from unfit


def _encode(field: FieldSchema, column: Any, valid: npt.NDArray[np.bool_] | None) -> Any:
    """A column of valid values only, as requests have them."""
    if field.data_type.is_vector:
        message = protocol.FieldData(type=int(field.data_type), field_name=field.name)
        put_vectors(message.vectors, field.data_type, column)
    elif field.data_type in TEXT_TYPES:
        message = protocol.FieldData(type=int(field.data_type), field_name=field.name)
        texts = getattr(message.scalars, HOLDERS[field.data_type])
        texts.SetInParent()
        texts.data.extend(column.cast(pa.string()).to_pylist())
    else:
        message = encode_column(msgspec.structs.replace(field, nullable=False), column)
    if valid is not None:
        message.valid_data.extend(pack(valid, "?"))
    return message


def _dynamic(rows: Sequence[dict[str, Any]], schema: CollectionSchema) -> Any:
    """The column of what has no field; None if nothing has."""
    names = {field.struct or field.name for field in schema.user_fields}
    extras = [
        {} if row.keys() <= names else {key: row[key] for key in row if key not in names}
        for row in rows
    ]
    if not any(extras):
        return None
    if not schema.enable_dynamic_field:
        keys = next(extra for extra in extras if extra)
        raise InsertDataError(
            "has pass more field without dynamic schema, please check it: "
            f"the collection has no field {', '.join(keys)}"
        )
    if any(DYNAMIC_FIELD in extra for extra in extras):
        raise InsertDataError(
            f"use the invalid field name({DYNAMIC_FIELD}) when enable dynamicField"
        )
    texts = [orjson.dumps(extra) for extra in extras]
    return encode_column(schema.by_name[DYNAMIC_FIELD], pa.array(texts, pa.binary()))


def _takes_nulls(field: FieldSchema) -> bool:
    return field.nullable or field.default_value is not None


def _uneven(name: str) -> InsertDataError:
    return InsertDataError(
        f"a partial update needs the same fields in every row, but some have no {name}"
    )


def _missing(field: FieldSchema, number: int) -> InsertDataError:
    if field.data_type.is_vector:
        return InsertDataError(f"missing vector field: {field.name}")
    error = InvalidParameter(
        f"row {number} has no value for the field {field.name}",
        expected=field.data_type.milvus_name,
        actual="null",
    )
    return InsertDataError(error.message)


def _unfit_text(name: str, number: int, unfit: Unfit) -> str:
    shown = as_text(unfit.actual)
    if len(shown) > MAX_SHOWN:
        shown = f"{shown[:MAX_SHOWN]}…"
    error = InvalidParameter(
        f"row {number} has a wrong value for the field {name}",
        expected=unfit.expected,
        actual=shown,
    )
    return error.message
