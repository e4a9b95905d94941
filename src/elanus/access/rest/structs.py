"""Arrays of structs in JSON: an array of objects, each with a value for every field of the struct,
or null.

In a schema they stand in ``structFields``, their fields as Array or ArrayOfVector.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from elanus.access.rest.bodies import Body
from elanus.model.types import DataType
from elanus.model.vectors import VectorLists
from elanus.rows.vectors import json_of_vectors
from elanus.wire.columns import WireColumn, decode_column
from elanus.wire.lists import LIST_HOLDER, STRUCT_HOLDER
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
