"""DDL as users see it: effects, texts, idempotence; over every metadata store."""

import pytest
from tests.unit.coordinator.support import make_schema, running

from elanus.errors import ElanusError
from elanus.model.catalog import IndexInfo
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, MetricType
from elanus.storage.meta.base import MetaStore


async def fails(awaitable, code: int, text: str) -> None:
    with pytest.raises(ElanusError) as caught:
        await awaitable
    assert (caught.value.code, caught.value.message) == (code, text)


def vector_index(info, **changes) -> IndexInfo:
    values = {
        "index_id": 0,
        "collection_id": info.collection_id,
        "field_name": "v",
        "name": "",
        "index_type": "HNSW",
        "metric_type": MetricType.L2,
        "created_ts": 0,
        "params": {"M": "16"},
    }
    return IndexInfo(**{**values, **changes})


async def test_a_collection_has_ids_partitions_shards_and_survives_a_restart(
    meta: MetaStore,
) -> None:
    async with running(meta) as rig:
        key = FieldSchema(name="k", data_type=DataType.INT64, is_partition_key=True)
        info = await rig.create(schema=make_schema("c", key), shards=2, partitions=3)
        assert [f.field_id for f in info.schema.fields] == [100, 101, 102]
        assert [p.name for p in info.partitions] == ["_default_0", "_default_1", "_default_2"]
        assert info.vchannels == (
            f"by-dev-rootcoord-dml_0_{info.collection_id}v0",
            f"by-dev-rootcoord-dml_1_{info.collection_id}v1",
        )
        assert info.properties == {"timezone": "UTC"}
        other = await rig.create("d")
        assert other.vchannels[0].startswith("by-dev-rootcoord-dml_2_")
        assert set(rig.streaming.shards) == {*info.vchannels, *other.vchannels}
        assert rig.changes == [info.collection_id, other.collection_id]
        terms = dict(rig.streaming.terms)
    async with running(meta) as rig:
        assert await rig.coordinator.describe_collection("default", "c") == info
        assert set(rig.streaming.shards) == {*info.vchannels, *other.vchannels}
        assert rig.streaming.terms == {name: term + 1 for name, term in terms.items()}


async def test_creating_the_same_again_succeeds_and_something_else_does_not(
    meta: MetaStore,
) -> None:
    async with running(meta) as rig:
        first = await rig.create()
        assert await rig.create() == first
        text = "create duplicate collection with different parameters, collection: c"
        await fails(rig.create(shards=2), 65535, text)
        text = "database not found[database=x]"
        await fails(rig.create(database="x"), 800, text)
        system = FieldSchema(name="RowID", data_type=DataType.INT64)
        text = "schema contains system field: RowID, Timestamp, $meta, $namespace_id"
        await fails(rig.create(schema=make_schema("e", system)), 65535, text)


async def test_creation_goes_on_after_a_node_was_away(meta: MetaStore) -> None:
    async with running(meta) as rig:
        rig.streaming.failures["open_vchannel"] = 3
        rig.streaming.failures["open_pchannel"] = 2
        info = await rig.create()
        assert rig.streaming.shards[info.vchannels[0]].collection_id == info.collection_id
        assert set(rig.streaming.terms.values()) == {1}


async def test_aliases(meta: MetaStore) -> None:
    async with running(meta) as rig:
        one = await rig.create("one")
        await rig.create("two")
        c = rig.coordinator
        await c.create_alias("default", "one", "a")
        await c.create_alias("default", "one", "a")
        assert await c.describe_collection("default", "a") == one
        text = "a is alias to another collection: one: alias already exist"
        await fails(
            c.create_alias("default", "two", "a"), 1602, f"{text}[database=default][alias=a]"
        )
        text = "one is the name of a collection: alias and collection name conflict"
        await fails(
            c.create_alias("default", "two", "one"), 1601, f"{text}[database=default][alias=one]"
        )
        text = "collection name [a] conflicts with an existing alias, please choose a unique name"
        await fails(rig.create("a"), 65535, text)
        await fails(
            c.drop_collection("default", "a"), 65535, "cannot drop the collection via alias = a"
        )
        text = (
            "unable to drop the collection [one] because it has associated aliases [a], "
            "please remove all aliases before dropping the collection"
        )
        await fails(c.drop_collection("default", "one"), 65535, text)
        await c.alter_alias("default", "two", "a")
        assert await c.describe_alias("default", "a") == "two"
        assert await c.list_aliases("default", None) == ["a"]
        assert await c.list_aliases("default", "one") == []
        await fails(c.list_aliases("default", "x"), 100, "collection not found[collection=x]")
        text = "alias not found[database=default][alias=b]"
        await fails(c.alter_alias("default", "two", "b"), 1600, text)
        await c.drop_alias("default", "a")
        await c.drop_alias("default", "a")
        await fails(
            c.describe_alias("default", "a"), 1600, "alias not found[database=default][alias=a]"
        )
        text = "can't find collection[database=default][collection=x]"
        await fails(c.create_alias("default", "x", "b"), 100, text)


async def test_renaming(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        one = await rig.create("one")
        await rig.create("two")
        await c.create_alias("default", "two", "a")
        text = "collection name or database name should be different: invalid parameter"
        await fails(c.rename_collection("default", "one", "", "one"), 1100, text)
        text = "duplicated new collection name default:two with other collection name or alias"
        await fails(c.rename_collection("default", "one", "default", "two"), 65535, text)
        text = "cannot rename collection to an existing alias: a"
        await fails(c.rename_collection("default", "one", "default", "a"), 65535, text)
        text = "unsupported use an alias to rename collection, alias:a"
        await fails(c.rename_collection("default", "a", "default", "b"), 65535, text)
        text = "can't find collection[database=default][collection=x]"
        await fails(c.rename_collection("default", "x", "default", "b"), 100, text)
        text = "database not found[database=x]"
        await fails(c.rename_collection("default", "one", "x", "b"), 800, text)
        await c.create_database("db", {})
        await c.rename_collection("default", "one", "db", "three")
        moved = await c.describe_collection("db", "three")
        assert moved.collection_id == one.collection_id
        assert moved.updated_ts > one.updated_ts
        text = "can't find collection[database=default][collection=one]"
        await fails(c.describe_collection("default", "one"), 100, text)


async def test_databases(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        await c.create_database("db", {"k": "v"})
        await fails(c.create_database("db", {}), 65535, "database already exist: db")
        await rig.create("c", database="db")
        text = "database:db not empty, must drop all collections before drop database"
        await fails(c.drop_database("db"), 65535, text)
        await fails(c.drop_database("default"), 65535, "can not drop default database")
        await c.drop_collection("db", "c")
        await c.alter_database("db", {"timezone": "Europe/Berlin"}, [])
        await c.alter_database("db", {}, ["k"])
        info = await c.describe_database("db")
        assert info.properties == {"timezone": "Europe/Berlin"}
        assert (await rig.create("d", database="db")).properties == info.properties
        assert [d.name for d in await c.list_databases()] == ["default", "db"]
        await c.drop_database("missing")
        await fails(c.list_collections("x"), 800, "database not found[database=x]")
        for n in range(62):
            await c.create_database(f"d{n}", {})
        text = "exceeded the limit number of database[limit=64]"
        await fails(c.create_database("more", {}), 801, text)


async def test_partitions(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        info = await rig.create()
        await c.create_partition("default", "c", "p")
        await c.create_partition("default", "c", "p")
        told = rig.streaming.shards[info.vchannels[0]]
        assert [p.name for p in told.partitions] == ["_default", "p"]
        text = "default partition cannot be deleted"
        await fails(c.drop_partition("default", "c", "_default"), 65535, text)
        await c.create_index(vector_index(info))
        await c.load(info.collection_id, (), 1)
        text = "partition cannot be dropped, partition is loaded, please release it first"
        await fails(c.drop_partition("default", "c", "p"), 65535, text)
        await c.release(info.collection_id, ())
        await c.drop_partition("default", "c", "p")
        await c.drop_partition("default", "c", "p")
        told = rig.streaming.shards[info.vchannels[0]]
        assert [p.name for p in told.partitions] == ["_default"]
        key = FieldSchema(name="k", data_type=DataType.INT64, is_partition_key=True)
        await rig.create(schema=make_schema("keyed", key), partitions=2)
        text = "disable create partition if partition key mode is used"
        await fails(c.create_partition("default", "keyed", "p"), 65535, text)
        text = "disable drop partition if partition key mode is used"
        await fails(c.drop_partition("default", "keyed", "_default_0"), 65535, text)


async def test_altering_changes_the_version_that_clients_compare(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        info = await rig.create()
        text = "cannot provide both DeleteKeys and ExtraParams: invalid parameter"
        await fails(c.alter_collection("default", "c", {"a": "1"}, ["b"]), 1100, text)
        text = "no properties or delete keys provided: invalid parameter"
        await fails(c.alter_collection("default", "c", {}, []), 1100, text)
        text = "collection TTL is out of range, expect [-1, 3155760000], got -2"
        await fails(
            c.alter_collection("default", "c", {"collection.ttl.seconds": "-2"}, []), 65535, text
        )
        await c.alter_collection("default", "c", {"collection.ttl.seconds": "60"}, [])
        altered = await c.describe_collection("default", "c")
        assert altered.ttl_seconds == 60
        assert altered.updated_ts > info.updated_ts
        assert rig.streaming.shards[info.vchannels[0]] == altered
        await c.alter_collection("default", "c", {"collection.ttl.seconds": "60"}, [])
        assert await c.describe_collection("default", "c") == altered
        await c.alter_collection("default", "c", {"dynamicfield.enabled": "true"}, [])
        dynamic = (await c.describe_collection("default", "c")).schema
        assert (dynamic.fields[-1].name, dynamic.version) == ("$meta", 1)
        text = "dynamic schema cannot supported to be disabled: invalid parameter"
        await fails(
            c.alter_collection("default", "c", {"dynamicfield.enabled": "false"}, []), 1100, text
        )
        added = FieldSchema(name="n", data_type=DataType.INT64, nullable=True)
        await c.add_field("default", "c", added)
        schema = (await c.describe_collection("default", "c")).schema
        assert [(f.name, f.field_id) for f in schema.fields[-2:]] == [("n", 103), ("$meta", 102)]
        await fails(
            c.add_field("default", "c", added), 1100, "duplicate field name: n: invalid parameter"
        )
        text = "added field must be nullable, please check it, field name = m: invalid parameter"
        await fails(
            c.add_field("default", "c", FieldSchema(name="m", data_type=DataType.INT64)), 1100, text
        )
        text = "field x does not exist in collection c: invalid parameter"
        await fails(c.alter_field("default", "c", "x", {"max_length": "3"}, []), 1100, text)
        text = "id can not modify the maxlength for non-string types: invalid parameter"
        await fails(c.alter_field("default", "c", "id", {"max_length": "3"}, []), 1100, text)
    async with running(meta) as rig:
        again = await rig.coordinator.describe_collection("default", "c")
        assert again.schema == schema


async def test_index_definitions(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        info = await rig.create()
        made = await c.create_index(vector_index(info))
        assert made.name == "v"
        assert await c.create_index(vector_index(info)) == made
        text = "CreateIndex failed: at most one distinct index is allowed per field"
        await fails(c.create_index(vector_index(info, params={"M": "8"})), 65535, text)
        text = "CreateIndex failed: creating multiple indexes on same field is not supported"
        await fails(c.create_index(vector_index(info, name="other")), 65535, text)
        text = "cannot create index on non-exist field: x"
        await fails(c.create_index(vector_index(info, field_name="x")), 65535, text)
        await c.load(info.collection_id, (), 1)
        text = (
            f"vector index cannot be dropped on loaded collection: {info.collection_id}"
            ": invalid parameter"
        )
        await fails(c.drop_index(info.collection_id, "v"), 1100, text)
        text = (
            "can't alter index on loaded collection, please release the collection first: "
            "collection already loaded[collection=c]"
        )
        await fails(c.alter_index(info.collection_id, "v", {"mmap.enabled": "true"}, []), 104, text)
        await c.release(info.collection_id, ())
        await c.alter_index(info.collection_id, "v", {"mmap.enabled": "true"}, [])
        await c.drop_index(info.collection_id, "v")
        await c.drop_index(info.collection_id, "v")
        assert await c.list_indexes(info.collection_id) == []


async def test_dropping_frees_the_name_and_forgets_the_rest(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        info = await rig.create()
        await c.drop_collection("default", "c")
        again = await rig.create()
        assert again.collection_id != info.collection_id
        await rig.until(lambda: info.vchannels[0] not in rig.streaming.shards)
        await c.drop_collection("default", "missing")
        text = f"can't find collection[database=][collection={info.collection_id}]"
        await fails(c.describe_collection_by_id(info.collection_id), 100, text)
        assert await c.list_collections("default") == [again]
