"""From the columns of an insert or upsert to complete rows, with every check on the way.

The result is one Arrow record batch in schema order: every column there, nulls and defaults filled
in, ``$meta`` an object in every row. A column arrives compressed, that is with its valid values
only and a mask that says where they belong. The checks of values stand in :mod:`checks`.
"""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.engine.text.bm25 import document_vectors
from elanus.errors import InvalidParameter
from elanus.model.schema import (
    DYNAMIC_FIELD,
    CollectionSchema,
    FieldSchema,
    arrow_type,
    default_scalar,
)
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, vector_column, vectors_of
from elanus.rows import checks
from elanus.rows.structs import check_structs
from elanus.wire.columns import WireColumn, decode_column
from elanus.wire.lists import flattened

ALLOW_INSERT_AUTO_ID = "allow_insert_auto_id"


def check_num_rows(num_rows: int) -> None:
    if num_rows <= 0:
        raise InvalidParameter(
            "num_rows should be greater than 0", expected="invalid num_rows", actual=str(num_rows)
        )


def decoded_columns(
    messages: Sequence[Any], schema: CollectionSchema, zone: tzinfo
) -> dict[str, WireColumn]:
    """The columns of schema.FieldData messages by the names of their fields, times read by
    ``zone``. Raises InvalidParameter."""
    columns = [decode_column(message, name) for name, message in flattened(messages)]
    given = by_field(columns, schema)
    check_structs(given, schema)
    return checks.read_times(given, schema, zone)


def by_field(columns: Sequence[WireColumn], schema: CollectionSchema) -> dict[str, WireColumn]:
    """The columns by the names of their fields. Raises InvalidParameter for a column that occurs
    twice or has no field."""
    found: dict[str, WireColumn] = {}
    for column in columns:
        name = DYNAMIC_FIELD if column.is_dynamic else column.name
        if name in found:
            raise InvalidParameter(f"duplicated field {name} found")
        found[name] = column
    extra = [name for name in found if name not in schema.by_name]
    for name in found:
        if name in schema.by_name and schema.by_name[name].is_function_output:
            raise InvalidParameter(
                f"not allowed to provide input data for function output field: {name}"
            )
    if extra:
        expected = len(schema.fields)
        raise InvalidParameter(
            f"more fieldData has pass in, the collection has no field {', '.join(extra)}",
            expected=str(expected),
            actual=str(expected + len(extra)),
        )
    return found


def generates_keys(
    schema: CollectionSchema, given: Mapping[str, WireColumn], properties: Mapping[str, str]
) -> bool:
    """Whether the server makes the primary keys of an insert of the columns ``given``. Raises
    InvalidParameter if they are given where they must not be."""
    primary = schema.primary
    if not primary.auto_id:
        return False
    if primary.name not in given:
        return True
    if properties.get(ALLOW_INSERT_AUTO_ID, "").lower() != "true":
        raise InvalidParameter(
            "can not assign primary field data when auto id enabled and "
            f"allow_insert_auto_id is false {primary.name}"
        )
    return False


def generated_keys(field: FieldSchema, first: int, count: int) -> pa.Array:
    """``count`` primary keys from the id ``first`` on; decimal strings for a VarChar key."""
    ids = pa.array(np.arange(first, first + count, dtype=np.int64))
    return ids if field.data_type is DataType.INT64 else ids.cast(pa.string())


def build_rows(
    given: Mapping[str, WireColumn],
    schema: CollectionSchema,
    num_rows: int,
    *,
    primary_keys: pa.Array | None = None,
    json_max_length: int,
) -> pa.RecordBatch:
    """Complete rows (``schema.arrow``) from columns ``given`` by field name.

    primary_keys: keys to use in place of a given column. json_max_length: longest JSON value,
    bytes. Raises InvalidParameter with the field, what was found and what was expected.
    """
    arrays = []
    for field in schema.fields:
        column = given.get(field.name)
        if field.is_function_output:
            arrays.append(pa.nulls(num_rows, arrow_type(field)))
        elif field.is_primary and primary_keys is not None:
            arrays.append(primary_keys)
        elif column is not None:
            arrays.append(build_column(field, column, schema, num_rows, json_max_length))
        else:
            arrays.append(absent_column(field, num_rows))
    return with_function_outputs(pa.RecordBatch.from_arrays(arrays, schema=schema.arrow), schema)


def with_function_outputs(rows: pa.RecordBatch, schema: CollectionSchema) -> pa.RecordBatch:
    """Complete rows with what the schema's functions make of them. They are applied here, once,
    rather than by everyone who reads the log."""
    for name, text in schema.text_of.items():
        position = rows.schema.get_field_index(name)
        vectors = document_vectors(rows, text)
        rows = rows.set_column(position, rows.schema.field(position), vectors)
    return rows


def build_column(
    field: FieldSchema,
    column: WireColumn,
    schema: CollectionSchema,
    num_rows: int,
    json_max_length: int,
) -> pa.Array:
    """One complete column (num_rows,) of ``arrow_type(field)``, checked."""
    valid = _mask(field, column.valid, num_rows)
    if valid is not None and not valid.any():
        # Without a value there may be no holder that tells the type.
        return absent_column(field, num_rows)
    values = checks.checked_values(field, column, json_max_length)
    _check_count(field, column, len(values), valid, num_rows)
    if field.is_dynamic:
        checks.check_dynamic(values, schema)
    return values if valid is None else _spread(field, values, valid)


def absent_column(field: FieldSchema, num_rows: int) -> pa.Array:
    """The column of a field that was not sent: its default, nulls, or empty objects."""
    if field.is_dynamic:
        return pa.repeat(pa.scalar(b"{}", pa.binary()), num_rows)
    if field.default_value is not None:
        return pa.repeat(default_scalar(field), num_rows)
    if field.nullable:
        return pa.nulls(num_rows, arrow_type(field))
    raise InvalidParameter(f"fieldSchema({field.name}) has no corresponding fieldData pass in")


def _mask(
    field: FieldSchema, valid: npt.NDArray[np.bool_] | None, num_rows: int
) -> npt.NDArray[np.bool_] | None:
    """The mask of valid rows (num_rows,), or None if all are."""
    if valid is None or not len(valid):
        return None
    takes_nulls = field.nullable or field.default_value is not None or field.is_dynamic
    if len(valid) != num_rows or not (takes_nulls or valid.all()):
        raise InvalidParameter(
            f"the length of valid_data of field({field.name}) is wrong",
            expected=str(num_rows if takes_nulls else 0),
            actual=str(len(valid)),
        )
    return None if valid.all() else valid


def _check_count(
    field: FieldSchema,
    column: WireColumn,
    count: int,
    valid: npt.NDArray[np.bool_] | None,
    num_rows: int,
) -> None:
    expected = num_rows if valid is None else int(valid.sum())
    if count == expected:
        return
    if column.valid is not None and len(column.valid):
        raise InvalidParameter(
            f"the length of field is wrong, field {field.name}",
            expected=str(expected),
            actual=str(count),
        )
    raise InvalidParameter(
        f"the num_rows ({count}) of field ({field.name}) is not equal to "
        f"passed num_rows ({num_rows})"
    )


def _spread(field: FieldSchema, values: pa.Array, valid: npt.NDArray[np.bool_]) -> pa.Array:
    """Compressed ``values`` at the places where ``valid`` is true; the default or null between."""
    if field.data_type in ELEMENT_DTYPES:
        vectors = vectors_of(values)
        placed = np.zeros((len(valid), vectors.shape[1]), vectors.dtype)
        placed[valid] = vectors
        return vector_column(placed, valid)
    positions = np.cumsum(valid) - 1
    spread = values.take(pa.array(positions, mask=~valid))
    if field.is_dynamic:
        return pc.fill_null(spread, pa.scalar(b"{}", pa.binary()))
    if field.default_value is not None:
        return pc.fill_null(spread, default_scalar(field))
    return spread
