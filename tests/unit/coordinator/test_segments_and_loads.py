"""From a flush commit to what is searched: views, index tasks, compaction, garbage."""

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests.unit.coordinator.support import Rig, make_commit, make_segment, running
from tests.unit.coordinator.test_coordinator_ddl import vector_index

from elanus.config.settings import DataCoordSettings, Settings
from elanus.config.storage import WoodpeckerSettings
from elanus.coordinator.catalog import Change
from elanus.coordinator.records import CollectionRecord, CollectionState
from elanus.errors import CollectionNotFound, ElanusError, IndexNotFound, InternalError
from elanus.model.catalog import ALL_PARTITIONS, CollectionInfo, SegmentInfo
from elanus.model.types import IndexState, LoadState, SegmentLevel, SegmentState
from elanus.storage.formats.deltas import DeltaRows, write_delta_segment
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.segment_reader import open_segment
from elanus.storage.formats.segment_writer import write_segment
from elanus.storage.meta.base import MetaStore
from elanus.storage.wal.woodpecker import WoodpeckerWal

SMALL = Settings(data_coord=DataCoordSettings(min_segment_num_rows_to_enable_index=20))


async def flushed(rig: Rig, info: CollectionInfo, segment_id: int, rows) -> SegmentInfo:
    """A real segment; rows: (pk, ts) by pk."""
    place = SegmentPlace(
        info.collection_id,
        info.partitions[0].partition_id,
        segment_id,
        await rig.coordinator.allocate_ids(),
    )
    vectors = np.ones((len(rows), 4), np.float32)
    batch = pa.record_batch(
        {
            "id": pa.array([k for k, _ in rows], pa.int64()),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4),
        }
    )
    stamps = np.array([ts for _, ts in rows], np.uint64)
    key, manifest = await write_segment(
        rig.world, rig.objects, batch, stamps, place=place, schema_version=0
    )
    return make_segment(
        info,
        segment_id,
        row_count=len(rows),
        min_ts=manifest.min_ts,
        max_ts=manifest.max_ts,
        manifest_key=key,
    )


async def deleted(rig: Rig, info: CollectionInfo, segment_id: int, deletes) -> SegmentInfo:
    place = SegmentPlace(
        info.collection_id, ALL_PARTITIONS, segment_id, await rig.coordinator.allocate_ids()
    )
    rows = DeltaRows(
        pa.array([k for k, _ in deletes], pa.int64()),
        np.array([ts for _, ts in deletes], np.uint64),
        np.full(len(deletes), ALL_PARTITIONS, np.int64),
    )
    key, manifest = await write_delta_segment(rig.world, rig.objects, place, rows)
    return make_segment(
        info,
        segment_id,
        level=SegmentLevel.L0,
        partition_id=ALL_PARTITIONS,
        row_count=len(deletes),
        min_ts=manifest.min_ts,
        max_ts=manifest.max_ts,
        manifest_key=key,
    )


def sealed(rig: Rig, info: CollectionInfo) -> list[int]:
    view = rig.streaming.views.get(info.vchannels[0])
    return [] if view is None else [s.segment_id for s in view.sealed]


async def test_a_flush_commit_counts_once(meta: MetaStore) -> None:
    async with running(meta) as rig:
        info = await rig.create()
        c = rig.coordinator
        commit = make_commit(info, make_segment(info, 5), make_segment(info, 6, row_count=3))
        await c.commit_flush(commit)
        before = await c.list_segments(info.collection_id)
        await c.commit_flush(commit)
        assert await c.list_segments(info.collection_id) == before
        assert [s.segment_id for s in before] == [5, 6]
        assert await c.is_flushed(info.collection_id, 6)
        assert not await c.is_flushed(info.collection_id, 7)
        await c.commit_flush(make_commit(info, position=6, timestamp=9))
        assert await c.is_flushed(info.collection_id, 9)
        await c.commit_flush(make_commit(info, position=1, timestamp=1))
        (shard,) = await c.recovery("by-dev-rootcoord-dml_0")
        assert (shard.checkpoint.position, shard.checkpoint.timestamp) == (6, 9)
        assert shard.flushed_segments == {5, 6}
        await c.drop_collection("default", "c")
        with pytest.raises(CollectionNotFound):
            await c.commit_flush(commit)


async def test_loading_pushes_a_view_and_follows_flushes_and_restarts(
    meta: MetaStore, tmp_path: Path
) -> None:
    async with running(meta, scratch=tmp_path) as rig:
        c = rig.coordinator
        info = await rig.create()
        with pytest.raises(IndexNotFound):
            await c.load(info.collection_id, (), 1)
        await c.create_index(vector_index(info))
        await c.commit_flush(make_commit(info, make_segment(info, 5)))
        rig.query.failures["load_segment"] = 1
        rig.streaming.failures["update_view"] = 2
        await c.load(info.collection_id, (), 1)
        await c.load(info.collection_id, (), 1)
        await rig.until(lambda: sealed(rig, info) == [5])
        load = await c.load_info(info.collection_id)
        assert load is not None
        await rig.until(
            lambda: rig.coordinator._parts.loads._loaded[info.collection_id].reason == ""
        )
        load = await c.load_info(info.collection_id)
        assert load is not None
        assert (load.state, load.progress) == (LoadState.LOADED, 100)
        await c.commit_flush(make_commit(info, make_segment(info, 8)))
        await rig.until(lambda: sealed(rig, info) == [5, 8])
        view = rig.streaming.views[info.vchannels[0]]
        assert view.delta_ts == 8
        assert set(view.placement) == {5, 8}
        assert view.superseded >= {5, 8}
        version = view.version
    async with running(meta, scratch=tmp_path) as rig:
        await rig.until(lambda: sealed(rig, info) == [5, 8])
        assert rig.streaming.views[info.vchannels[0]].version > version
        await rig.coordinator.release(info.collection_id, ())
        assert rig.query.held == {}
        assert rig.streaming.views == {}
        assert await rig.coordinator.load_info(info.collection_id) is None


async def test_an_index_is_built_and_the_indexed_segment_loaded(
    meta: MetaStore, tmp_path: Path
) -> None:
    async with running(meta, settings=SMALL, scratch=tmp_path) as rig:
        c = rig.coordinator
        info = await rig.create()
        index = await c.create_index(vector_index(info))
        await c.load(info.collection_id, (), 1)
        big = await flushed(rig, info, 5, [(n, n + 1) for n in range(30)])
        small = await flushed(rig, info, 6, [(99, 50)])
        await c.commit_flush(make_commit(info, big, small))

        def loaded_with_index() -> bool:
            held = rig.query.held.get(5)
            return held is not None and any(part.key for part in held.segment.indexes)

        await rig.until(loaded_with_index)
        parts = {s.segment_id: s.indexes for s in await c.list_segments(info.collection_id)}
        assert [p.state for p in parts[5]] == [p.state for p in parts[6]] == [IndexState.FINISHED]
        assert parts[5][0].index_id == index.index_id
        assert parts[6][0].key == ""
        await rig.until(lambda: rig.streaming.views[info.vchannels[0]].sealed[0].version == 2)


async def test_a_build_that_fails_for_good_says_why(meta: MetaStore, tmp_path: Path) -> None:
    async with running(meta, settings=SMALL, scratch=tmp_path) as rig:
        info = await rig.create()

        async def build_index(task: object) -> None:
            raise InternalError("it broke")

        rig.data.build_index = build_index
        await rig.coordinator.create_index(vector_index(info))
        big = await flushed(rig, info, 5, [(n, n + 1) for n in range(30)])
        await rig.coordinator.commit_flush(make_commit(info, big))
        segment = rig.coordinator._catalog.segment
        await rig.until(lambda: bool(segment(info.collection_id, 5).indexes))
        (part,) = segment(info.collection_id, 5).indexes
        assert (part.state, part.fail_reason) == (IndexState.FAILED, "it broke")


async def test_compaction_merges_applies_deletes_and_garbage_goes(
    meta: MetaStore, tmp_path: Path
) -> None:
    async with running(meta, scratch=tmp_path) as rig:
        c = rig.coordinator
        info = await rig.create()
        await c.create_index(vector_index(info))
        await c.load(info.collection_id, (), 1)
        one = await flushed(rig, info, 1, [(1, 1), (2, 2)])
        two = await flushed(rig, info, 2, [(3, 3), (4, 4)])
        l0 = await deleted(rig, info, 3, [(1, 5), (3, 6)])
        await c.commit_flush(make_commit(info, one, two, l0))
        await rig.until(lambda: sealed(rig, info) == [1, 2])
        job, plans = await c.compact(info.collection_id)
        assert plans == 1  # the deletes first; the merge follows

        async def states() -> list[str]:
            return [state for state, _, _ in await c.compaction_plans(job)]

        segments = rig.coordinator._catalog.flushed
        await rig.until(lambda: [s.row_count for s in segments(info.collection_id)] == [2])
        (merged,) = segments(info.collection_id)
        files = await open_segment(rig.world, rig.objects, merged.manifest_key)
        assert files.column("id").to_pylist() == [2, 4]
        assert files.timestamps.tolist() == [2, 4]
        assert rig.coordinator._catalog.deltas(info.collection_id) == []
        await rig.until(lambda: sealed(rig, info) == [merged.segment_id])
        assert rig.streaming.views[info.vchannels[0]].superseded >= {1, 2}
        await rig.until(lambda: set(rig.query.held) == {merged.segment_id})
        assert set(await states()) == {"completed"}
        assert await c.compact(info.collection_id) == (-1, 0)
        await rig.until(lambda: not rig.coordinator._parts.loads.holds(one))
        assert await c.collect_garbage() > 0
        left = {info.key for info in await rig.objects.list("")}
        assert left == {merged.manifest_key, *(f.key for f in files.manifest.files)}
        assert [s.segment_id for s in rig.coordinator._catalog.segments(info.collection_id)] == [
            merged.segment_id
        ]


async def test_a_compaction_does_not_bring_back_a_partition_that_is_being_dropped(
    meta: MetaStore, tmp_path: Path
) -> None:
    async with running(meta, scratch=tmp_path) as rig:
        info = await rig.create()
        one = await flushed(rig, info, 1, [(1, 1)])
        two = await flushed(rig, info, 2, [(2, 2)])
        await rig.coordinator.commit_flush(make_commit(info, one, two))
        catalog = rig.coordinator._catalog

        def drop_partition() -> None:
            record = CollectionRecord(
                info=msgspec.structs.replace(info, partitions=()), state=CollectionState.CREATED
            )
            rig.world.tasks.spawn("drop", catalog._commit(lambda: Change(put=[record])))

        rig.world.failpoints.arm_with("compaction.before_commit", drop_partition)
        job, _ = await rig.coordinator.compact(info.collection_id)

        async def states() -> list[str]:
            return [state for state, _, _ in await rig.coordinator.compaction_plans(job)]

        async with asyncio.timeout(5):
            while await states() == ["executing"]:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        assert [s.segment_id for s in catalog.flushed(info.collection_id)] == [1, 2]


async def test_garbage_spares_what_is_young_or_named(meta: MetaStore, tmp_path: Path) -> None:
    async with running(meta, scratch=tmp_path) as rig:
        c = rig.coordinator
        info = await rig.create()
        one = await flushed(rig, info, 1, [(1, 1)])
        debris = await flushed(rig, info, 2, [(1, 1)])
        await c.commit_flush(make_commit(info, one))
        assert await c.collect_garbage() == 0
        rig.world.clock.step_ms = 90_000_000  # type: ignore[attr-defined]
        assert await c.collect_garbage() > 0
        await open_segment(rig.world, rig.objects, one.manifest_key)
        with pytest.raises(ElanusError):
            await open_segment(rig.world, rig.objects, debris.manifest_key)


async def test_garbage_collection_leaves_a_log_on_the_object_store_alone(meta: MetaStore) -> None:
    async with running(meta) as rig:
        for root in ("wp", "insert_log"):
            settings = WoodpeckerSettings(root_path=root)
            wal = WoodpeckerWal(rig.world, rig.objects, settings, str(UUID(int=1)))
            for term in (1, 2):
                writer = await wal.open_writer("7", term)
                await writer.append([[b"%d" % term]])
            await wal.close()
        before = await rig.objects.list("")
        rig.world.clock.step_ms = 10 * 366 * 86_400_000  # type: ignore[attr-defined]
        await rig.coordinator.collect_garbage()
        assert await rig.objects.list("") == before


async def test_a_dropped_record_stays_as_long_as_the_log_has_its_rows(meta: MetaStore) -> None:
    async with running(meta) as rig:
        c = rig.coordinator
        info = await rig.create()
        await c.create_partition("default", "c", "p")
        info = await c.describe_collection("default", "c")
        in_p = make_segment(info, 5, partition_id=info.partitions[1].partition_id)
        await c.commit_flush(make_commit(info, in_p, position=2, timestamp=4))
        await c.drop_partition("default", "c", "p")
        await c.collect_garbage()
        (shard,) = await c.recovery("by-dev-rootcoord-dml_0")
        assert shard.flushed_segments == {5}
        late = msgspec.structs.replace(in_p, segment_id=6, max_ts=9)
        await c.commit_flush(make_commit(info, late))
        (record,) = [
            s for s in rig.coordinator._catalog.segments(info.collection_id) if s.segment_id == 6
        ]
        assert record.state is SegmentState.DROPPED
        await c.collect_garbage()
        (shard,) = await c.recovery("by-dev-rootcoord-dml_0")
        assert shard.flushed_segments == frozenset()
