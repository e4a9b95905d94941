"""A shard as its users see it: over real storage and the real coordinator, on one event loop."""

import asyncio
from itertools import pairwise
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from tests.unit.workers.streaming.harness import SCHEMA, Server, batch, eventually, with_segment

from elanus.config.settings import Settings, StreamingSettings
from elanus.errors import (
    CollectionNotLoaded,
    DeadlineExceeded,
    SchemaMismatch,
    Unavailable,
)
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.model.types import SegmentLevel
from elanus.services.messages import FlushCommit, PartitionRows, QueryView, WriteRequest


@pytest.fixture
async def things(server: Server) -> CollectionInfo:
    return await server.create()


async def test_a_write_is_visible_to_the_next_read(server: Server, things: CollectionInfo) -> None:
    await server.write(things, {1: 10, 2: 20})
    assert await server.contents(things) == {1: 10, 2: 20}
    await server.write(things, deletes=[1])
    assert await server.contents(things) == {2: 20}
    await server.upsert(things, {2: 21, 3: 30})
    assert await server.contents(things) == {2: 21, 3: 30}
    assert await server.count(things) == 2


async def test_search_gives_the_nearest_with_their_fields(
    server: Server, things: CollectionInfo
) -> None:
    await server.write(things, {n: 10 * n for n in range(1, 8)})
    await server.flush(things)
    await server.write(things, {n: 10 * n for n in range(8, 12)})
    found = await server.search(things, 81, top_k=4)
    assert found.hits.keys.tolist() == [8, 9, 7, 10]
    assert found.rows.column("value").to_pylist() == [80, 90, 70, 100]
    assert found.hits.scores[0] == pytest.approx(4.0)
    assert set(found.stages) == {"wait", "search", "fetch"}


async def test_older_instants_stay_readable(server: Server, things: CollectionInfo) -> None:
    first = await server.write(things, {1: 10})
    second = await server.upsert(things, {1: 11})
    third = await server.write(things, deletes=[1])
    await server.flush(things)
    assert await server.contents(things, first) == {1: 10}
    assert await server.contents(things, second) == {1: 11}
    assert await server.contents(things, third) == {}
    assert await server.contents(things, first - 1) == {}


async def test_flushing_moves_rows_without_changing_answers(
    server: Server, things: CollectionInfo
) -> None:
    expected = {n: n for n in range(50)}
    await server.write(things, expected)
    await server.flush(things)
    await eventually(lambda: _has_no_growing(server, things))
    assert await server.contents(things) == expected
    await server.write(things, deletes=range(10))
    await server.upsert(things, {20: -20, 60: 60})
    expected = {n: n for n in range(10, 50)} | {20: -20, 60: 60}
    assert await server.contents(things) == expected
    await server.flush(things)
    assert await server.contents(things) == expected
    levels = [s.level for s in await server.coordinator.list_segments(things.collection_id)]
    assert levels.count(SegmentLevel.L1) == 2
    assert levels.count(SegmentLevel.L0) == 1


async def test_flushing_nothing_is_done_at_once(server: Server, things: CollectionInfo) -> None:
    await server.flush(things)
    await server.flush(things)
    await server.write(things, {1: 1})
    await server.flush(things)
    await server.flush(things)
    assert await server.contents(things) == {1: 1}


async def test_a_segment_that_is_full_is_flushed_by_itself(tmp_path: Path) -> None:
    settings = with_segment(Settings(), max_size=1, seal_proportion=0.01)
    server = await Server(tmp_path, settings=settings).start()
    things = await server.create()
    expected: dict[int, int] = {}
    for start in range(0, 3000, 500):
        rows = {n: n for n in range(start, start + 500)}
        await server.write(things, rows)
        expected |= rows
        assert await server.contents(things) == expected

    async def flushed() -> bool:
        return len(await server.coordinator.list_segments(things.collection_id)) >= 4

    await eventually(flushed)
    assert await server.contents(things) == expected
    await server.stop()


async def test_a_collection_that_is_not_loaded_takes_writes_and_refuses_reads(
    server: Server,
) -> None:
    things = await server.create(load=False)
    await server.write(things, {1: 1, 2: 2})
    with pytest.raises(CollectionNotLoaded):
        await server.contents(things)
    await server.flush(things)
    await server.write(things, {3: 3}, deletes=[1])
    await server.load(things)
    assert await server.contents(things) == {2: 2, 3: 3}
    await server.coordinator.release(things.collection_id, ())
    with pytest.raises(CollectionNotLoaded):
        await server.contents(things)
    await server.write(things, {4: 4}, deletes=[2])
    await server.flush(things)
    await server.load(things)
    assert await server.contents(things) == {3: 3, 4: 4}


async def test_a_write_with_an_old_schema_is_refused(
    server: Server, things: CollectionInfo
) -> None:
    old = msgspec.structs.replace(
        things, schema=msgspec.structs.replace(things.schema, version=things.schema.version + 1)
    )
    with pytest.raises(SchemaMismatch):
        await server.write(old, {1: 1})


async def test_concurrent_writes_share_appends_and_keep_their_order(
    server: Server, things: CollectionInfo
) -> None:
    stamps = await asyncio.gather(*(server.upsert(things, {1: n}) for n in range(100)))
    assert len(set(stamps)) == 100
    latest = max(range(100), key=lambda n: stamps[n])
    assert await server.contents(things) == {1: latest}


async def test_a_restart_gives_the_same_answers(server: Server, things: CollectionInfo) -> None:
    await server.write(things, {n: n for n in range(20)})
    await server.flush(things)
    await server.write(things, {n: n for n in range(20, 30)}, deletes=[3, 4])
    expected = await server.contents(things)
    await server.crash()
    again = await server.restarted()
    await again.wait_loaded(things)
    assert await again.contents(things) == expected
    await again.write(things, {100: 100}, deletes=[5])
    assert await again.contents(things) == {k: v for k, v in expected.items() if k != 5} | {
        100: 100
    }
    await again.stop()


async def test_queries_filter_limit_and_name_no_fields(
    server: Server, things: CollectionInfo
) -> None:
    await server.write(things, {n: n % 3 for n in range(30)})
    await server.flush(things)
    await server.write(things, {n: n % 3 for n in range(30, 40)})
    found = await server.query(things, expression="value == 1", limit=12)
    assert found.rows.column("id").to_pylist() == list(range(1, 36, 3))
    counted = await server.query(things, expression="value == 1", count_only=True)
    assert counted.count == 13
    only = await server.query(things, expression="id in [5, 39, 77]", output_fields=("id",))
    assert only.rows.column("id").to_pylist() == [5, 39]


async def test_a_read_waits_for_a_write_in_progress_as_long_as_it_has_time(
    server: Server, things: CollectionInfo
) -> None:
    await server.write(things, {1: 10})
    ((pchannel, _),) = server.streaming._shards_by_pchannel()
    pchannel.safe_time.begin()
    with pytest.raises(DeadlineExceeded):
        await server.query(things, deadline_s=0.01)
    patient = asyncio.create_task(server.query(things, deadline_s=60.0))
    await asyncio.sleep(0.02)
    assert not patient.done()
    pchannel.safe_time.finish()
    assert (await patient).rows.column("id").to_pylist() == [1]


@pytest.mark.parametrize("names", [("id",), ("id", "value"), ("value",)])
async def test_every_answer_has_the_same_columns_so_that_shards_can_be_merged(
    server: Server, things: CollectionInfo, names: tuple[str, ...]
) -> None:
    async def columns() -> list[pa.Schema]:
        found = await server.search(things, 1, output_fields=names)
        none = await server.query(things, expression="id == 99", output_fields=names)
        some = await server.query(things, expression="id < 3", output_fields=names)
        return [found.rows.schema, none.rows.schema, some.rows.schema]

    await server.write(things, {n: n for n in range(5)})
    schemas = await columns()
    await server.flush(things)
    schemas += await columns()
    await server.write(things, {n: n for n in range(2, 9)}, deletes=range(2, 9))
    schemas += await columns()
    assert all(schema.equals(schemas[0]) for schema in schemas)


async def test_expired_rows_are_not_seen(server: Server, things: CollectionInfo) -> None:
    await server.write(things, {1: 1})
    seen = await server.query(things, ttl_seconds=3600)
    assert seen.rows.num_rows == 1
    await server.world.clock.sleep(1.1)
    gone = await server.query(things, ttl_seconds=1, guarantee_ts=1)
    assert gone.rows.num_rows == 0


async def test_a_flush_that_ends_while_a_view_is_prepared_hides_no_row(server: Server) -> None:
    things = await server.create(load=False)
    await server.write(things, {1: 1, 2: 2})
    await server.flush(things)
    await server.write(things, {3: 3}, deletes=[1])
    list_segments = server.coordinator.list_segments
    flushes = 0

    async def flushed_meanwhile(collection_id: int) -> list[SegmentInfo]:
        nonlocal flushes
        answer = await list_segments(collection_id)
        if not flushes:
            flushes += 1
            await server.flush(things)
        return answer

    update_view = server.streaming.update_view
    seen = []

    async def read_at_once(view: QueryView) -> None:
        await update_view(view)
        seen.append(await server.contents(things))

    server.coordinator.list_segments = flushed_meanwhile
    server.streaming.update_view = read_at_once
    await server.load(things)
    assert flushes == 1
    assert seen
    assert all(contents == {2: 2, 3: 3} for contents in seen)


async def test_a_view_without_deletes_that_only_files_have_is_refused(server: Server) -> None:
    things = await server.create(load=False)
    await server.write(things, {1: 1, 2: 2, 3: 3})
    await server.flush(things)
    for key in (1, 2):
        await server.write(things, deletes=[key])
        await server.flush(things)
    (segment,) = [
        segment
        for segment in await server.coordinator.list_segments(things.collection_id)
        if segment.level is not SegmentLevel.L0
    ]
    view = QueryView(
        vchannel=things.vchannels[0],
        version=1,
        sealed=(segment,),
        superseded=frozenset(),
        delta_ts=segment.max_ts,
        placement={segment.segment_id: (1,)},
    )
    with pytest.raises(Unavailable, match="only in object storage"):
        await server.streaming.update_view(view)


async def test_a_node_that_missed_deletes_is_not_read_until_it_was_told(
    server: Server, things: CollectionInfo
) -> None:
    await server.write(things, {1: 1, 2: 2})
    await server.flush(things)
    await eventually(lambda: _has_no_growing(server, things))
    query_node = server.router.query
    server.router.query = None  # calls of it fail
    await server.write(things, deletes=[1])
    server.router.query = query_node

    async def readable() -> bool:
        try:
            seen = await server.contents(things)
        except Unavailable:
            return False
        assert seen == {2: 2}
        return True

    await readable()
    server.coordinator.query_nodes_changed()
    await eventually(readable)


async def test_writes_wait_once_for_a_node_that_can_not_be_told(
    server: Server, things: CollectionInfo
) -> None:
    await server.write(things, {n: n for n in range(6)})
    await server.flush(things)
    await eventually(lambda: _is_settled(server, things))
    calls = 0
    apply_deletes = server.query_node.apply_deletes

    async def silent(*_: object) -> None:
        nonlocal calls
        calls += 1
        raise Unavailable("no answer in time")

    async def no_answer() -> list[SegmentInfo]:
        raise Unavailable("no answer in time")

    list_segments = server.query_node.list_segments
    server.query_node.apply_deletes = silent  # type: ignore[method-assign]
    server.query_node.list_segments = no_answer  # type: ignore[method-assign]
    for key in range(4):
        await server.write(things, deletes=[key])
    assert calls == 1
    server.query_node.apply_deletes = apply_deletes  # type: ignore[method-assign]
    server.query_node.list_segments = list_segments  # type: ignore[method-assign]
    await eventually(lambda: _is(not server.shard(things).lost_nodes))
    assert await server.contents(things) == {4: 4, 5: 5}


async def _is_settled(server: Server, things: CollectionInfo) -> bool:
    """The flushed segment is in the view, and nobody is at work on the next."""
    shard = server.shard(things)
    is_viewed = shard.view is not None and bool(shard.view.sealed)
    return is_viewed and not shard.view_lock.locked()


async def _is(condition: bool) -> bool:
    return condition


async def test_memory_pressure_flushes_the_largest_and_leaves_the_rest(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        Settings(), streaming=StreamingSettings(growing_memory_ratio=1e-4)
    )
    server = await Server(tmp_path, settings=settings).start()
    things = await server.create(partitions=2)
    commits = []
    commit_flush = server.coordinator.commit_flush

    async def counted(commit: FlushCommit) -> None:
        commits.append(commit)
        await commit_flush(commit)

    server.coordinator.commit_flush = counted
    small = {1: 1}
    large = {n: n for n in range(0, 8000, 2)}
    await server.write(things, small | large)

    async def flushed() -> bool:
        return bool(await server.coordinator.list_segments(things.collection_id))

    await eventually(flushed)
    await asyncio.sleep(0.05)
    assert len(commits) == 1
    assert [segment.row_count for segment in commits[0].segments] == [4000]
    assert await server.contents(things) == small | large
    await server.stop()


async def test_a_write_without_rows_changes_nothing(server: Server, things: CollectionInfo) -> None:
    empty = PartitionRows(things.partitions[0].partition_id, batch({}))
    await server.streaming.write(
        WriteRequest(
            vchannel=things.vchannels[0],
            collection_id=things.collection_id,
            schema_version=things.schema.version,
            inserts=(empty,),
        )
    )
    await server.flush(things)
    assert await server.contents(things) == {}


async def test_dropped_data_frees_its_memory(server: Server, things: CollectionInfo) -> None:
    await server.write(things, {n: n for n in range(100)})
    await server.write(things, deletes=range(50))
    assert server.world.memory.used_by_category()["growing"] > 0
    await server.coordinator.drop_collection("default", SCHEMA.name)

    async def freed() -> bool:
        return server.world.memory.used_by_category()["growing"] == 0

    await eventually(freed)


async def _has_no_growing(server: Server, things: CollectionInfo) -> bool:
    return not await server.streaming.growing(things.vchannels[0])


async def test_answers_of_a_burst_of_writes_leave_turns_to_others(
    server: Server, things: CollectionInfo
) -> None:
    answered: list[int] = []
    writes = [asyncio.create_task(server.write(things, {n: n})) for n in range(300)]
    while not all(write.done() for write in writes):
        answered.append(sum(write.done() for write in writes))
        await asyncio.sleep(0)
    assert max(after - before for before, after in pairwise(answered)) <= 32
    assert await server.count(things) == 300
