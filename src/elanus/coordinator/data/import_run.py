"""One import from its files to rows that everybody sees.

Tasks on data nodes write segments that nobody knows → deletes are kept in their L0 segments from
here on → an instant is taken from the oracle → data nodes write it into the segments' new manifests
→ **one transaction** makes all of them FLUSHED and the job COMPLETED. Segments beyond what fits in
one are stored before it in the state IMPORTING: to the catalog they become FLUSHED with
their job (``model.imports.as_imported``), and so they are stored afterwards.

Rows are inserted at that instant: earlier deletes don't touch them, later ones do. Nothing of the
work counts before the transaction. A coordinator that takes over does all of it again; what was
written meanwhile is dropped, or debris.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import msgspec

from elanus.coordinator.catalog import MAX_CHANGES, Change, in_batches
from elanus.coordinator.context import Context
from elanus.coordinator.data.import_requests import check_size, in_tasks, object_key
from elanus.coordinator.dropping import as_dropped
from elanus.coordinator.retry import UNBOUNDED, delay_s, retry
from elanus.errors import ElanusError, ImportFailed, InternalError
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.model.imports import ImportJob, ImportState
from elanus.model.types import SegmentState
from elanus.services.import_messages import ImportResult, ImportTask, StampTask
from elanus.services.interfaces import DataNodeService
from elanus.storage.objects.base import ObjectNotFound

MAX_ATTEMPTS = 3
"""Of a task that breaks off by itself; while no data node can do it, it just waits."""
FIRST_PROGRESS, COMMIT_PROGRESS = 10, 95
LAST_SEGMENTS = MAX_CHANGES - 1
"""Of an import, that are stored by the transaction that completes it."""
STAMP_BATCH = 16
"""Segments that one call stamps."""


@dataclass(frozen=True, slots=True)
class _Running:
    node: DataNodeService
    task_id: int


@dataclass
class ImportRun:
    """``slots``: entered while a task is on a data node. ``deltas_held``: see ``Compactor``."""

    context: Context
    job_id: int
    slots: asyncio.Semaphore
    deltas_held: Callable[[int], AbstractContextManager[None]]
    progress: int = 0
    rows_done: int = 0
    segments: list[SegmentInfo] = field(default_factory=list)
    _running: dict[int, _Running] = field(default_factory=dict)

    async def run(self) -> None:
        """Raises ImportFailed for what can't be imported, other errors for what didn't work."""
        await tidy(self.context, self.job_id)
        job = await self._begin()
        tasks = in_tasks(job.groups, self.context.settings)
        total = max(1, job.size_bytes)
        done_bytes = 0
        rows = dict.fromkeys(range(len(job.groups)), 0)

        async def do(numbers: list[int]) -> None:
            nonlocal done_bytes
            async with self.slots:
                result = await self._do_task(job, numbers)
            self.segments += result.segments
            rows.update(zip(numbers, result.rows, strict=True))
            self.rows_done += sum(result.rows)
            done_bytes += sum(job.groups[n].size_bytes for n in numbers)
            part = (COMMIT_PROGRESS - FIRST_PROGRESS) * done_bytes // total
            self.progress = FIRST_PROGRESS + part

        try:
            async with asyncio.TaskGroup() as group:
                for numbers in tasks:
                    group.create_task(do(numbers))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        self.progress = COMMIT_PROGRESS
        await self._commit(rows)
        await tidy(self.context, self.job_id)

    async def rows_read(self) -> int:
        """So far, as the data nodes say."""
        counts = [self.rows_done]
        for running in list(self._running.values()):
            try:
                counts.append(await running.node.import_progress(running.task_id))
            except ElanusError:
                continue  # the task itself finds out what is the matter
        return sum(counts)

    async def _begin(self) -> ImportJob:
        """The job with the sizes of its files, IMPORTING."""
        job = self._job()
        groups = []
        for group in job.groups:
            sizes = [await self._size_of(file) for file in group.files]
            groups.append(msgspec.structs.replace(group, size_bytes=sum(sizes)))

        def decide() -> Change:
            started = msgspec.structs.replace(
                self._job(), state=ImportState.IMPORTING, groups=tuple(groups)
            )
            return Change(put=[started])

        await self._change(decide)
        self.progress = FIRST_PROGRESS
        self.context.world.failpoints.hit("import.after_begin")
        return self._job()

    async def _size_of(self, file: str) -> int:
        key = object_key(file, self.context.settings)
        try:
            size_bytes = await retry(
                self.context.world,
                f"size of {key}",
                lambda: self.context.objects.size_of(key),
                attempts=UNBOUNDED,
            )
        except ObjectNotFound as error:
            raise ImportFailed(f"file {file} does not exist in the object store") from error
        check_size(file, size_bytes, self.context.settings)
        return size_bytes

    async def _do_task(self, job: ImportJob, numbers: list[int]) -> ImportResult:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return await retry(
                    self.context.world,
                    f"import {self.job_id}",
                    lambda: self._try_task(job, numbers),
                    attempts=UNBOUNDED,
                )
            except InternalError:
                if attempt == MAX_ATTEMPTS:
                    raise
                await self.context.world.clock.sleep(delay_s(self.context.world, 4 + attempt))
        raise AssertionError("unreachable")

    async def _try_task(self, job: ImportJob, numbers: list[int]) -> ImportResult:
        settings, request = self.context.settings, job.request
        names = tuple(job.groups[n].files for n in numbers)
        task = ImportTask(
            task_id=await self.context.ids.allocate(),
            collection=self._collection(),
            partition_id=request.partition_id,
            groups=tuple(tuple(object_key(file, settings) for file in files) for files in names),
            names=names,
            separator=request.separator,
            null_text=request.null_text,
        )
        node = await self.context.router.data_node()
        self._running[task.task_id] = _Running(node, task.task_id)
        try:
            return await node.import_files(task)
        finally:
            del self._running[task.task_id]

    # --- visibility -----------------------------------------------------------------------------

    async def _commit(self, rows: dict[int, int]) -> None:
        failpoints = self.context.world.failpoints
        collection_id = self._job().request.collection_id
        with self.deltas_held(collection_id):
            timestamp = await retry(
                self.context.world,
                "timestamp of an import",
                self.context.timestamps.allocate,
                attempts=UNBOUNDED,
            )
            stamped = await self._stamped(timestamp)
            early, last = stamped[LAST_SEGMENTS:], stamped[:LAST_SEGMENTS]
            for batch in in_batches(early):
                await self._change(partial(self._stored, batch))
            failpoints.hit("import.before_commit")
            await self._change(lambda: self._completed(stamped, last, rows))
            failpoints.hit("import.after_commit")
        self.segments = stamped

    async def _stamped(self, timestamp: int) -> list[SegmentInfo]:
        stamped: list[SegmentInfo] = []
        for start in range(0, len(self.segments), STAMP_BATCH):
            batch = tuple(self.segments[start : start + STAMP_BATCH])
            stamped += await retry(
                self.context.world,
                f"timestamps of import {self.job_id}",
                partial(self._stamp, batch, timestamp),
                attempts=UNBOUNDED,
            )
        return stamped

    async def _stamp(self, batch: tuple[SegmentInfo, ...], timestamp: int) -> list[SegmentInfo]:
        task = StampTask(await self.context.ids.allocate(), batch, timestamp)
        node = await self.context.router.data_node()
        return list((await node.stamp_segments(task)).segments)

    def _stored(self, batch: Sequence[SegmentInfo]) -> Change:
        return Change(
            put=[
                msgspec.structs.replace(
                    segment, state=SegmentState.IMPORTING, import_job=self.job_id, version=1
                )
                for segment in batch
            ]
        )

    def _completed(
        self, stamped: list[SegmentInfo], last: list[SegmentInfo], rows: dict[int, int]
    ) -> Change | None:
        job = self._job()
        if job.state.is_over:
            return None
        info = self._collection()
        partitions = {partition.partition_id for partition in info.partitions}
        if any(segment.partition_id not in partitions for segment in stamped):
            raise ImportFailed("a partition of the import was dropped meanwhile")
        groups = tuple(
            msgspec.structs.replace(group, rows=rows[number])
            for number, group in enumerate(job.groups)
        )
        completed = msgspec.structs.replace(
            job,
            state=ImportState.COMPLETED,
            groups=groups,
            progress=100,
            ended_ms=self.context.world.clock.now_ms(),
        )
        visible = [
            msgspec.structs.replace(segment, import_job=self.job_id, version=1) for segment in last
        ]
        return Change(put=[*visible, completed])

    async def _change(self, decide: Callable[[], Change | None]) -> None:
        await retry(
            self.context.world,
            f"record of import {self.job_id}",
            lambda: self.context.catalog.commit(decide),
            attempts=UNBOUNDED,
        )

    def _job(self) -> ImportJob:
        job = self.context.catalog.tables.imports.get(self.job_id)
        if job is None:
            raise ImportFailed(f"import job does not exist, jobID={self.job_id}")
        return job

    def _collection(self) -> CollectionInfo:
        job = self._job()
        info = self.context.catalog.collection(job.request.collection_id)
        if info is None:
            raise ImportFailed(f"collection {job.collection_name} was dropped meanwhile")
        return info


async def tidy(context: Context, job_id: int) -> None:
    """Store what the segments of a job are without it: FLUSHED if it is completed, else dropped."""
    job = context.catalog.tables.imports.get(job_id)
    if job is None:
        return
    collection_id = job.request.collection_id
    ids = [s.segment_id for s in context.catalog.segments(collection_id) if s.import_job == job_id]

    def decide(batch: Sequence[int]) -> Change:
        found = [context.catalog.segment(collection_id, segment_id) for segment_id in batch]
        now_ms = context.world.clock.now_ms()
        return Change(
            put=[
                as_dropped(each, now_ms) if each.state is SegmentState.IMPORTING else each
                for each in found
                if each is not None
            ]
        )

    for batch in in_batches(ids):
        await retry(
            context.world,
            f"segments of import {job_id}",
            partial(context.catalog.commit, partial(decide, batch)),
            attempts=UNBOUNDED,
        )
