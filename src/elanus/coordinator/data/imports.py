"""Bulk imports as jobs: a record says what a user wants, and becomes its outcome.

PENDING → IMPORTING → COMPLETED or FAILED. A restart begins with the work of unfinished jobs anew
(see ``import_run``); their deadline stays. Records of finished jobs go after
``dataCoord.import.taskRetention``.

To its user a job is completed only when it is *shown*: every shard has acknowledged a view with its
rows, so that the next Strong read finds all of them (``StreamingNode.update_view``). What can't be
loaded until the deadline keeps a job so long. Until then reads of a shard find all or none.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import msgspec
import structlog

from elanus.coordinator.catalog import Change, in_batches
from elanus.coordinator.context import Context
from elanus.coordinator.data.compaction import Compactor
from elanus.coordinator.data.import_requests import check_files
from elanus.coordinator.data.import_run import ImportRun, tidy
from elanus.coordinator.query.loads import Loads
from elanus.coordinator.retry import UNBOUNDED, retry
from elanus.coordinator.root.names import resolve, resolve_id
from elanus.errors import ElanusError, ImportFailed, PartitionNotFound, Unavailable
from elanus.model.catalog import SegmentInfo
from elanus.model.imports import ImportGroup, ImportJob, ImportJobRequest, ImportState

log = structlog.get_logger(__name__)

MIN_SHOW_MS = 60_000
"""Least time for the query side to load the rows, which goes on after the deadline, too."""
SHOWN_CHECK_S = 0.05
UNSHOWN_PROGRESS = 99
SECOND_MS = 1_000


class Imports:
    """See the module."""

    def __init__(self, context: Context, compactor: Compactor, loads: Loads) -> None:
        self._context = context
        self._catalog = context.catalog
        self._compactor = compactor
        self._loads = loads
        self._slots = asyncio.Semaphore(1)
        self._slot_count = 1
        self._runs: dict[int, ImportRun] = {}

    # --- what users ask for ---------------------------------------------------------------------

    async def create_import(self, request: ImportJobRequest) -> int:
        """Raises CollectionNotFound, PartitionNotFound, ImportFailed."""
        limits = self._context.settings.data_coord.imports
        check_files(request, self._context.settings)
        await self._forget_old()
        job_id = await self._context.ids.allocate()
        now_ms = self._context.world.clock.now_ms()

        def decide() -> Change:
            info = resolve_id(self._catalog, request.collection_id)
            partitions = {None, *(partition.partition_id for partition in info.partitions)}
            if request.partition_id not in partitions:
                raise PartitionNotFound(request.partition)
            waiting = sum(not job.state.is_over for job in self._catalog.tables.imports.values())
            if waiting >= limits.max_import_job_num:
                raise ImportFailed(
                    f"The number of jobs has reached the limit, please try again later, "
                    f"limit={limits.max_import_job_num}"
                )
            job = ImportJob(
                job_id=job_id,
                request=request,
                database=info.database,
                collection_name=info.name,
                state=ImportState.PENDING,
                groups=tuple(ImportGroup(files=files) for files in request.groups),
                created_ms=now_ms,
                deadline_ms=now_ms + (request.timeout_s or limits.timeout) * SECOND_MS,
            )
            return Change(put=[job])

        try:
            await self._catalog.commit(decide)
        except (Unavailable, asyncio.CancelledError):
            # The job may be stored, and nobody else would begin with it.
            self._context.world.tasks.spawn(f"look for import {job_id}", self._look_for(job_id))
            raise
        self._context.world.failpoints.hit("import.after_create")
        self._start(job_id)
        return job_id

    async def _look_for(self, job_id: int) -> None:
        await retry(
            self._context.world,
            f"import {job_id}",
            lambda: self._catalog.commit(Change),  # which waits until it is known what is stored
            attempts=UNBOUNDED,
        )
        if job_id in self._catalog.tables.imports:
            self._start(job_id)

    async def import_job(self, job_id: int) -> ImportJob:
        """How far it is. Raises ImportFailed for an unknown job."""
        job = self._catalog.tables.imports.get(job_id)
        if job is None or self._is_old(job):
            raise ImportFailed(f"import job does not exist, jobID={job_id}")
        return await self._as_seen(job)

    async def import_jobs(self, database: str, collection: str) -> list[ImportJob]:
        """By id. Raises CollectionNotFound for a collection that is not there."""
        wanted = resolve(self._catalog, database, collection).collection_id if collection else None
        found = [
            job
            for _, job in sorted(self._catalog.tables.imports.items())
            if not self._is_old(job)
            and wanted in (None, job.request.collection_id)
            and (wanted is not None or job.database == database)
        ]
        return [await self._as_seen(job) for job in found]

    async def _as_seen(self, job: ImportJob) -> ImportJob:
        if job.state is ImportState.COMPLETED and not job.is_shown:
            return msgspec.structs.replace(
                job, state=ImportState.IMPORTING, progress=UNSHOWN_PROGRESS, ended_ms=0
            )
        run = self._runs.get(job.job_id)
        if run is None or job.state.is_over:
            return job
        return msgspec.structs.replace(job, progress=run.progress, rows_read=await run.rows_read())

    # --- events ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Go on with what is unfinished."""
        for job_id, job in sorted(self._catalog.tables.imports.items()):
            if job.state.is_over:
                self._context.world.tasks.spawn(f"tidy {job_id}", self._finish(job))
            else:
                self._start(job_id)

    def run_at_most(self, count: int) -> None:
        """Tasks at the same time from now on; never fewer than there could be before."""
        for _ in range(self._slot_count, count):
            self._slots.release()
        self._slot_count = max(self._slot_count, count)

    def outputs(self) -> set[int]:
        """Ids of segments that are written and not yet committed."""
        return {segment.segment_id for run in self._runs.values() for segment in run.segments}

    # --- work -----------------------------------------------------------------------------------

    def _start(self, job_id: int) -> None:
        run = ImportRun(self._context, job_id, self._slots, self._compactor.deltas_held)
        self._runs[job_id] = run
        self._context.world.tasks.spawn(f"import {job_id}", self._run(run))

    async def _run(self, run: ImportRun) -> None:
        job = self._catalog.tables.imports[run.job_id]
        try:
            left_ms = job.deadline_ms - self._context.world.clock.now_ms()
            async with asyncio.timeout(max(0, left_ms) / SECOND_MS):
                await run.run()
        except TimeoutError:
            await self._fail(run, "import timeout: it was not done before its deadline")
        except ElanusError as error:
            await self._fail(run, error.message)
        finally:
            del self._runs[run.job_id]
        # What broke off may have been completed before.
        now = self._catalog.tables.imports.get(run.job_id)
        if now is not None and now.state is ImportState.COMPLETED:
            self._context.events.segments_changed(job.request.collection_id)
            await self._show(now, run.segments)

    async def _fail(self, run: ImportRun, reason: str) -> None:
        log.warning("an import failed", job_id=run.job_id, reason=reason)

        def decide() -> Change | None:
            job = self._catalog.tables.imports.get(run.job_id)
            if job is None or job.state.is_over:
                return None
            ended_ms = self._context.world.clock.now_ms()
            failed = msgspec.structs.replace(
                job, state=ImportState.FAILED, reason=reason, ended_ms=ended_ms
            )
            return Change(put=[failed])

        await retry(
            self._context.world,
            f"failure of import {run.job_id}",
            lambda: self._catalog.commit(decide),
            attempts=UNBOUNDED,
        )
        await tidy(self._context, run.job_id)

    async def _finish(self, job: ImportJob) -> None:
        """What a former coordinator may have left undone."""
        await tidy(self._context, job.job_id)
        if job.state is ImportState.COMPLETED and not job.is_shown:
            segments = self._catalog.segments(job.request.collection_id)
            await self._show(job, [each for each in segments if each.import_job == job.job_id])

    async def _show(self, job: ImportJob, segments: Sequence[SegmentInfo]) -> None:
        """Wait until what is loaded reads the segments; from then on the job counts as done."""
        clock, collection_id = self._context.world.clock, job.request.collection_id
        until_ms = max(job.deadline_ms, clock.now_ms() + MIN_SHOW_MS)
        while not self._loads.shows(collection_id, segments):
            if clock.now_ms() >= until_ms:
                log.warning("imported rows are not loaded yet", job_id=job.job_id)
                break
            await clock.sleep(SHOWN_CHECK_S)

        def decide() -> Change | None:
            now = self._catalog.tables.imports.get(job.job_id)
            return None if now is None else Change(put=[_shown(now)])

        await retry(
            self._context.world,
            f"end of import {job.job_id}",
            lambda: self._catalog.commit(decide),
            attempts=UNBOUNDED,
        )

    def _is_old(self, job: ImportJob) -> bool:
        retention_ms = self._context.settings.data_coord.imports.task_retention * SECOND_MS
        age_ms = self._context.world.clock.now_ms() - job.ended_ms
        return job.state.is_over and age_ms > retention_ms

    async def _forget_old(self) -> None:
        old = [job for job in self._catalog.tables.imports.values() if self._is_old(job)]
        for job in old:
            await tidy(self._context, job.job_id)
        for batch in in_batches(old):
            await self._catalog.commit(partial(Change, delete=batch))


def _shown(job: ImportJob) -> ImportJob:
    return msgspec.structs.replace(job, is_shown=True)
