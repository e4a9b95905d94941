"""A crash before or after any metadata transaction: the next coordinator finishes what was begun,
and doing everything once more gives the same as if nothing had happened."""

import asyncio
import contextlib

import pytest
from tests.unit.coordinator.crashes import DyingStore
from tests.unit.coordinator.support import Rig, make_commit, make_segment, make_world, running
from tests.unit.coordinator.test_coordinator_ddl import vector_index

from elanus.coordinator.catalog import Catalog
from elanus.coordinator.records import CollectionState
from elanus.errors import ElanusError
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType, SegmentState
from elanus.storage.meta.memory import MemoryMetaStore


async def script(rig: Rig) -> None:
    """Everything that changes metadata; may be begun again after a crash anywhere."""
    c = rig.coordinator
    if "db" not in [d.name for d in await c.list_databases()]:
        await c.create_database("db", {})
    if "c" not in [info.name for info in await c.list_collections("default")]:
        await rig.create("c", shards=2)
    loaded = await c.describe_collection("default", "c")
    await c.release(loaded.collection_id, ())
    await rig.create("gone")
    await c.create_partition("default", "c", "p")
    info = await c.describe_collection("default", "c")
    await c.create_alias("default", "c", "a")
    await c.create_index(vector_index(info))
    if "n" not in info.schema.by_name:
        added = FieldSchema(name="n", data_type=DataType.INT64, nullable=True)
        await c.add_field("default", "c", added)
    await c.commit_flush(make_commit(info, make_segment(info, 100), make_segment(info, 101)))
    in_p = make_segment(info, 102, partition_id=info.partitions[-1].partition_id)
    if len(info.partitions) == 2:
        await c.commit_flush(make_commit(info, in_p))
    await c.drop_partition("default", "c", "p")
    await c.load(info.collection_id, (), 1)
    await c.drop_collection("default", "gone")
    await rig.until(lambda: settled(rig), "settled")


def settled(rig: Rig) -> bool:
    tables = rig.coordinator._catalog.tables
    states = {record.state for record in tables.collections.values()}
    info = next(iter(tables.collections.values()))
    view = rig.streaming.views.get(info.info.vchannels[0])
    return states == {CollectionState.CREATED} and view is not None and len(view.sealed) == 2


async def outcome(store: MemoryMetaStore) -> list[object]:
    """What the store says, without ids and timestamps that differ between runs."""
    catalog = Catalog(store)
    await catalog.load()
    tables = catalog.tables
    assert not any(r.state is not CollectionState.CREATED for r in tables.collections.values())
    return [
        sorted(tables.names),
        [
            (
                r.info.name,
                [p.name for p in r.info.partitions],
                [f.name for f in r.info.schema.fields],
            )
            for r in tables.collections.values()
        ],
        sorted((s.segment_id, s.state) for t in tables.segments.values() for s in t.values()),
        [sorted((i.name, i.field_name) for i in t.values()) for t in tables.indexes.values()],
        sorted(tables.aliases),
        sorted((c.vchannel.rsplit("v")[-1], c.timestamp) for c in tables.checkpoints.values()),
        len(tables.loads),
    ]


async def run(store: MemoryMetaStore) -> list[object]:
    async with running(store) as rig:
        await script(rig)
    return await outcome(store)


async def transactions_of_a_whole_run() -> int:
    counting = DyingStore(MemoryMetaStore(make_world()))
    async with running(counting) as rig:
        await script(rig)
    return counting.transactions


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_any_transaction_may_be_the_last_one(after: bool) -> None:
    expected = await run(MemoryMetaStore(make_world()))
    assert (expected[2]) == [
        (100, SegmentState.FLUSHED),
        (101, SegmentState.FLUSHED),
        (102, SegmentState.DROPPED),
    ]
    for at in range(1, await transactions_of_a_whole_run() + 1):
        store = MemoryMetaStore(make_world())
        dying = DyingStore(store, at, after=after)
        with contextlib.suppress(ElanusError, TimeoutError):
            async with asyncio.timeout(2), running(dying, start=False) as rig:
                await rig.coordinator.start()
                await script_until_death(rig, dying)
        assert await run(store) == expected, f"crash {'after' if after else 'before'} {at}"


async def script_until_death(rig: Rig, dying: DyingStore) -> None:
    running_script = asyncio.ensure_future(script(rig))
    await rig.until(lambda: dying.dead or running_script.done())
    running_script.cancel()
    await asyncio.wait([running_script])


async def test_a_lost_answer_counts_as_done() -> None:
    store = DyingStore(MemoryMetaStore(make_world()))
    async with running(store) as rig:
        await rig.create()
        store.lose_next(after=True)
        await rig.coordinator.create_alias("default", "c", "a")
        store.lose_next(after=False)
        with pytest.raises(ElanusError, match="died before"):
            await rig.coordinator.create_alias("default", "c", "b")
        assert await rig.coordinator.list_aliases("default", None) == ["a"]
        await rig.coordinator.create_alias("default", "c", "b")
        assert await rig.coordinator.list_aliases("default", None) == ["a", "b"]
