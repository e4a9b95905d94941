"""Columns and hits of a response as rows of JSON.

Arrays keep the form of the protocol (``{"Data": {"LongData": {"data": [1, 2]}}}``), JSON fields are
text, keys of the dynamic field stand in the row itself. float32 values stay NumPy values, so that
they are printed with the digits that a float32 has.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from elanus.access.rest.structs import is_struct, struct_rows
from elanus.model.types import DataType
from elanus.rows.vectors import json_of_vectors
from elanus.wire.columns import HOLDERS, WireColumn, decode_column
from elanus.wire.protocol import packed

DISTANCE = "distance"
ELEMENT = "offset"
"""The place of a hit, or of a row of a query, in an array of structs, if elements are asked for."""


def query_rows(fields_data: Sequence[Any], *, int64_as_text: bool) -> list[dict[str, Any]]:
    """The rows of a query's answer."""
    columns, structs = _columns(fields_data, int64_as_text)
    counts = [*map(_row_count, columns), *map(len, structs.values())]
    rows: list[dict[str, Any]] = [{} for _ in range(max(counts, default=0))]
    _add_columns(rows, columns, structs, int64_as_text)
    return rows


def element_rows(
    rows: Sequence[dict[str, Any]], element_indices: Sequence[Any]
) -> list[dict[str, Any]]:
    """A row for each element that the milvus.ElementIndices messages of ``rows`` name."""
    return [
        {**row, ELEMENT: place}
        for row, elements in zip(rows, element_indices, strict=True)
        for place in elements.indices.data
    ]


def search_rows(results: Any, *, int64_as_text: bool) -> list[dict[str, Any]]:
    """The hits of a schema.SearchResultData message, those of all queries one after another."""
    key = results.primary_field_name
    rows = [
        {key: primary, DISTANCE: score}
        for primary, score in zip(
            ids(results.ids, int64_as_text=int64_as_text), packed(results, "scores"), strict=True
        )
    ]
    columns, structs = _columns(results.fields_data, int64_as_text)
    _add_columns(rows, columns, structs, int64_as_text)
    for row, place in zip(rows, results.element_indices.data, strict=False):
        row[ELEMENT] = place
    return rows


def ids(message: Any, *, int64_as_text: bool) -> list[Any]:
    """The primary keys of a schema.IDs message."""
    if message.WhichOneof("id_field") == "str_id":
        return list(message.str_id.data)
    keys = message.int_id.data[:]
    return list(map(str, keys)) if int64_as_text else keys


def _row_count(column: WireColumn) -> int:
    return column.count if column.valid is None else len(column.valid)


def _columns(
    fields_data: Sequence[Any], int64_as_text: bool
) -> tuple[list[WireColumn], dict[str, list[Any]]]:
    """The columns, and the rows of each array of structs by its name."""
    plain = [decode_column(message) for message in fields_data if not is_struct(message)]
    structs = {
        message.field_name: struct_rows(message, int64_as_text=int64_as_text)
        for message in fields_data
        if is_struct(message)
    }
    return plain, structs


def _add_columns(
    rows: list[dict[str, Any]],
    columns: Iterable[WireColumn],
    structs: Mapping[str, list[Any]],
    int64_as_text: bool,
) -> None:
    for name, values in structs.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    for column in columns:
        if column.is_dynamic:
            for row, text in zip(rows, column.values.to_pylist(), strict=True):
                if text:
                    row.update(orjson.loads(text))
            continue
        name = column.name
        for row, value in zip(rows, _values(column, int64_as_text), strict=True):
            row[name] = value


def _values(column: WireColumn, int64_as_text: bool) -> list[Any]:
    """One JSON value for each row."""
    values = _plain(column, int64_as_text)
    valid = column.valid
    if valid is None or valid.all():
        return values
    if column.data_type.is_vector:  # only the valid ones were sent
        remaining = iter(values)
        return [next(remaining) if there else None for there in valid.tolist()]
    return [value if there else None for value, there in zip(values, valid.tolist(), strict=True)]


def _plain(column: WireColumn, int64_as_text: bool) -> list[Any]:
    values = column.values
    if column.data_type.is_vector:
        return json_of_vectors(column.data_type, values)
    if column.data_type is DataType.ARRAY:
        return _arrays(column)
    if column.data_type is DataType.JSON:
        return [text.decode() for text in values.to_pylist()]
    if not isinstance(values, np.ndarray):
        return list(values.to_pylist())
    if values.dtype == np.float32:
        return list(values)
    if values.dtype == np.int64 and int64_as_text:
        return list(map(str, values.tolist()))
    plain: list[Any] = values.tolist()
    return plain


def _arrays(column: WireColumn) -> list[Any]:
    holder = column.element_holder or HOLDERS[column.element_type]
    name = "".join(map(str.capitalize, holder.split("_")))  # long_data → LongData
    rows = column.values.to_pylist()
    if holder == "float_data":
        rows = [np.array(row, np.float32) for row in rows]
    return [{"Data": {name: {"data": row}}} for row in rows]
