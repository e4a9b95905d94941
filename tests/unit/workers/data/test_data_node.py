"""Compaction against a row-by-row oracle, delta compaction, and index builds in a real process."""

import asyncio
import os
import random
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import structlog
from tests.unit.coordinator.support import make_world

from elanus.config.settings import Settings
from elanus.engine.index.files import open_index
from elanus.engine.index.scalar.files import open_scalar_index
from elanus.errors import InvalidParameter
from elanus.model.catalog import CollectionInfo, IndexInfo, PartitionInfo, SegmentInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import (
    ConsistencyLevel,
    DataType,
    IndexState,
    MetricType,
    SegmentLevel,
    SegmentState,
)
from elanus.services.messages import CompactionTask, DeltaCompactionTask, IndexTask
from elanus.storage.formats.deltas import DeltaRows, write_delta_segment
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.manifest import read_manifest
from elanus.storage.formats.segment_reader import open_segment
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.workers.data.build_request import BuildRequest
from elanus.workers.data.builder import InProcessBuilder
from elanus.workers.data.importing.importer import InProcessImporter
from elanus.workers.data.index_process import ProcessBuilder
from elanus.workers.data.node import DataNode

DIM = 3
PARTITION = 5


class Oracle:
    next_id = 1_000

    async def allocate_ids(self, count: int = 1) -> int:
        self.next_id += count
        return self.next_id - count

    allocate_timestamps = allocate_ids


class Bench:
    def __init__(self, scratch: Path, key_type: DataType) -> None:
        self.world = make_world()
        self.objects = MemoryObjectStore(self.world)
        self.oracle = Oracle()
        fields = [
            FieldSchema(name="id", data_type=key_type, is_primary=True),
            FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)}),
            FieldSchema(name="n", data_type=DataType.INT32),
            FieldSchema(name="late", data_type=DataType.INT64, nullable=True, default_value=7),
        ]
        self.schema = CollectionSchema(name="c", fields=tuple(fields), version=1)
        self.collection = CollectionInfo(
            collection_id=1,
            database="default",
            schema=self.schema,
            vchannels=("p_0_1v0",),
            partitions=(PartitionInfo(partition_id=PARTITION, name="_default", created_ts=1),),
            consistency_level=ConsistencyLevel.STRONG,
            created_ts=1,
            updated_ts=1,
        )
        self.node = DataNode(
            self.world,
            Settings(),
            objects=self.objects,
            oracle=self.oracle,
            builder=InProcessBuilder(self.world),
            importer=InProcessImporter(self.world),
            scratch=scratch,
        )

    def keys(self, keys) -> pa.Array:
        text = self.schema.primary.data_type is DataType.VARCHAR
        return pa.array([f"k{k}" if text else k for k in keys], pa.string() if text else pa.int64())

    def batch(self, rows) -> pa.RecordBatch:
        """rows: (key, ts), without the field that was added later."""
        vectors = np.array([[k, ts, 1] for k, ts in rows], dtype=np.float32)
        return pa.record_batch(
            {
                "id": self.keys([k for k, _ in rows]),
                "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM),
                "n": pa.array([k * 1000 + ts for k, ts in rows], pa.int32()),
            }
        )

    async def segment(self, segment_id: int, rows) -> SegmentInfo:
        order = sorted(rows, key=lambda row: (self.keys([row[0]])[0].as_py(), row[1]))
        stamps = np.array([ts for _, ts in order], dtype=np.uint64)
        place = SegmentPlace(1, PARTITION, segment_id, await self.oracle.allocate_ids())
        key, manifest = await write_segment(
            self.world, self.objects, self.batch(order), stamps, place=place, schema_version=0
        )
        return self.info(segment_id, PARTITION, SegmentLevel.L1, key, manifest)

    async def deltas(self, segment_id: int, deletes) -> SegmentInfo:
        """deletes: (key, ts, partition)."""
        rows = DeltaRows(
            self.keys([k for k, _, _ in deletes]),
            np.array([ts for _, ts, _ in deletes], dtype=np.uint64),
            np.array([p for _, _, p in deletes], dtype=np.int64),
        )
        place = SegmentPlace(1, -1, segment_id, await self.oracle.allocate_ids())
        key, manifest = await write_delta_segment(self.world, self.objects, place, rows)
        return self.info(segment_id, -1, SegmentLevel.L0, key, manifest)

    def info(self, segment_id, partition_id, level, key, manifest) -> SegmentInfo:
        return SegmentInfo(
            segment_id=segment_id,
            collection_id=1,
            partition_id=partition_id,
            vchannel="p_0_1v0",
            state=SegmentState.FLUSHED,
            level=level,
            row_count=manifest.row_count,
            min_ts=manifest.min_ts,
            max_ts=manifest.max_ts,
            manifest_key=key,
            size_bytes=manifest.size_bytes,
        )

    async def read(self, segment: SegmentInfo):
        """(key, ts) of each row, after checking that its other columns belong to it."""
        files = await open_segment(self.world, self.objects, segment.manifest_key)
        stamps = files.timestamps.tolist()
        keys = files.column("id").to_pylist()
        numbers = [int(str(key).removeprefix("k")) for key in keys]
        rows = list(zip(numbers, stamps, strict=True))
        assert files.column("n").to_pylist() == [k * 1000 + ts for k, ts in rows]
        assert files.vectors("v").tolist() == [[k, ts, 1] for k, ts in rows]
        if "late" in files.field_names:
            assert files.column("late").to_pylist() == [7] * len(rows)
        assert list(zip(keys, stamps, strict=True)) == sorted(zip(keys, stamps, strict=True))
        return rows


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
@pytest.mark.parametrize("seed", range(8))
async def test_a_merge_keeps_exactly_the_living_rows(
    tmp_path: Path, key_type: DataType, seed: int
) -> None:
    bench = Bench(tmp_path, key_type)
    chance = random.Random(seed)
    times = iter(range(1, 10_000))
    rows = [
        [(chance.randrange(30), next(times)) for _ in range(chance.randint(1, 40))]
        for _ in range(3)
    ]
    inputs = [await bench.segment(10 + n, part) for n, part in enumerate(rows)]
    own = [(chance.randrange(30), chance.randrange(1, 130), PARTITION) for _ in range(5)]
    l0 = [
        (chance.randrange(30), chance.randrange(1, 200), chance.choice([-1, PARTITION, 6]))
        for _ in range(15)
    ]
    moved = await bench.node.compact_deltas(
        DeltaCompactionTask(1, bench.collection, tuple(inputs), (await bench.deltas(20, own),))
    )
    by_id = {s.segment_id: s for s in (*inputs, *moved.segments)}
    for segment, part in zip(inputs, rows, strict=True):
        dead = sum(any(k == key and ts < dts for k, dts, _ in own) for key, ts in part)
        assert by_id[segment.segment_id].deleted_rows == dead
    read_ts, expire = chance.randrange(40, 200), chance.choice([0, 10])
    l0_info = await bench.deltas(21, l0)
    inputs = list(by_id.values())
    task = CompactionTask(2, bench.collection, tuple(inputs), (l0_info,), 99, read_ts, expire)
    result = await bench.node.compact(task)
    deletes = [(k, ts) for k, ts, p in [*own, *l0] if p in (-1, PARTITION) and ts <= read_ts]
    living = sorted(
        (key, ts)
        for part in rows
        for key, ts in part
        if ts > expire and not any(k == key and ts < dts for k, dts in deletes)
    )
    if not living:
        assert result.segments == ()
        return
    (output,) = result.segments
    assert sorted(await bench.read(output)) == living
    assert (output.row_count, output.min_ts) == (len(living), min(ts for _, ts in living))
    # Deletes that were assigned to the inputs and lie after the read are not lost.
    manifest = await read_manifest(bench.objects, output.manifest_key)
    assigned = [await read_manifest(bench.objects, s.manifest_key) for s in by_id.values()]
    later = any(file.max_ts > read_ts for one in assigned for file in one.deltas)
    assert bool(manifest.deltas) == later
    again = await bench.node.compact(task)
    assert again.segments[0].manifest_key != output.manifest_key
    assert await bench.read(again.segments[0]) == await bench.read(output)


async def test_only_touched_segments_get_a_new_manifest(tmp_path: Path) -> None:
    bench = Bench(tmp_path, DataType.INT64)
    one, two = await bench.segment(1, [(1, 5), (2, 6)]), await bench.segment(2, [(3, 7), (1, 30)])
    l0 = await bench.deltas(3, [(1, 20, -1), (8, 20, -1), (3, 20, 77)])
    result = await bench.node.compact_deltas(
        DeltaCompactionTask(1, bench.collection, (one, two), (l0,))
    )
    (changed,) = result.segments
    assert (changed.segment_id, changed.deleted_rows) == (1, 1)
    manifest = await read_manifest(bench.objects, changed.manifest_key)
    assert [file.row_count for file in manifest.deltas] == [1]


def make_index(**changes) -> IndexInfo:
    index = IndexInfo(
        index_id=4,
        collection_id=1,
        field_name="v",
        name="v",
        index_type="HNSW",
        metric_type=MetricType.L2,
        created_ts=1,
        params={"M": "8", "efConstruction": "40"},
    )
    return msgspec.structs.replace(index, **changes)


async def test_an_index_file_is_stored_with_its_checksum(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "scratch", DataType.INT64)
    segment = await bench.segment(1, [(k, k + 1) for k in range(300)])
    result = await bench.node.build_index(IndexTask(1, segment, bench.collection, make_index()))
    (part,) = result.segments[0].indexes
    data = await bench.objects.get(part.key)
    assert len(data) == part.size_bytes
    (tmp_path / "copy").write_bytes(data)
    assert open_index(str(tmp_path / "copy"), "HNSW", MetricType.L2, 300, DIM).row_count == 300
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_lists_in_the_place_of_codes_are_logged(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "scratch", DataType.INT64)
    segment = await bench.segment(1, [(k, k + 1) for k in range(3_000)])
    # Sixteen codes for all the rows.
    scann = make_index(index_type="SCANN", params={"nlist": "1"})
    with structlog.testing.capture_logs() as logs:
        await bench.node.build_index(IndexTask(1, segment, bench.collection, scann))
    (warning,) = (entry for entry in logs if entry["log_level"] == "warning")
    assert (warning["segment_id"], warning["field_name"]) == (1, "v")
    assert "lists of vectors are built" in warning["reason"]


def scalar_index(**changes) -> IndexInfo:
    scalar = {"index_type": "STL_SORT", "metric_type": None, "params": {}}
    return make_index(**{"field_name": "n", "name": "n"} | scalar | changes)


async def test_a_scalar_index_is_built_like_one_of_vectors(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "scratch", DataType.INT64)
    segment = await bench.segment(1, [(k, k + 1) for k in range(300)])
    result = await bench.node.build_index(IndexTask(1, segment, bench.collection, scalar_index()))
    (part,) = result.segments[0].indexes
    (tmp_path / "copy").write_bytes(await bench.objects.get(part.key))
    assert open_scalar_index(str(tmp_path / "copy"), 300).row_count == 300


async def test_a_segment_older_than_the_field_has_no_index_file(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "scratch", DataType.INT64)
    segment = await bench.segment(1, [(1, 2)])
    late = scalar_index(field_name="late")
    result = await bench.node.build_index(IndexTask(1, segment, bench.collection, late))
    (part,) = result.segments[0].indexes
    assert (part.state, part.key) == (IndexState.FINISHED, "")


class TestProcess:
    @pytest.fixture
    def request_of(self, tmp_path: Path):
        def make(rows: int = 500, index_type: str = "HNSW", dim: int = 8) -> BuildRequest:
            vectors = np.random.default_rng(1).random((rows, dim), dtype=np.float32)
            np.save(tmp_path / "v.npy", vectors)
            paths = str(tmp_path / "v.npy"), str(tmp_path / "out")
            return BuildRequest(index_type, MetricType.COSINE, {"M": "8"}, *paths, 1)

        return make

    async def test_builds_reports_errors_and_goes_when_idle(self, request_of) -> None:
        builder = ProcessBuilder(idle_s=0.5)
        assert await builder.build(request_of()) == 500
        first = builder.process_id
        with pytest.raises(InvalidParameter, match="index type can't be built"):
            await builder.build(request_of(index_type="NONE"))
        assert builder.process_id == first
        async with asyncio.timeout(10):
            while builder.process_id is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await builder.build(request_of()) == 500
        await builder.close()
        assert builder.process_id is None

    async def test_tells_what_was_noted_of_a_build(self, request_of) -> None:
        builder, notes = ProcessBuilder(), list[str]()
        await builder.build(request_of(rows=3_000, index_type="SCANN", dim=2), notes.append)
        await builder.close()
        (note,) = notes
        assert "lists of vectors are built" in note

    async def test_cancelling_kills_the_build(self, request_of) -> None:
        builder = ProcessBuilder()
        await builder.build(request_of())
        child = builder.process_id
        build = asyncio.ensure_future(builder.build(request_of(rows=60_000, dim=64)))
        await asyncio.sleep(0.3)
        build.cancel()
        with pytest.raises(asyncio.CancelledError):
            await build
        assert builder.process_id is None
        assert child is not None
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
