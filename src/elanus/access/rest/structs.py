"""Arrays of structs in JSON: an array of objects, each with a value for every field of the struct,
or null.

In a schema they stand in ``structFields``, their fields as Array or ArrayOfVector.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from elanus.access.rest.bodies import Body
from elanus.access.rest.unfit import Unfit
from elanus.access.rest.values import arrow_column
from elanus.access.rest.vectors import json_of_vectors
from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.types import DataType
from elanus.model.vectors import VectorLists, list_column
from elanus.wire.columns import WireColumn, decode_column, encode_column
from elanus.wire.lists import LIST_HOLDER, STRUCT_HOLDER, struct_message
from elanus.wire.protocol import pack
from elanus.wire.protocol import schema as protocol


def is_struct(message: Any) -> bool:
    """Whether a schema.FieldData message has the columns of a struct."""
    return bool(message.WhichOneof("field") == STRUCT_HOLDER)


def struct_schema(struct: Body, field_message: Callable[[Body], Any]) -> Any:
    """A schema.StructArrayFieldSchema message of an entry of ``structFields``."""
    return protocol.StructArrayFieldSchema(
        name=struct.required_text("fieldName"),
        description=struct.text("description"),
        nullable=struct.flag("nullable"),
        fields=[field_message(field) for field in struct.parts("fields")],
    )


def struct_description(struct: Any, field: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """What is told of a schema.StructArrayFieldSchema message; ``field``: of a field message."""
    return {
        "name": struct.name,
        "id": struct.fieldID,
        "type": DataType.ARRAY_OF_STRUCT.milvus_name,
        "description": struct.description,
        "nullable": struct.nullable,
        "fields": [field(part) for part in struct.fields],
    }


def struct_column(schema: CollectionSchema, name: str, values: Sequence[Any]) -> Any:
    """The schema.FieldData message of one array of objects, or None, for each row. Raises Unfit."""
    parts = schema.parts_of[name]
    wanted = {part.local_name for part in parts}
    expected = f"array of objects with {', '.join(sorted(wanted))}"
    for position, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, list) or not all(
            isinstance(each, dict) and each.keys() == wanted for each in value
        ):
            raise Unfit(position, expected, value)
    rows = [row for row, value in enumerate(values) if value is not None]
    present = [values[row] for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(value) for value in present])])
    try:
        messages = [_part(part, present, offsets) for part in parts]
    except Unfit as unfit:
        raise Unfit(rows[unfit.position], unfit.expected, unfit.actual) from unfit
    if len(rows) < len(values):
        valid = np.zeros(len(values), np.bool_)
        valid[rows] = True
        for message in messages:
            message.valid_data.extend(pack(valid, "?"))
    return struct_message(name, 0, messages)


def _part(part: FieldSchema, values: Sequence[Any], offsets: Any) -> Any:
    """The column of a field of rows that are not null, without a mark that they aren't."""
    part = msgspec.structs.replace(part, nullable=False)
    rows = [[each[part.local_name] for each in value] for value in values]
    if part.data_type is not DataType.ARRAY_OF_VECTOR:
        return encode_column(part, arrow_column(part, rows))
    elements = list(chain.from_iterable(rows))
    if not elements:
        return encode_column(part, pa.array(rows, arrow_type(part)))
    try:
        vectors = arrow_column(part.of_elements, elements)
    except Unfit as unfit:
        position = int(np.searchsorted(offsets, unfit.position, side="right")) - 1
        raise Unfit(position, f"list of {unfit.expected}", unfit.actual) from unfit
    return encode_column(part, list_column(offsets, vectors))


def struct_rows(message: Any, *, int64_as_text: bool) -> list[list[dict[str, Any]] | None]:
    """The array of objects of each row of a schema.FieldData message of a struct; None for null."""
    parts = [decode_column(part) for part in message.struct_arrays.fields]
    names = [part.name for part in parts]
    columns = [_rows(part, int64_as_text) for part in parts]
    rows: list[list[dict[str, Any]] | None] = [
        [dict(zip(names, each, strict=True)) for each in zip(*row, strict=True)]
        for row in zip(*columns, strict=True)
    ]
    if parts[0].valid is not None:
        for absent in np.flatnonzero(~parts[0].valid).tolist():
            rows[absent] = None
    return rows


def _rows(column: WireColumn, int64_as_text: bool) -> list[list[Any]]:
    if not column.element_holder:
        return [[] for _ in range(column.count)]
    if column.holder == LIST_HOLDER:
        lists = VectorLists.of(column.values)
        rows = map(lists.row, range(len(lists)))
        return [json_of_vectors(column.element_type, row) for row in rows]
    plain: list[list[Any]] = column.values.to_pylist()
    if column.element_holder == "float_data":
        return [list(np.array(row, np.float32)) for row in plain]
    if column.element_holder == "long_data" and int64_as_text:
        return [list(map(str, row)) for row in plain]
    return plain
