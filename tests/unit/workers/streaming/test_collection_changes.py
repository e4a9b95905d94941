"""What a shard is told of its collection, in whatever order that arrives."""

from tests.unit.workers.streaming.harness import Server

from elanus.model.schema import FieldSchema
from elanus.model.types import DataType

ADDED = FieldSchema(name="extra", data_type=DataType.INT64, nullable=True)


async def test_an_announcement_that_was_overtaken_changes_nothing(server: Server) -> None:
    before = await server.create()
    coordinator, vchannel = server.coordinator, before.vchannels[0]
    await coordinator.add_field("default", "things", ADDED)
    await coordinator.create_partition("default", "things", "late")
    indexes = tuple(await coordinator.list_indexes(before.collection_id))
    now = await server.describe()
    shard = server.shard(now)
    await server.streaming.update_collection(before, indexes, vchannel)
    assert shard.collection == now
    assert "extra" in (await server.query(now, output_fields=("id", "extra"))).rows.schema.names


async def test_rows_of_a_new_partition_outlive_an_announcement_from_before_it(
    server: Server,
) -> None:
    before = await server.create()
    coordinator = server.coordinator
    indexes = tuple(await coordinator.list_indexes(before.collection_id))
    await coordinator.create_partition("default", "things", "late")
    now = await server.describe()
    await server.write(now, {1: 10, 2: 20})
    await server.streaming.update_collection(before, indexes, before.vchannels[0])
    assert await server.contents(now) == {1: 10, 2: 20}


async def test_each_change_that_shards_are_told_of_is_a_later_revision(server: Server) -> None:
    revisions = [(await server.create(partitions=2)).revision]

    async def note() -> None:
        revisions.append((await server.describe()).revision)

    coordinator = server.coordinator
    await note()  # the index
    await coordinator.add_field("default", "things", ADDED)
    await note()
    await coordinator.alter_collection("default", "things", {"collection.ttl.seconds": "60"}, [])
    await note()
    await coordinator.release((await server.describe()).collection_id, ())
    await coordinator.drop_partition("default", "things", "part1")
    await note()
    await coordinator.drop_index((await server.describe()).collection_id, "vector")
    await note()
    assert revisions == sorted(set(revisions))
