"""Bodies of collections/create and of indexes, and the requests that come of them."""

from typing import Any

import pytest
from tests.unit.access.rest.harness import Recorder

from elanus.wire.protocol import schema
from elanus.wire.schema import decode_schema, pairs_to_dict

FIELDS = [
    {"fieldName": "key", "dataType": "Int64", "isPrimary": True},
    {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 8}},
]
INDEX = {"fieldName": "vector", "metricType": "L2"}


def body(*fields: Any, **options: Any) -> dict[str, Any]:
    inner = {key: options.pop(key) for key in ("autoId", "enableDynamicField") if key in options}
    return {"collectionName": "c", "schema": {"fields": [*FIELDS, *fields], **inner}, **options}


async def created(recorder: Recorder, given: dict[str, Any]) -> Any:
    """The CreateCollectionRequest of a body."""
    assert await recorder("collections/create", given) == {"code": 0, "data": {}}
    name, request = recorder.requests[0]
    assert name == "CreateCollection"
    return request


async def failed(recorder: Recorder, given: dict[str, Any]) -> tuple[int, str]:
    answer = await recorder("collections/create", given)
    return answer["code"], answer["message"]


async def test_quick_creation_has_defaults_and_indexes_and_loads(recorder: Recorder) -> None:
    request = await created(recorder, {"collectionName": "c", "dimension": 8})
    collection = decode_schema(request.schema)
    assert [(f.name, f.data_type.milvus_name, f.is_primary) for f in collection.fields] == [
        ("id", "Int64", True),
        ("vector", "FloatVector", False),
    ]
    assert collection.fields[1].dim == 8
    assert collection.enable_dynamic_field
    assert not collection.primary.auto_id
    assert (request.shards_num, request.consistency_level) == (1, 2)
    assert [name for name, _ in recorder.requests] == [
        "CreateCollection",
        "CreateIndex",
        "LoadCollection",
    ]
    index = recorder.requests[1][1]
    assert (index.field_name, index.index_name) == ("vector", "vector")
    expected = {"index_type": "AUTOINDEX", "metric_type": "COSINE"}
    assert pairs_to_dict(index.extra_params) == expected


async def test_quick_creation_takes_names_and_types(recorder: Recorder) -> None:
    request = await created(
        recorder,
        {
            "collectionName": "c",
            "dimension": 8,
            "idType": "VarChar",
            "autoID": True,
            "primaryFieldName": "word",
            "vectorFieldName": "meaning",
            "metricType": "L2",
            "params": {"max_length": 64, "enableDynamicField": False},
        },
    )
    collection = decode_schema(request.schema)
    primary = collection.primary
    assert (primary.name, primary.data_type.milvus_name) == ("word", "VarChar")
    assert (primary.max_length, primary.auto_id) == (64, True)
    assert not collection.enable_dynamic_field
    index = recorder.requests[1][1]
    assert (index.field_name, pairs_to_dict(index.extra_params)["metric_type"]) == ("meaning", "L2")


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ({}, 1802, "'collectionName' is required"),
        ({"collectionName": "c"}, 1100, "dimension is required for quickly create collection"),
        (
            {"collectionName": "c", "dimension": 8, "idType": "Int8"},
            1100,
            "idType can only be [Int64, VarChar], default: Int64",
        ),
        (
            {"collectionName": "c", "dimension": 8, "schema": {"functions": [{}]}},
            1100,
            "functions are not supported for quickly create collection",
        ),
        ({"collectionName": "c", "dimension": "8"}, 1801, "'dimension' should be an integer"),
        (
            {"collectionName": "c", "dimension": 8, "params": {"consistencyLevel": "strong"}},
            1100,
            "consistencyLevel can only be [Strong, Session, Bounded, Eventually, Customized]",
        ),
        (body({"fieldName": "f", "dataType": "int8"}), 1100, "data type int8 is invalid(case sens"),
        (
            body({"fieldName": "f", "dataType": "Array", "elementDataType": "X"}),
            1100,
            "element data type X is invalid(case sensitive).",
        ),
        (body({"fieldName": "f"}), 1802, "'schema.fields[2].dataType' is required"),
        (
            body({"fieldName": "f", "dataType": "Int8", "defaultValue": "x"}),
            1100,
            "convert defaultValue fail, err:",
        ),
        (
            body({"fieldName": "f", "dataType": "Int8", "defaultValue": 128}),
            1100,
            "convert defaultValue fail, err:",
        ),
        (
            body({"fieldName": "f", "dataType": "JSON", "defaultValue": {}}),
            1100,
            "convert defaultValue fail, err:",
        ),
    ],
)
async def test_bodies_that_are_refused(
    recorder: Recorder, given: dict[str, Any], code: int, text: str
) -> None:
    found, message = await failed(recorder, given)
    assert (found, text in message) == (code, True), message
    assert recorder.requests == []


async def test_fields_of_a_schema(recorder: Recorder) -> None:
    request = await created(
        recorder,
        body(
            {
                "fieldName": "tags",
                "dataType": "Array",
                "elementDataType": "VarChar",
                "elementTypeParams": {"max_capacity": 4, "max_length": "16"},
                "nullable": True,
                "isClusteringKey": False,
            },
            {"fieldName": "tenant", "dataType": "Int64", "isPartitionKey": True},
            {
                "fieldName": "text",
                "dataType": "VarChar",
                "elementTypeParams": {
                    "max_length": 9,
                    "enable_analyzer": True,
                    "analyzer_params": {"type": "english"},
                },
                "defaultValue": "none",
            },
            {"fieldName": "weight", "dataType": "Float", "defaultValue": 2},
            autoId=True,
            params={"partitionsNum": 32, "shardsNum": 2, "consistencyLevel": "Strong"},
        ),
    )
    collection = decode_schema(request.schema)
    assert collection.primary.auto_id
    assert not collection.enable_dynamic_field
    tags = collection.by_name["tags"]
    assert (tags.element_type.milvus_name, tags.max_capacity, tags.max_length) == ("VarChar", 4, 16)
    assert tags.nullable
    assert collection.partition_key is not None
    text = collection.by_name["text"]
    assert text.type_params["enable_analyzer"] == "true"
    assert text.type_params["analyzer_params"] == '{"type":"english"}'
    assert (text.default_value, collection.by_name["weight"].default_value) == ("none", 2.0)
    assert (request.num_partitions, request.shards_num, request.consistency_level) == (32, 2, 0)
    assert [name for name, _ in recorder.requests] == ["CreateCollection"]  # nothing to load by


async def test_partitions_count_only_with_a_partition_key(recorder: Recorder) -> None:
    request = await created(recorder, body(params={"partitionsNum": 32}))
    assert request.num_partitions == 0


async def test_params_become_properties(recorder: Recorder) -> None:
    params = {"ttlSeconds": 60, "mmap.enabled": True, "partitionKeyIsolation": False}
    request = await created(recorder, body(params={**params, "timezone": "Asia/Tokyo"}))
    assert pairs_to_dict(request.properties) == {
        "collection.ttl.seconds": "60",
        "partitionkey.isolation": "false",
        "mmap.enabled": "true",
        "timezone": "Asia/Tokyo",
    }


async def test_index_parameters_beside_their_own_keys_travel_as_json(recorder: Recorder) -> None:
    params = {"M": 16, "efConstruction": 200, "index_type": "HNSW"}
    index = {"fieldName": "vector", "metricType": "L2", "indexName": "i", "params": params}
    await created(recorder, body(indexParams=[index]))
    assert [name for name, _ in recorder.requests] == [
        "CreateCollection",
        "CreateIndex",
        "LoadCollection",
    ]
    request = recorder.requests[1][1]
    assert pairs_to_dict(request.extra_params) == {
        "index_type": "HNSW",
        "metric_type": "L2",
        "params": '{"M":16,"efConstruction":200}',
    }


async def test_an_index_of_an_unknown_field_leaves_the_collection(recorder: Recorder) -> None:
    given = body(indexParams=[{"fieldName": "other"}])
    code, message = await failed(recorder, given)
    assert (code, "error: `other` hasn't defined in schema" in message) == (1802, True)
    assert [name for name, _ in recorder.requests] == ["CreateCollection"]


async def test_a_field_is_added_by_its_schema(recorder: Recorder) -> None:
    field = {"fieldName": "f", "dataType": "Int8", "nullable": True}
    given = {"collectionName": "c", "schema": field}
    assert await recorder("collections/fields/add", given) == {"code": 0, "data": {}}
    [(_, request)] = recorder.requests
    message = schema.FieldSchema.FromString(request.schema)
    assert (message.name, message.data_type, message.nullable) == ("f", 2, True)
