"""Databases, partitions, aliases, indexes, load states, segments and compaction."""

import time
import uuid

import pytest
from pymilvus import DataType, MilvusClient, MilvusException

from conftest import DIM, URI


def test_databases_keep_their_collections_apart(client, name):
    database = f"db_{uuid.uuid4().hex[:8]}"
    client.create_database(database)
    assert database in client.list_databases()
    inside = MilvusClient(uri=URI, db_name=database)
    inside.create_collection(name, dimension=4)
    assert inside.list_collections() == [name]
    assert name not in client.list_collections()
    with pytest.raises(MilvusException, match="not empty"):
        client.drop_database(database)
    inside.drop_collection(name)
    client.drop_database(database)
    assert database not in client.list_databases()


def test_an_unknown_database_is_code_800():
    with pytest.raises(MilvusException, match="database not found") as caught:
        MilvusClient(uri=URI, db_name="nowhere").list_collections()
    assert caught.value.code == 800


def test_partitions_restrict_reads(client, plain, rows):
    client.create_partition(plain, "extra")
    client.insert(plain, [{"id": 900, "vector": rows[0]["vector"]}], partition_name="extra")
    hits = client.search(plain, [rows[0]["vector"]], limit=5, partition_names=["extra"])[0]
    assert [hit["id"] for hit in hits] == [900]
    assert len(client.query(plain, filter="id >= 0", partition_names=["_default"])) == 200
    client.release_partitions(plain, ["extra"])
    client.drop_partition(plain, "extra")
    assert client.list_partitions(plain) == ["_default"]
    assert len(client.query(plain, filter="id >= 0")) == 200


def test_aliases_stand_for_the_collection(client, plain):
    alias = f"a_{uuid.uuid4().hex[:8]}"
    client.create_alias(plain, alias)
    assert client.describe_alias(alias)["collection_name"] == plain
    assert client.query(alias, output_fields=["count(*)"])[0]["count(*)"] == 200
    with pytest.raises(MilvusException, match="alias"):
        client.drop_collection(plain)
    client.drop_alias(alias)
    assert client.list_aliases(plain)["aliases"] == []


def test_rename(client, plain):
    renamed = plain + "_r"
    client.rename_collection(plain, renamed)
    assert client.query(renamed, output_fields=["count(*)"])[0]["count(*)"] == 200
    client.rename_collection(renamed, plain)


def test_load_states(client, plain):
    assert "Loaded" in str(client.get_load_state(plain)["state"])
    client.release_collection(plain)
    assert "NotLoad" in str(client.get_load_state(plain)["state"])
    client.load_collection(plain)
    assert client.query(plain, output_fields=["count(*)"])[0]["count(*)"] == 200


def test_properties_are_kept(client, plain):
    client.alter_collection_properties(plain, {"collection.ttl.seconds": 3_600, "note": "x"})
    properties = client.describe_collection(plain)["properties"]
    assert properties["collection.ttl.seconds"] == "3600"
    client.drop_collection_properties(plain, ["note"])
    assert "note" not in client.describe_collection(plain)["properties"]


def test_ttl_hides_old_rows(client, plain):
    client.alter_collection_properties(plain, {"collection.ttl.seconds": 1})
    deadline = time.monotonic() + 240
    while client.query(plain, output_fields=["count(*)"])[0]["count(*)"]:
        assert time.monotonic() < deadline, "rows are still there"
        time.sleep(0.1)
    client.alter_collection_properties(plain, {"collection.ttl.seconds": 0})


def test_indexes_are_described_as_given(client, name):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    assert client.list_indexes(name) == []
    index = client.prepare_index_params()
    index.add_index(
        "vector", index_name="v", index_type="IVF_FLAT", metric_type="IP", params={"nlist": 64}
    )
    client.create_index(name, index)
    described = client.describe_index(name, "v")
    assert described["index_type"] == "IVF_FLAT"
    assert described["metric_type"] == "IP"
    assert str(described["nlist"]) == "64"
    client.drop_index(name, "v")
    assert client.list_indexes(name) == []


def test_flushed_rows_get_indexed_and_compacted(client, name, rows):
    client.create_collection(name, dimension=DIM, metric_type="L2", consistency_level="Strong")
    for start in range(0, 6_000, 2_000):
        client.insert(
            name,
            [{"id": start + i, "vector": rows[i % 200]["vector"]} for i in range(2_000)],
        )
        client.flush(name)
    client.delete(name, filter="id < 1000")
    client.flush(name)
    job = client.compact(name)
    deadline = time.monotonic() + 240
    while client.get_compaction_state(job) != "Completed":
        assert time.monotonic() < deadline, "compaction does not end"
        time.sleep(0.1)
    while client.describe_index(name, "vector")["pending_index_rows"]:
        assert time.monotonic() < deadline, "index does not get ready"
        time.sleep(0.1)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 5_000
    assert client.query(name, filter="id < 1000") == []
    hits = client.search(name, [rows[7]["vector"]], limit=10)[0]
    assert all(hit["distance"] < 1e-5 for hit in hits)
    assert {hit["id"] % 200 for hit in hits} == {7}
