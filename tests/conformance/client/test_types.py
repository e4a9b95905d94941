"""Every field type goes in and comes out; nulls, defaults, arrays, JSON, keys."""

import json

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient


def vector_index(client):
    index = client.prepare_index_params()
    index.add_index("vector", index_type="AUTOINDEX", metric_type="L2")
    return index


@pytest.fixture
def typed(client, name):
    schema = MilvusClient.create_schema()
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=20)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("flag", DataType.BOOL, nullable=True)
    schema.add_field("i8", DataType.INT8, nullable=True)
    schema.add_field("i16", DataType.INT16, default_value=np.int16(7))
    schema.add_field("i32", DataType.INT32, nullable=True)
    schema.add_field("i64", DataType.INT64, nullable=True)
    schema.add_field("f", DataType.FLOAT, nullable=True)
    schema.add_field("d", DataType.DOUBLE, nullable=True)
    schema.add_field("s", DataType.VARCHAR, max_length=50, nullable=True)
    schema.add_field("j", DataType.JSON, nullable=True)
    schema.add_field(
        "numbers", DataType.ARRAY, element_type=DataType.INT64, max_capacity=5, nullable=True
    )
    schema.add_field(
        "texts", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=5, max_length=9
    )
    client.create_collection(
        name, schema=schema, index_params=vector_index(client), consistency_level="Strong"
    )
    return name


FULL = {
    "key": "a",
    "vector": [1.0, 2.0],
    "flag": True,
    "i8": -128,
    "i16": 32_767,
    "i32": -(2**31),
    "i64": 2**62 + 1,
    "f": 0.5,
    "d": 0.1,
    "s": "grüße ✓",
    "j": {"deep": {"list": [1, "x", None, {"y": 2.5}]}},
    "numbers": [1, 2, 3],
    "texts": ["one", "two"],
}
SPARSE = {"key": "b", "vector": [0.0, 0.0], "texts": []}


@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
def test_every_type_comes_back(client, typed, flushed):
    client.insert(typed, [FULL])
    client.insert(typed, [SPARSE])
    if flushed:
        client.flush(typed)
    rows = client.query(typed, filter='key >= ""', output_fields=["*"])
    first, second = (dict(row) for row in rows)
    first["numbers"], first["texts"] = list(first["numbers"]), list(first["texts"])
    first["vector"] = list(first["vector"])
    if isinstance(first["j"], str):
        first["j"] = json.loads(first["j"])
    assert first == FULL
    assert second["i16"] == 7
    nulls = set(second) - {"key", "vector", "i16", "texts"}
    assert {field: second[field] for field in nulls} == dict.fromkeys(nulls)
    hits = client.search(typed, [[1.0, 2.0]], limit=2, output_fields=["i64", "s", "numbers"])[0]
    assert [hit["key"] if "key" in hit else hit["id"] for hit in hits] == ["a", "b"]
    assert hits[0]["entity"]["i64"] == 2**62 + 1
    assert hits[1]["entity"]["i64"] is None


@pytest.mark.parametrize(
    ("expression", "keys"),
    [
        ("flag == true", ["a"]),
        ("i8 < 0", ["a"]),
        ("i16 == 7", ["b"]),
        ("i64 is null", ["b"]),
        ("d == 0.1 and f == 0.5", ["a"]),
        ('s like "gr%"', ["a"]),
        ('j["deep"]["list"][1] == "x"', ["a"]),
        ("array_contains(numbers, 2)", ["a"]),
        ("array_length(texts) == 0", ["b"]),
        ('texts[0] == "one"', ["a"]),
        ("not (i32 > 0) or i16 == 7", ["a", "b"]),
        ('key in ["b", "zz"]', ["b"]),
    ],
)
def test_filters_over_every_type(client, typed, expression, keys):
    client.insert(typed, [FULL])
    client.insert(typed, [SPARSE])
    assert [row["key"] for row in client.query(typed, filter=expression)] == keys


def test_automatic_keys_are_unique_and_ascending(client, name):
    client.create_collection(name, dimension=2, auto_id=True, consistency_level="Strong")
    keys = []
    for _ in range(3):
        keys += client.insert(name, [{"vector": [1.0, 0.0]}] * 50)["ids"]
    assert keys == sorted(set(keys))
    assert len(client.query(name, filter="id > 0")) == 150


def test_partition_key_spreads_rows_and_filters_find_them(client, name):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("tenant", DataType.VARCHAR, max_length=20, is_partition_key=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(
        name,
        schema=schema,
        index_params=vector_index(client),
        num_partitions=8,
        consistency_level="Strong",
    )
    rows = [{"id": i, "tenant": f"t{i % 20}", "vector": [float(i), 0.0]} for i in range(200)]
    client.insert(name, rows)
    client.flush(name)
    counts = [
        client.get_partition_stats(name, partition)["row_count"]
        for partition in client.list_partitions(name)
    ]
    assert len(counts) == 8
    assert sum(counts) == 200
    assert sum(count > 0 for count in counts) > 1
    found = client.query(name, filter='tenant == "t3"')
    assert [row["id"] for row in found] == list(range(3, 200, 20))
    hits = client.search(name, [[0.0, 0.0]], filter='tenant in ["t3", "t4"]', limit=3)[0]
    assert [hit["id"] for hit in hits] == [3, 4, 23]


def test_a_field_added_later_reads_as_null_or_default(client, typed):
    client.insert(typed, [FULL])
    client.add_collection_field(typed, "later", DataType.INT64, nullable=True)
    client.add_collection_field(typed, "known", DataType.INT64, nullable=True, default_value=3)
    client.insert(typed, [{**SPARSE, "later": 5}])
    rows = client.query(typed, filter='key >= ""', output_fields=["later", "known"])
    assert [(row["later"], row["known"]) for row in rows] == [(None, 3), (5, 3)]
