"""An import as a job: all of its rows or none, once, whatever dies in between."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.coordinator.crashes import DyingStore
from tests.unit.coordinator.support import (
    Rig,
    make_commit,
    make_segment,
    make_world,
    running,
)
from tests.unit.coordinator.test_coordinator_ddl import vector_index

from elanus.coordinator.data import import_requests, import_run
from elanus.errors import (
    CollectionNotFound,
    ElanusError,
    ImportFailed,
    InternalError,
    PartitionNotFound,
    Unavailable,
)
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.model.imports import ImportJob, ImportJobRequest, ImportState
from elanus.model.types import SegmentLevel, SegmentState
from elanus.storage.formats.segment_reader import open_segment
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.objects.memory import MemoryObjectStore

ROWS = 40
GROUPS = (("in/a.json",), ("in/b.json",))


async def put_files(objects: MemoryObjectStore) -> None:
    for number, (name,) in enumerate(GROUPS):
        rows = [
            {"id": key, "v": [key, 0, 0, 1]}
            for key in range(number * ROWS // 2, (number + 1) * ROWS // 2)
        ]
        await objects.put(name, [json.dumps({"rows": rows}).encode()])


@asynccontextmanager
async def importing(meta: Any, scratch: Path, **options: Any) -> AsyncIterator[Rig]:
    async with running(meta, scratch=scratch, **options) as rig:
        await put_files(rig.objects)
        yield rig


async def create(rig: Rig, info: CollectionInfo, groups: Any = GROUPS, **changes: Any) -> int:
    values = {
        "collection_id": info.collection_id,
        "partition_id": info.partitions[0].partition_id,
        "groups": groups,
    }
    return await rig.coordinator.create_import(ImportJobRequest(**{**values, **changes}))


async def told(rig: Rig, job_id: int, wanted: Callable[[ImportJob], bool]) -> ImportJob:
    """The job once it is as wanted."""
    async with asyncio.timeout(10):
        while not wanted(job := await rig.coordinator.import_job(job_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return job


async def outcome(rig: Rig, job_id: int) -> ImportJob:
    return await told(rig, job_id, lambda job: job.state.is_over)


def left_over(scratch: Path) -> list[Path]:
    return list(scratch.iterdir())


async def rows_of(rig: Rig, info: CollectionInfo) -> tuple[list[int], set[int]]:
    """(keys, their insert timestamps) of all segments that metadata names."""
    keys: list[int] = []
    stamps: set[int] = set()
    for segment in await rig.coordinator.list_segments(info.collection_id):
        if segment.level is SegmentLevel.L0:
            continue
        files = await open_segment(rig.world, rig.objects, segment.manifest_key)
        await files.load({"id"})
        keys += files.column("id").to_pylist()
        stamps.update(files.timestamps.tolist())
    return sorted(keys), stamps


async def test_all_rows_appear_at_one_instant(tmp_path: Path) -> None:
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create(shards=2)
        before = await rig.coordinator.allocate_timestamps()
        job = await outcome(rig, await create(rig, info))
        assert (job.state, job.progress) == (ImportState.COMPLETED, 100)
        assert [group.rows for group in job.groups] == [20, 20]
        keys, stamps = await rows_of(rig, info)
        assert keys == list(range(ROWS))
        (stamp,) = stamps
        assert before < stamp < await rig.coordinator.allocate_timestamps()
        segments = await rig.coordinator.list_segments(info.collection_id)
        assert {segment.vchannel for segment in segments} == set(info.vchannels)
        assert {(segment.min_ts, segment.max_ts) for segment in segments} == {(stamp, stamp)}
        assert [job.job_id for job in await rig.coordinator.import_jobs("default", "c")] == [
            job.job_id
        ]
        assert left_over(tmp_path) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("last_segments", [100, 1])
async def test_a_crash_anywhere_leaves_all_or_nothing(
    tmp_path: Path, after: bool, last_segments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata store dies at each transaction of an import in turn, before or after it.
    Segments that don't fit into the last one are stored before."""
    monkeypatch.setattr(import_run, "LAST_SEGMENTS", last_segments)
    for at in range(1, 30):
        world = make_world()
        meta = MemoryMetaStore(world)
        objects = MemoryObjectStore(world)
        async with importing(meta, tmp_path, objects=objects) as rig:
            info = await rig.create(shards=2)
        dying = DyingStore(meta, after=after)
        async with importing(dying, tmp_path, objects=objects) as rig:
            dying.die_at(at)
            try:
                job_id = await create(rig, info)
                await told(rig, job_id, lambda job, dying=dying: dying.dead or job.state.is_over)
            except ElanusError:
                assert dying.dead
        survived = not dying.dead
        async with importing(meta, tmp_path, objects=objects) as rig:
            jobs = await rig.coordinator.import_jobs("default", "c")
            for job in jobs:
                assert (await outcome(rig, job.job_id)).state is ImportState.COMPLETED
            keys, stamps = await rows_of(rig, info)
            assert keys == sorted([*range(ROWS)] * len(jobs))
            assert len(stamps) == len(jobs)
        if survived:
            assert at > 2
            return
    raise AssertionError("an import needs too many transactions")


async def test_a_job_whose_creation_got_lost_is_done_if_it_was_stored(tmp_path: Path) -> None:
    dying = DyingStore(MemoryMetaStore(make_world()), after=True)
    async with importing(dying, tmp_path) as rig:
        info = await rig.create()
        dying.die_at(1)
        with pytest.raises(Unavailable):
            await create(rig, info)
        assert dying.dead
        dying.revive()
        await rig.until(lambda: bool(rig.coordinator._catalog.tables.imports))
        [job] = await rig.coordinator.import_jobs("default", "c")
        assert (await outcome(rig, job.job_id)).state is ImportState.COMPLETED


async def test_a_data_node_that_fails_or_goes_is_replaced(tmp_path: Path) -> None:
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create()
        real, calls = rig.data, []

        class Flaky:
            async def import_files(self, task: Any) -> Any:
                calls.append("import")
                if len(calls) == 1:
                    raise Unavailable("the node is gone")
                result = await real.import_files(task)
                if len(calls) == 2:
                    raise InternalError("the process was killed")
                return result

            async def import_progress(self, task_id: int) -> int:
                raise Unavailable("never mind")

            async def stamp_segments(self, task: Any) -> Any:
                calls.append("stamp")
                result = await real.stamp_segments(task)
                if calls.count("stamp") == 1:
                    raise Unavailable("the answer is lost")
                return result

        rig.data = Flaky()
        job = await outcome(rig, await create(rig, info))
        assert job.state is ImportState.COMPLETED
        assert calls == ["import"] * 3 + ["stamp"] * 2
        assert (await rows_of(rig, info))[0] == list(range(ROWS))


async def test_large_imports_are_several_tasks_and_still_one_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_requests, "_MEGABYTE", 0)
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create()
        tasks = []
        real = rig.data.import_files

        async def import_files(task: Any) -> Any:
            tasks.append(task)
            return await real(task)

        rig.data.import_files = import_files
        job = await outcome(rig, await create(rig, info, GROUPS * 20))
        assert job.state is ImportState.COMPLETED
        assert len(tasks) == 40
        keys, stamps = await rows_of(rig, info)
        assert sorted(keys) == sorted(list(range(ROWS)) * 20)
        assert len(stamps) == 1


async def test_more_segments_than_a_transaction_holds_appear_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_requests, "_MEGABYTE", 0)
    monkeypatch.setattr(import_run, "LAST_SEGMENTS", 5)
    meta = MemoryMetaStore(make_world())
    objects = MemoryObjectStore(make_world())
    async with importing(meta, tmp_path, objects=objects) as rig:
        info = await rig.create()
        seen: list[tuple[int, int]] = []

        def look() -> None:
            stored = [s.state for s in rig.coordinator._catalog.segments(info.collection_id)]
            seen.append((len(stored), stored.count(SegmentState.FLUSHED)))

        rig.world.failpoints.arm_with("import.before_commit", look)
        rig.world.failpoints.arm_with("import.after_commit", look)
        job_id = await create(rig, info, GROUPS * 10)
        assert (await outcome(rig, job_id)).state is ImportState.COMPLETED
        assert seen == [(15, 0), (20, 20)]
        assert (await rows_of(rig, info))[0] == sorted([*range(ROWS)] * 10)
    async with importing(meta, tmp_path, objects=objects) as rig:
        assert (await rows_of(rig, info))[0] == sorted([*range(ROWS)] * 10)


async def test_a_job_is_completed_when_what_is_loaded_has_its_rows(tmp_path: Path) -> None:
    """The coordinator dies before; the next one has to find out, too."""
    meta, objects = MemoryMetaStore(make_world()), MemoryObjectStore(make_world())

    def has_rows(rig: Rig) -> bool:
        return bool(rig.streaming.views[info.vchannels[0]].sealed)

    async with importing(meta, tmp_path, objects=objects) as rig:
        info = await rig.create()
        await rig.coordinator.create_index(vector_index(info))
        await rig.coordinator.load(info.collection_id, (), 1)
        await rig.until(lambda: bool(rig.streaming.views))
        rig.streaming.failures["update_view"] = 1_000
        job_id = await create(rig, info)
        job = await told(rig, job_id, lambda job: job.progress == 99)
        assert job.state is ImportState.IMPORTING
    async with importing(meta, tmp_path, objects=objects, start=False) as rig:
        rig.streaming.failures["update_view"] = 2
        await rig.coordinator.load_metadata()
        assert (await rig.coordinator.import_job(job_id)).state is ImportState.IMPORTING
        await rig.coordinator.start()
        assert (await outcome(rig, job_id)).state is ImportState.COMPLETED
        assert has_rows(rig)
        await rig.coordinator.release(info.collection_id, ())
        await outcome(rig, await create(rig, info))
    async with importing(meta, tmp_path, objects=objects) as rig:
        assert (await rig.coordinator.import_job(job_id)).state is ImportState.COMPLETED


async def test_one_wrong_file_fails_everything(tmp_path: Path) -> None:
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create()
        await rig.objects.put("in/c.json", [b'[{"id": 1, "v": [1, 2]}]'])
        job = await outcome(rig, await create(rig, info, (*GROUPS, ("in/c.json",))))
        assert job.state is ImportState.FAILED
        assert "file in/c.json, row 0" in job.reason
        missing = await outcome(rig, await create(rig, info, (("in/no.json",),)))
        assert missing.reason == "file in/no.json does not exist in the object store"
        assert await rig.coordinator.list_segments(info.collection_id) == []
        assert left_over(tmp_path) == []


async def test_what_is_dropped_meanwhile_gets_nothing(tmp_path: Path) -> None:
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create()
        await rig.coordinator.create_partition("default", "c", "p")
        info = await rig.coordinator.describe_collection("default", "c")
        real = rig.data
        drop = rig.coordinator.drop_partition("default", "c", "p")

        class Slow:
            async def import_files(self, task: Any) -> Any:
                result = await real.import_files(task)
                await drop
                return result

            stamp_segments = real.stamp_segments
            import_progress = real.import_progress

        rig.data = Slow()
        partition_id = info.partitions[-1].partition_id
        job = await outcome(rig, await create(rig, info, partition_id=partition_id))
        assert job.reason == "a partition of the import was dropped meanwhile"
        drop = rig.coordinator.drop_collection("default", "c")
        job = await outcome(rig, await create(rig, info))
        assert job.reason == "collection c was dropped meanwhile"


async def test_deletes_wait_in_their_segments_until_the_rows_are_there(tmp_path: Path) -> None:
    """Compacted into the segments of before they would miss the imported ones."""
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create()
        real, moved = rig.data, []

        def delta(segment_id: int, timestamp: int) -> SegmentInfo:
            level = SegmentLevel.L0
            return make_segment(info, segment_id, level=level, min_ts=timestamp, max_ts=timestamp)

        class Watching:
            async def import_files(self, task: Any) -> Any:
                return await real.import_files(task)

            async def compact_deltas(self, task: Any) -> Any:
                moved.append(await rows_of(rig, info))
                raise InternalError("seen enough")

            async def stamp_segments(self, task: Any) -> Any:
                for segment_id in range(5_000, 5_010):
                    timestamp = await rig.coordinator.allocate_timestamps()
                    await rig.coordinator.commit_flush(
                        make_commit(info, delta(segment_id, timestamp))
                    )
                await asyncio.sleep(0.02)
                assert moved == []
                return await real.stamp_segments(task)

            import_progress = real.import_progress

        rig.data = Watching()
        assert (await outcome(rig, await create(rig, info))).state is ImportState.COMPLETED
        await rig.until(lambda: bool(moved))
        assert moved[0][0] == list(range(ROWS))


async def test_a_job_ends_at_its_timeout_and_is_forgotten_later(tmp_path: Path) -> None:
    world = make_world()
    async with importing(MemoryMetaStore(world), tmp_path, world=world) as rig:
        info = await rig.create()

        class Stuck:
            async def import_files(self, task: Any) -> Any:
                return await asyncio.Future()

            async def import_progress(self, task_id: int) -> int:
                return 7

        rig.data = Stuck()
        job_id = await create(rig, info, timeout_s=1)
        await told(rig, job_id, lambda job: job.rows_read == 7)
        assert "timeout" in (await outcome(rig, job_id)).reason
        world.clock.step_ms = 10_801_000  # type: ignore[attr-defined]
        with pytest.raises(ImportFailed, match=f"import job does not exist, jobID={job_id}"):
            await rig.coordinator.import_job(job_id)
        assert await rig.coordinator.import_jobs("default", "") == []


async def test_what_can_not_be_is_refused(tmp_path: Path) -> None:
    async with importing(MemoryMetaStore(make_world()), tmp_path) as rig:
        info = await rig.create()
        for groups, reason in (
            ((("a.txt",),), r"unexpected file type, files=\[a\.txt\]"),
            ((("a.npy", "a.json"),), r"unexpected file type, files=\[a\.npy a\.json\]"),
            ((("a.json",),) * 1_025, "should not exceed 1024, but got 1025"),
            ((("../a.json",),), "no path below the root"),
            (((".tmp/a.json",),), "no path below the root"),
            ((), "needs files"),
        ):
            with pytest.raises(ImportFailed, match=reason):
                await create(rig, info, groups)
        with pytest.raises(PartitionNotFound):
            await create(rig, info, partition_id=1, partition="p")
        with pytest.raises(CollectionNotFound):
            await create(rig, info, collection_id=1)
        assert await rig.coordinator.import_jobs("default", "") == []
