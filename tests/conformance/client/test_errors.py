"""Bad input gets Milvus's code and a message that says what was wrong, and loses nothing."""

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.exceptions import DataNotMatchException, ParamError

from conftest import DIM

VECTOR = [0.0] * DIM
CLIENT_SIDE = (DataNotMatchException, ParamError)


def test_unknown_collection_is_code_100(client):
    with pytest.raises(MilvusException, match=r"can't find collection.*nothing") as caught:
        client.describe_collection("nothing")
    assert caught.value.code == 100


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": 1, "vector": [0.0] * (DIM - 1)}, "dim"),
        ({"id": 1}, "vector"),
        ({"id": "one", "vector": VECTOR}, "id|type|Int64"),
        ({"id": 1, "vector": [float("nan")] * DIM}, "NaN|not a number"),
        ({"id": 1, "vector": [float("inf")] * DIM}, "infinity|Inf"),
    ],
    ids=["dimension", "missing field", "type", "NaN", "infinity"],
)
def test_bad_rows_are_refused_and_leave_nothing(client, plain, row, words):
    with pytest.raises((MilvusException, *CLIENT_SIDE), match=f"(?i){words}"):
        client.insert(plain, [row])
    assert client.query(plain, output_fields=["count(*)"])[0]["count(*)"] == 200


def test_unknown_field_without_dynamic_field(client, name):
    schema = MilvusClient.create_schema(enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    with pytest.raises((MilvusException, *CLIENT_SIDE), match=r"(?i)extra"):
        client.insert(name, [{"id": 1, "vector": VECTOR, "extra": 1}])


def test_over_long_string(client, name):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("s", DataType.VARCHAR, max_length=4)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    with pytest.raises(MilvusException, match="length of varchar field s exceeds max length"):
        client.insert(name, [{"id": 1, "s": "äöü", "vector": VECTOR}])


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("n ==", "cannot parse expression"),
        ("n == 1 and (", "cannot parse expression"),
        ('id == "x"', "cannot"),
        ("id + ", "cannot parse expression"),
        ("color", "not a boolean expression"),
        ("id inn [1]", "invalid expression|cannot parse"),
    ],
)
def test_bad_filters_are_code_1100(client, plain, expression, words):
    with pytest.raises(MilvusException, match=words) as caught:
        client.query(plain, filter=expression)
    assert caught.value.code == 1100
    with pytest.raises(MilvusException, match=words):
        client.search(plain, [VECTOR], filter=expression)


def test_a_syntax_error_tells_its_position(client, plain):
    with pytest.raises(MilvusException, match="line 1:8"):
        client.query(plain, filter="id == 1 ]")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limit": 0}, "topk|limit"),
        ({"limit": 16_385}, r"topk \[16385\] is invalid"),
        ({"data": [[0.0] * (DIM + 1)]}, "dimension"),
        ({"search_params": {"metric_type": "IP"}}, "metric type not match"),
        ({"search_params": {"params": {"radius": 1.0, "range_filter": 2.0}}}, "range_filter"),
        ({"output_fields": ["$nope["]}, "parse output field name failed|not exist"),
        ({"partition_names": ["nowhere"]}, "partition name nowhere not found|not found"),
        ({"anns_field": "nothing"}, "nothing"),
    ],
)
def test_bad_search_parameters(client, plain, arguments, words):
    full = {"data": [VECTOR], "limit": 3, **arguments}
    with pytest.raises((MilvusException, *CLIENT_SIDE), match=words):
        client.search(plain, **full)


def test_search_before_load_is_code_101(client, plain):
    client.release_collection(plain)
    with pytest.raises(MilvusException, match="collection not loaded") as caught:
        client.search(plain, [VECTOR], limit=3)
    assert caught.value.code == 101


def test_load_without_an_index_is_code_700(client, name):
    client.create_collection(name, schema=_schema())
    with pytest.raises(MilvusException, match="index not found") as caught:
        client.load_collection(name)
    assert caught.value.code == 700


def test_duplicate_names(client, plain):
    schema = _schema()
    schema.add_field("other", DataType.INT64)
    with pytest.raises(MilvusException, match="create duplicate collection"):
        client.create_collection(plain, schema=schema)
    client.create_partition(plain, "p")
    client.create_partition(plain, "p")
    assert client.list_partitions(plain) == ["_default", "p"]


def test_bad_index_parameters(client, name):
    client.create_collection(name, schema=_schema())
    for kind, parameters, words in [
        ("ANNOY", {}, "invalid index type: ANNOY"),
        ("HNSW", {"M": 1, "efConstruction": 100}, "should be in range"),
        ("IVF_FLAT", {"nlist": 0}, "should be in range"),
    ]:
        index = client.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="L2", **parameters)
        with pytest.raises(MilvusException, match=words) as caught:
            client.create_index(name, index)
        assert caught.value.code == 1100


@pytest.mark.parametrize("bad", ["", "1abc", "a-b", "x" * 256])
def test_bad_collection_names(client, bad):
    with pytest.raises((MilvusException, *CLIENT_SIDE), match=r"(?i)name"):
        client.create_collection(bad, dimension=4)


def test_an_insert_above_the_limit_is_refused(client, plain):
    rows = np.zeros((70_000, 300), np.float32)
    data = [{"id": i, "vector": VECTOR, "blob": "x" * 1_000} for i in range(len(rows))]
    with pytest.raises(Exception, match=r"(?i)larger|limit|exhausted|max"):
        client.insert(plain, data, timeout=30)
    assert client.query(plain, output_fields=["count(*)"])[0]["count(*)"] == 200


def _schema():
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    return schema
