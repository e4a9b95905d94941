"""Loading, refreshing and releasing segments under reads, over real files."""

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import structlog
from tests.unit.workers.streaming.harness import Server, vectors

from elanus.engine.index.scalar.files import build_scalar_index
from elanus.errors import CorruptData, Unavailable
from elanus.model.catalog import (
    ALL_PARTITIONS,
    CollectionInfo,
    IndexInfo,
    SegmentIndex,
    SegmentInfo,
)
from elanus.model.reads import Snapshot, VectorQuery
from elanus.model.timestamp import MAX_TIMESTAMP
from elanus.model.types import IndexState, MetricType, SegmentLevel
from elanus.services.messages import (
    FetchRows,
    LoadSegment,
    PrimaryKeys,
    SegmentQuery,
    SegmentSearch,
)
from elanus.storage.formats.files import checksum_of_file
from elanus.storage.formats.segment_reader import open_segment
from elanus.workers.query.node import QueryNode
from elanus.workers.query.reads import batch_key


@pytest.fixture
async def things(server: Server) -> CollectionInfo:
    return await server.create(load=False)


@pytest.fixture
def node(server: Server) -> QueryNode:
    return QueryNode(server.world, server.settings.query_node, server.objects, slots=2)


async def flushed(
    server: Server, things: CollectionInfo
) -> tuple[SegmentInfo, tuple[SegmentInfo, ...]]:
    """A segment with ids 0 … 9 of which 0 was deleted later, and the L0 segments."""
    await server.write(things, {n: n for n in range(10)})
    await server.write(things, deletes=[0])
    await server.flush(things)
    segments = await server.coordinator.list_segments(things.collection_id)
    deltas = tuple(s for s in segments if s.level is SegmentLevel.L0)
    (segment,) = [s for s in segments if s.level is not SegmentLevel.L0]
    return segment, deltas


async def ids_in(node: QueryNode, segment: SegmentInfo, read_ts: int) -> list[int]:
    found = await node.query(SegmentQuery((segment.segment_id,), Snapshot(read_ts)))
    assert found.rows is not None
    return np.asarray(found.rows.keys).tolist()


async def test_a_loaded_segment_has_the_deletes_of_its_files(
    server: Server, things: CollectionInfo, node: QueryNode
) -> None:
    segment, deltas = await flushed(server, things)
    await node.load_segment(LoadSegment(segment, things, (), deltas))
    now = await server.coordinator.allocate_timestamps(1)
    assert await ids_in(node, segment, now) == list(range(1, 10))
    assert await ids_in(node, segment, segment.max_ts) == list(range(10))


async def test_a_newer_version_keeps_the_deletes_that_came_meanwhile(
    server: Server, things: CollectionInfo, node: QueryNode
) -> None:
    segment, deltas = await flushed(server, things)
    await node.load_segment(LoadSegment(segment, things, (), deltas))
    timestamp = await server.coordinator.allocate_timestamps(1)
    deletes = (PrimaryKeys(pa.array([5, 77]), ALL_PARTITIONS),)
    await node.apply_deletes((segment.segment_id, 12345), deletes, timestamp)
    newer = msgspec.structs.replace(segment, version=segment.version + 1)
    await node.load_segment(LoadSegment(newer, things, (), deltas))
    assert node.loaded_versions() == {segment.segment_id: newer.version}
    assert await ids_in(node, segment, timestamp) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert await ids_in(node, segment, timestamp - 1) == list(range(1, 10))


async def test_deletes_of_other_partitions_do_not_count(
    server: Server, things: CollectionInfo, node: QueryNode
) -> None:
    segment, deltas = await flushed(server, things)
    await node.load_segment(LoadSegment(segment, things, (), deltas))
    timestamp = await server.coordinator.allocate_timestamps(1)
    elsewhere = (PrimaryKeys(pa.array([5]), segment.partition_id + 1),)
    await node.apply_deletes((segment.segment_id,), elsewhere, timestamp)
    assert 5 in await ids_in(node, segment, timestamp)


async def test_a_segment_that_is_not_here_is_unavailable(
    server: Server, things: CollectionInfo, node: QueryNode
) -> None:
    segment, deltas = await flushed(server, things)
    await node.load_segment(LoadSegment(segment, things, (), deltas))
    assert server.world.memory.used_by_category()["sealed"] > 0
    await node.release_segments((segment.segment_id,))
    assert server.world.memory.used_by_category()["sealed"] == 0
    asked = VectorQuery("vector", MetricType.L2, vectors([1]), 3)
    with pytest.raises(Unavailable):
        await node.search(SegmentSearch((segment.segment_id,), asked, Snapshot(1)))
    with pytest.raises(Unavailable):
        await node.fetch(FetchRows(np.array([segment.segment_id]), np.array([0]), ("id",)))


async def test_a_damaged_column_is_named_and_never_served(
    server: Server, things: CollectionInfo, node: QueryNode
) -> None:
    segment, deltas = await flushed(server, things)
    directory = server.objects.path_of(segment.manifest_key)
    assert directory is not None
    damaged = next(p for p in sorted(directory.parent.iterdir()) if p.suffix == ".arrow")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(CorruptData, match=damaged.name):
        await node.load_segment(LoadSegment(segment, things, (), deltas))
    assert node.loaded_versions() == {}
    assert server.world.memory.used_by_category()["sealed"] == 0


async def test_a_damaged_scalar_index_is_reported_and_the_segment_scanned(
    server: Server, things: CollectionInfo, node: QueryNode, tmp_path: Path
) -> None:
    segment, deltas = await flushed(server, things)
    files = await open_segment(server.world, server.objects, segment.manifest_key)
    path = tmp_path / "index"
    build_scalar_index("STL_SORT", {}, files.column("id"), str(path))
    size_bytes, checksum = checksum_of_file(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    await server.objects.put("index_files/good", [path.read_bytes()])
    await server.objects.put("index_files/damaged", [bytes(data)])
    index = IndexInfo(
        index_id=5,
        collection_id=things.collection_id,
        field_name="id",
        name="id",
        index_type="STL_SORT",
        metric_type=None,
        created_ts=1,
    )
    for version, (key, expected) in enumerate([("damaged", 1), ("good", 0)], segment.version + 1):
        part = SegmentIndex(
            index_id=5,
            state=IndexState.FINISHED,
            key=f"index_files/{key}",
            checksum=checksum,
            size_bytes=size_bytes,
        )
        newer = msgspec.structs.replace(segment, indexes=(part,), version=version)
        with structlog.testing.capture_logs() as logs:
            await node.load_segment(LoadSegment(newer, things, (index,), deltas))
        reports = [entry for entry in logs if "index file not usable" in entry["event"]]
        assert len(reports) == expected
        assert await ids_in(node, newer, MAX_TIMESTAMP - 1) == list(range(1, 10))


async def test_only_reads_that_see_the_same_rows_are_batched(
    server: Server, things: CollectionInfo, node: QueryNode
) -> None:
    segment, deltas = await flushed(server, things)
    await node.load_segment(LoadSegment(segment, things, (), deltas))
    asked = VectorQuery("vector", MetricType.L2, vectors([1]), 3)

    def key(read_ts: int) -> object:
        request = SegmentSearch((segment.segment_id,), asked, Snapshot(read_ts))
        return batch_key([node._segments[segment.segment_id]], request)

    now = await server.coordinator.allocate_timestamps(1)
    assert key(now) == key(now + 1)
    assert key(segment.max_ts) != key(now)
    before = key(now)
    deletes = (PrimaryKeys(pa.array([5]), ALL_PARTITIONS),)
    await node.apply_deletes((segment.segment_id,), deletes, now + 2)
    assert key(now + 3) != before
