"""CreateCollection's checks: what is refused, in which words; what is filled in."""

from typing import Any

import msgspec
import pytest

from elanus.access.ddl.schemas import CollectionRequest, resolve
from elanus.config.settings import Settings
from elanus.errors import (
    ElanusError,
    IllegalSchema,
    InvalidFieldName,
    InvalidParameter,
    Rejected,
)
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

ID = FieldSchema(name="id", data_type=DataType.INT64, is_primary=True)
VECTOR = FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "8"})
TEXT = FieldSchema(name="text", data_type=DataType.VARCHAR, type_params={"max_length": "10"})
TAGS = FieldSchema(
    name="tags",
    data_type=DataType.ARRAY,
    element_type=DataType.VARCHAR,
    type_params={"max_capacity": "4", "max_length": "10"},
)


def changed(field: FieldSchema, **changes: Any) -> FieldSchema:
    return msgspec.structs.replace(field, **changes)


def create(*fields: FieldSchema, name: str = "books", **options: Any) -> CollectionRequest:
    schema = CollectionSchema(
        name=options.pop("schema_name", name),
        fields=fields,
        enable_dynamic_field=options.pop("dynamic", False),
    )
    values = {"shards": 1, "partitions": 0, "properties": {}, **options}
    return resolve(CollectionRequest(name=name, schema=schema, **values), Settings())


def numbered(count: int, data_type: DataType = DataType.INT8, **options: Any) -> list[FieldSchema]:
    return [FieldSchema(name=f"f{n}", data_type=data_type, **options) for n in range(count)]


def test_every_served_type_is_accepted() -> None:
    scalars = [
        FieldSchema(name=f"f{number}", data_type=data_type)
        for number, data_type in enumerate(
            (
                DataType.BOOL,
                DataType.INT8,
                DataType.INT16,
                DataType.INT32,
                DataType.INT64,
                DataType.FLOAT,
                DataType.DOUBLE,
                DataType.JSON,
            )
        )
    ]
    made = create(ID, VECTOR, TEXT, TAGS, *scalars)
    assert [field.name for field in made.schema.fields][:4] == ["id", "vector", "text", "tags"]


def test_a_dynamic_collection_gets_its_hidden_field_last() -> None:
    made = create(ID, VECTOR, dynamic=True)
    hidden = made.schema.fields[-1]
    assert (hidden.name, hidden.data_type, hidden.is_dynamic) == ("$meta", DataType.JSON, True)


def test_names_are_trimmed_and_shards_default_to_one() -> None:
    made = create(ID, VECTOR, name=" books ", shards=0)
    assert (made.name, made.schema.name, made.shards) == ("books", "books", 1)


def test_a_partition_key_makes_sixteen_partitions_unless_told_otherwise() -> None:
    key = changed(TEXT, is_partition_key=True)
    assert create(ID, VECTOR, key).partitions == 16
    assert create(ID, VECTOR, key, partitions=3).partitions == 3


WRONG: list[tuple[str, list[FieldSchema], dict[str, Any], type[ElanusError], str]] = [
    ("shards", [ID, VECTOR], {"shards": 17}, Rejected, "maximum shards's number should be"),
    ("fields", [ID, VECTOR, *numbered(63)], {}, Rejected, "maximum field's number should be"),
    ("no vector", [ID], {}, InvalidParameter, "schema does not contain vector field"),
    (
        "vectors",
        [ID, *numbered(5, DataType.FLOAT_VECTOR, type_params={"dim": "2"})],
        {},
        Rejected,
        "maximum vector field's number should be limited to 4",
    ),
    (
        "no name",
        [ID, VECTOR],
        {"name": ""},
        InvalidParameter,
        "collection name should not be empty",
    ),
    (
        "name's start",
        [ID, VECTOR],
        {"name": "1a"},
        InvalidParameter,
        "Invalid collection name: 1a. the first character of a collection name must be an "
        "underscore or letter: invalid parameter",
    ),
    (
        "name's letters",
        [ID, VECTOR],
        {"name": "a-b"},
        InvalidParameter,
        "collection name can only contain numbers, letters and underscores",
    ),
    (
        "name's length",
        [ID, VECTOR],
        {"name": "a" * 256},
        InvalidParameter,
        "the length of a collection name must be less than 255 characters",
    ),
    (
        "two names",
        [ID, VECTOR],
        {"schema_name": "films"},
        InvalidParameter,
        "[expected=collection name matches schema name][actual=don't match]",
    ),
    (
        "no pk",
        [changed(ID, is_primary=False), VECTOR],
        {},
        Rejected,
        "primary key is not specified",
    ),
    (
        "two pks",
        [ID, changed(ID, name="id2"), VECTOR],
        {},
        Rejected,
        "there are more than one primary key, field name = id, id2",
    ),
    (
        "pk's type",
        [changed(ID, data_type=DataType.FLOAT), VECTOR],
        {},
        Rejected,
        "the data type of primary key should be Int64 or VarChar",
    ),
    (
        "auto id",
        [ID, VECTOR, changed(TEXT, auto_id=True)],
        {},
        Rejected,
        "only primary field can speficy AutoID with true, field name = text",
    ),
    (
        "dynamic by hand",
        [ID, VECTOR, changed(TEXT, is_dynamic=True)],
        {},
        Rejected,
        "cannot explicitly set a field as a dynamic field",
    ),
    (
        "string",
        [ID, VECTOR, changed(TEXT, data_type=DataType.STRING)],
        {},
        Rejected,
        "string data type not supported yet, please use VarChar type instead",
    ),
    (
        "element type",
        [ID, VECTOR, changed(TAGS, element_type=DataType.JSON)],
        {},
        Rejected,
        "element type JSON is not supported",
    ),
    (
        "no element type",
        [ID, VECTOR, changed(TAGS, element_type=DataType.NONE)],
        {},
        Rejected,
        "element data type None is not valid",
    ),
    (
        "sparse with a dimension",
        [ID, changed(VECTOR, data_type=DataType.SPARSE_FLOAT_VECTOR)],
        {},
        Rejected,
        "dim should not be specified for sparse vector field",
    ),
    (
        "binary of no whole bytes",
        [ID, changed(VECTOR, data_type=DataType.BINARY_VECTOR, type_params={"dim": "12"})],
        {},
        Rejected,
        "binary vector dimension should be multiple of 8. ",
    ),
    (
        "too many bits",
        [ID, changed(VECTOR, data_type=DataType.BINARY_VECTOR, type_params={"dim": "262152"})],
        {},
        Rejected,
        "binary vector dimension should be in range 2 ~ 262144",
    ),
    (
        "one number",
        [ID, changed(VECTOR, data_type=DataType.INT8_VECTOR, type_params={"dim": "1"})],
        {},
        Rejected,
        "invalid dimension: 1. should be in range 2 ~ 32768",
    ),
    (
        "two partition keys",
        [ID, VECTOR, *(changed(TEXT, name=n, is_partition_key=True) for n in "ab")],
        {},
        Rejected,
        "there are more than one partition key, field name = a, b",
    ),
    (
        "partition key is pk",
        [changed(ID, is_partition_key=True), VECTOR],
        {},
        Rejected,
        "the partition key field must not be primary field",
    ),
    (
        "partition key's type",
        [
            ID,
            changed(VECTOR),
            FieldSchema(name="b", data_type=DataType.BOOL, is_partition_key=True),
        ],
        {},
        Rejected,
        "the data type of partition key should be Int64 or VarChar",
    ),
    (
        "partition key with nulls",
        [ID, VECTOR, changed(TEXT, is_partition_key=True, nullable=True)],
        {},
        InvalidParameter,
        "partition key field not support nullable",
    ),
    (
        "partitions without a key",
        [ID, VECTOR],
        {"partitions": 2},
        Rejected,
        "num_partitions should only be specified with partition key field enabled",
    ),
    (
        "too many partitions",
        [ID, VECTOR, changed(TEXT, is_partition_key=True)],
        {"partitions": 1025},
        Rejected,
        "partition number (1025) exceeds max configuration (1024)",
    ),
    (
        "two clustering keys",
        [changed(ID, is_clustering_key=True), VECTOR, changed(TEXT, is_clustering_key=True)],
        {},
        IllegalSchema,
        "there are more than one clustering key",
    ),
    (
        "field name",
        [ID, VECTOR, changed(TEXT, name="a b")],
        {},
        InvalidFieldName,
        "Invalid field name: a b. field name can only contain numbers, letters and underscores: "
        "field name invalid[field=a b]",
    ),
    (
        "keyword",
        [ID, VECTOR, changed(TEXT, name="Like")],
        {},
        InvalidFieldName,
        "keyword in milvus",
    ),
    ("twice", [ID, VECTOR, TEXT, TEXT], {}, Rejected, "duplicated field name text found"),
    ("no dim", [ID, changed(VECTOR, type_params={})], {}, Rejected, "dimension is not defined in"),
    (
        "dim 1",
        [ID, changed(VECTOR, type_params={"dim": "1"})],
        {},
        Rejected,
        "invalid dimension: 1. should be in range 2 ~ 32768",
    ),
    (
        "dim 32769",
        [ID, changed(VECTOR, type_params={"dim": "32769"})],
        {},
        Rejected,
        "invalid dimension: 32769 of field vector. float vector dimension should be in range "
        "2 ~ 32768",
    ),
    (
        "dim is text",
        [ID, changed(VECTOR, type_params={"dim": "many"})],
        {},
        Rejected,
        "the value for dim of field vector must be an integer",
    ),
    (
        "no max_length",
        [ID, VECTOR, changed(TEXT, type_params={})],
        {},
        Rejected,
        "type param(max_length) should be specified for the field(text) of collection books",
    ),
    (
        "max_length 65536",
        [ID, VECTOR, changed(TEXT, type_params={"max_length": "65536"})],
        {},
        InvalidParameter,
        "the maximum length specified for the field(text) should be in (0, 65535], but got 65536",
    ),
    (
        "max_capacity 4097",
        [ID, VECTOR, changed(TAGS, type_params={"max_capacity": "4097", "max_length": "1"})],
        {},
        Rejected,
        "the maximum capacity specified for a Array should be in (0, 4096]",
    ),
    (
        "max_capacity is text",
        [ID, VECTOR, changed(TAGS, type_params={"max_capacity": "x", "max_length": "1"})],
        {},
        Rejected,
        "the value for max_capacity of field tags must be an integer",
    ),
    (
        "match without analyzer",
        [ID, VECTOR, changed(TEXT, type_params={"max_length": "9", "enable_match": "true"})],
        {},
        InvalidParameter,
        "must also enable_analyzer",
    ),
    (
        "default NaN",
        [ID, VECTOR, FieldSchema(name="x", data_type=DataType.FLOAT, default_value=float("nan"))],
        {},
        InvalidParameter,
        "is not a number or infinity",
    ),
]


@pytest.mark.parametrize(
    ("fields", "options", "kind", "text"),
    [case[1:] for case in WRONG],
    ids=[case[0] for case in WRONG],
)
def test_a_wrong_schema_is_refused_with_its_cause(
    fields: list[FieldSchema], options: dict[str, Any], kind: type[ElanusError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        create(*fields, **options)
    assert text in caught.value.message
