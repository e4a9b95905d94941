"""The schema and the four rows on which the examples of the filter language are explained."""

import re
from collections.abc import Mapping

import pyarrow as pa
from tests.unit.engine.filter.scanned import ScannedText

from elanus.engine.filter import compile_filter, evaluate
from elanus.model.schema import (
    CollectionSchema,
    FieldSchema,
    StructSchema,
    arrow_type,
    struct_field_name,
)
from elanus.model.types import DataType


def part(name: str, element_type: DataType) -> FieldSchema:
    return FieldSchema(
        name=struct_field_name("c", name),
        struct="c",
        data_type=DataType.ARRAY,
        element_type=element_type,
        nullable=True,
    )


SCHEMA = CollectionSchema(
    name="examples",
    enable_dynamic_field=True,
    structs=(StructSchema(name="c", nullable=True),),
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="i", data_type=DataType.INT8, nullable=True),
        FieldSchema(name="f", data_type=DataType.FLOAT),
        FieldSchema(
            name="s",
            data_type=DataType.VARCHAR,
            type_params={"max_length": "64", "enable_analyzer": "true", "enable_match": "true"},
        ),
        FieldSchema(name="b", data_type=DataType.BOOL),
        FieldSchema(name="j", data_type=DataType.JSON, nullable=True),
        FieldSchema(name="a", data_type=DataType.ARRAY, element_type=DataType.INT64),
        FieldSchema(name="v", data_type=DataType.ARRAY, element_type=DataType.VARCHAR),
        FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True),
        part("n", DataType.INT64),
        part("w", DataType.VARCHAR),
    ),
)

STATIC_SCHEMA = CollectionSchema(
    name="static", fields=tuple(field for field in SCHEMA.fields if not field.is_dynamic)
)

ROWS = {
    "id": [1, 2, 3, 4],
    "i": [1, 2, None, -128],
    "f": [0.5, 1.5, -2, 100],
    "s": ["red apple", "green apple pie", "Red wine", ""],
    "b": [True, False, True, False],
    "j": [
        b'{"k":1,"n":{"x":[1,2]},"t":"ab"}',
        b'{"k":1.5,"t":"AB","e":{}}',
        b'{"k":"1","l":[1,"a",[2]]}',
        None,
    ],
    "a": [[1, 2, 3], [4], [], [2, 2]],
    "v": [["a", "b"], [], ["c"], ["a"]],
    "c[n]": [[1, 5], [5], [], None],
    "c[w]": [["a", "b"], ["a"], [], None],
    "$meta": [b'{"d":5}', b'{"d":"5"}', b"{}", b'{"d":null,"q":[1]}'],
}

COLUMNS = {field.name: pa.array(ROWS[field.name], arrow_type(field)) for field in SCHEMA.fields}


def standard(text: str) -> list[str]:
    """A standard analyzer: words in lower case."""
    return re.findall(r"\w+", text.lower())


def texts(_name: str, column: pa.Array) -> ScannedText:
    return ScannedText(column, standard)


def passing(text: str, templates: Mapping[str, object] | None = None) -> list[int]:
    """The ids of the rows that pass."""
    plan = compile_filter(text, SCHEMA, templates)
    assert plan is not None
    found = evaluate(plan, COLUMNS.__getitem__, 4, texts=texts)
    return [row_id for row_id, passes in zip(ROWS["id"], found, strict=True) if passes]
