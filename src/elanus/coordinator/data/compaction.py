"""Running compactions: plans from the policy, tasks on data nodes, results by one transaction.

Events start it (a flush committed, a compaction finished, a user's request), never a timer. Plans
are not stored: after a restart the policy finds the same work in the metadata, and what an
unfinished task left in object storage is debris.

When a result is committed, its inputs must be what the task has read (still flushed, the same
manifest); an index that was built for an input meanwhile is fine, a dropped input voids the
result. For why deletes are never lost see ``compaction_policy``.
"""

from collections import Counter, deque
from collections.abc import Container, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import structlog

from elanus.coordinator.catalog import MAX_CHANGES, Change, in_batches
from elanus.coordinator.context import Context
from elanus.coordinator.data.compaction_policy import (
    CompactionPlan,
    PlanKind,
    PolicyLimits,
    may_touch,
    plan_compactions,
)
from elanus.coordinator.dropping import as_dropped
from elanus.coordinator.retry import UNBOUNDED, retry
from elanus.coordinator.root.names import resolve_id
from elanus.errors import ElanusError, InternalError
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.model.timestamp import compose
from elanus.model.types import SegmentLevel, SegmentState
from elanus.services.messages import CompactionTask, DeltaCompactionTask, TaskResult

log = structlog.get_logger(__name__)

MAX_RUNNING = 1
MAX_JOBS = 256
"""Users' requests whose outcome is remembered."""
MEGABYTE = 1 << 20
NOTHING_TO_DO = (-1, 0)


@dataclass(eq=False)
class _Work:
    plan: CompactionPlan
    output_segment_id: int
    job_id: int = 0
    state: str = "executing"

    def segment_ids(self) -> tuple[int, ...]:
        return (*self.plan.inputs, *self.plan.deltas, self.output_segment_id)


class _Either(Container[int]):
    """What is in one of two sets, without joining them."""

    def __init__(self, one: Set[int], other: Set[int]) -> None:
        self._one, self._other = one, other

    def __contains__(self, segment_id: object) -> bool:
        return segment_id in self._one or segment_id in self._other


@dataclass
class Compactor:
    """See the module."""

    context: Context
    max_running: int = MAX_RUNNING
    _queue: deque[_Work] = field(default_factory=deque)
    _running: list[_Work] = field(default_factory=list)
    _busy: set[int] = field(default_factory=set)
    _replaced: set[int] = field(default_factory=set)
    _avoided: set[int] = field(default_factory=set)
    _planning: set[int] = field(default_factory=set)
    _jobs: dict[int, list[_Work]] = field(default_factory=dict)
    _held: Counter[int] = field(default_factory=Counter)

    def consider(self, collection_id: int) -> None:
        """Something changed: plan what the policy finds worth it."""
        info = self.context.catalog.collection(collection_id)
        if info is None or not self.context.settings.data_coord.compaction.enable_auto_compaction:
            return
        if info.properties.get("collection.autocompaction.enabled", "true").lower() == "false":
            return
        if collection_id not in self._planning and self._plan(info, forced=False):
            self._planning.add(collection_id)
            self.context.world.tasks.spawn(
                f"plan compaction of {collection_id}", self._enqueue_planned(collection_id)
            )

    async def compact(self, collection_id: int) -> tuple[int, int]:
        """(job id, number of plans) of a user's request; (-1, 0) if there is nothing to do."""
        info = resolve_id(self.context.catalog, collection_id)
        self._avoided.clear()
        job_id = await self.context.ids.allocate()
        works = await self._enqueue(info, forced=True, job_id=job_id)
        return (job_id, len(works)) if works else NOTHING_TO_DO

    async def plans(self, job_id: int) -> list[tuple[str, tuple[int, ...], int]]:
        """(state, sources, target) of each plan of a job; nothing for an unknown job."""
        return [
            (work.state, (*work.plan.inputs, *work.plan.deltas), work.output_segment_id)
            for work in self._jobs.get(job_id, [])
        ]

    @contextmanager
    def deltas_held(self, collection_id: int) -> Iterator[None]:
        """No deletes of the collection leave their L0 segments from now on, so that segments which
        appear meanwhile, with rows inserted after this, miss none of them."""
        self._held[collection_id] += 1
        try:
            yield
        finally:
            self._held[collection_id] -= 1
            self._held += Counter()  # leaves out what is zero

    def run_at_most(self, count: int) -> None:
        """Compactions at the same time from now on; those that run go on."""
        self.max_running = count
        self._start_next()

    def is_compacting(self, segment_id: int) -> bool:
        """Whether the segment is about to be replaced by another one."""
        return segment_id in self._replaced

    def busy(self) -> Set[int]:
        """Every segment that a plan reads or writes."""
        return self._busy

    def _begin(self, work: _Work) -> None:
        self._queue.append(work)
        self._busy.update(work.segment_ids())
        if work.plan.kind is not PlanKind.DELTAS:
            self._replaced.update(work.plan.inputs)

    def _end(self, work: _Work) -> None:
        self._running.remove(work)
        self._busy.difference_update(work.segment_ids())
        self._replaced.difference_update(work.plan.inputs)

    def _limits(self, *, forced: bool) -> PolicyLimits:
        settings = self.context.settings.data_coord
        max_size = settings.segment.max_size * MEGABYTE
        limits = PolicyLimits(
            max_size_bytes=max_size,
            small_bytes=int(max_size * settings.compaction.small_proportion),
            min_segments=max(2, settings.compaction.min_segment_to_merge),
            deleted_ratio=settings.compaction.deleted_rows_ratio,
            min_deltas=settings.compaction.delta_files_to_compact,
        )
        return limits.forced() if forced else limits

    def _plan(self, info: CollectionInfo, *, forced: bool) -> list[CompactionPlan]:
        catalog = self.context.catalog
        return plan_compactions(
            catalog.flushed(info.collection_id),
            [] if self._held[info.collection_id] else catalog.deltas(info.collection_id),
            {vchannel: catalog.checkpoint(vchannel) for vchannel in info.vchannels},
            _Either(self._busy, self._avoided),
            self._limits(forced=forced),
            expire_before_ts=self._expire_before_ts(info),
            forced=forced,
        )

    def _expire_before_ts(self, info: CollectionInfo) -> int:
        if info.ttl_seconds <= 0:
            return 0
        return compose(max(0, self.context.world.clock.now_ms() - info.ttl_seconds * 1_000))

    async def _enqueue_planned(self, collection_id: int) -> None:
        try:
            info = self.context.catalog.collection(collection_id)
            if info is not None:
                await retry(
                    self.context.world,
                    f"plan compaction of {collection_id}",
                    lambda: self._enqueue(info, forced=False, job_id=0),
                    attempts=UNBOUNDED,
                )
        finally:
            self._planning.discard(collection_id)

    async def _enqueue(self, info: CollectionInfo, *, forced: bool, job_id: int) -> list[_Work]:
        # Ids first: nothing may wait between planning and queueing.
        count = max(1, len(self._plan(info, forced=forced)))
        first_id = await self.context.ids.allocate(count)
        works = [
            _Work(plan, 0 if plan.kind is PlanKind.DELTAS else first_id + n, job_id)
            for n, plan in enumerate(self._plan(info, forced=forced)[:count])
        ]
        for work in works:
            self._begin(work)
        if job_id and works:
            self._jobs.setdefault(job_id, []).extend(works)
            while len(self._jobs) > MAX_JOBS:
                del self._jobs[next(iter(self._jobs))]
        self._start_next()
        return works

    def _start_next(self) -> None:
        while self._queue and len(self._running) < self.max_running:
            work = self._queue.popleft()
            self._running.append(work)
            self.context.world.tasks.spawn(
                f"{work.plan.kind} compaction of {work.plan.inputs}", self._run(work)
            )

    async def _run(self, work: _Work) -> None:
        plan = work.plan
        try:
            await retry(
                self.context.world,
                f"{plan.kind} compaction",
                lambda: self._run_once(work),
                attempts=UNBOUNDED,
            )
            work.state = "completed"
        except ElanusError as error:
            work.state = "failed"
            self._avoided.update((*plan.inputs, *plan.deltas))
            log.warning("compaction failed", kind=plan.kind, inputs=plan.inputs, reason=str(error))
        finally:
            self._end(work)
            self._start_next()
        info = self.context.catalog.collection(plan.collection_id)
        if work.job_id and plan.kind is PlanKind.DELTAS and info is not None:
            # The user's wish goes on where the deletes are now, before the policy has its turn.
            await retry(
                self.context.world,
                f"plan compaction of {plan.collection_id}",
                lambda: self._enqueue(info, forced=True, job_id=work.job_id),
            )
        self.context.events.segments_changed(plan.collection_id)

    async def _run_once(self, work: _Work) -> None:
        info = self.context.catalog.collection(work.plan.collection_id)
        if info is None:
            return
        if work.plan.kind is PlanKind.DELTAS:
            await self._move_deltas(info, work.plan)
        else:
            await self._rewrite(info, work)

    def _flushed(self, collection_id: int, segment_ids: Sequence[int]) -> list[SegmentInfo]:
        found = [self.context.catalog.segment(collection_id, i) for i in segment_ids]
        return [s for s in found if s is not None and s.state is SegmentState.FLUSHED]

    # --- merge, rewrite -------------------------------------------------------------------------

    async def _rewrite(self, info: CollectionInfo, work: _Work) -> None:
        catalog, plan = self.context.catalog, work.plan
        inputs = self._flushed(info.collection_id, plan.inputs)
        if len(inputs) < len(plan.inputs):
            return
        deltas = [
            delta
            for delta in catalog.deltas(info.collection_id, plan.vchannel)
            if any(may_touch(delta, segment) for segment in inputs)
        ]
        task = CompactionTask(
            task_id=await self.context.ids.allocate(),
            collection=info,
            inputs=tuple(inputs),
            deltas=tuple(deltas),
            output_segment_id=work.output_segment_id,
            read_ts=catalog.checkpoint(plan.vchannel).timestamp,
            expire_before_ts=self._expire_before_ts(info),
        )
        result = await (await self.context.router.data_node()).compact(task)
        self.context.world.failpoints.hit("compaction.before_commit")
        await retry(
            self.context.world,
            "commit of a compaction",
            lambda: catalog.commit(lambda: self._replace(inputs, result)),
        )
        self.context.world.failpoints.hit("compaction.after_commit")

    def _replace(self, inputs: Sequence[SegmentInfo], result: TaskResult) -> Change | None:
        current = self._unchanged(inputs)
        if current is None:
            return None
        now_ms = self.context.world.clock.now_ms()
        outputs = [
            msgspec.structs.replace(
                output,
                state=SegmentState.FLUSHED,
                level=SegmentLevel.L1,
                compacted_from=tuple(segment.segment_id for segment in inputs),
                version=1,
                indexes=(),
                dropped_at_ms=0,
            )
            for output in result.segments
            if output.row_count > 0
        ]
        return Change(put=[*(as_dropped(segment, now_ms) for segment in current), *outputs])

    def _unchanged(self, inputs: Sequence[SegmentInfo]) -> list[SegmentInfo] | None:
        """The inputs' records now; None if one is not what a task has read, or if they are about
        to be dropped with their partition."""
        info = self.context.catalog.collection(inputs[0].collection_id)
        partition_id = inputs[0].partition_id
        if info is None or all(p.partition_id != partition_id for p in info.partitions):
            return None
        current = []
        for segment in inputs:
            now = self.context.catalog.segment(segment.collection_id, segment.segment_id)
            if (
                now is None
                or now.state is not SegmentState.FLUSHED
                or now.manifest_key != segment.manifest_key
            ):
                return None
            current.append(now)
        return current

    # --- deltas ---------------------------------------------------------------------------------

    async def _move_deltas(self, info: CollectionInfo, plan: CompactionPlan) -> None:
        inputs = self._flushed(info.collection_id, plan.inputs)
        deltas = self._flushed(info.collection_id, plan.deltas)
        if not deltas:
            return
        changed: dict[int, SegmentInfo] = {}
        if inputs:
            task = DeltaCompactionTask(
                task_id=await self.context.ids.allocate(),
                collection=info,
                segments=tuple(inputs),
                deltas=tuple(deltas),
            )
            result = await (await self.context.router.data_node()).compact_deltas(task)
            changed = {segment.segment_id: segment for segment in result.segments}
        self.context.world.failpoints.hit("delta_compaction.before_commit")
        room = MAX_CHANGES - len(deltas)
        *batches, last = in_batches(changed.values(), room) or [[]]
        # Deletes may be in manifests and in L0s at once, so only the last step has to be whole.
        for batch in batches:
            await self._store_deltas(inputs, batch, [])
        await self._store_deltas(inputs, last, deltas)
        self.context.world.failpoints.hit("delta_compaction.after_commit")

    async def _store_deltas(
        self,
        inputs: Sequence[SegmentInfo],
        changed: Sequence[SegmentInfo],
        deltas: Sequence[SegmentInfo],
    ) -> None:
        read = {segment.segment_id: segment for segment in inputs}

        def decide() -> Change | None:
            puts = []
            for segment in changed:
                now = self.context.catalog.segment(segment.collection_id, segment.segment_id)
                if now is None or now.state is not SegmentState.FLUSHED:
                    continue
                if now.manifest_key not in (
                    read[segment.segment_id].manifest_key,
                    segment.manifest_key,
                ):
                    return None
                puts.append(
                    msgspec.structs.replace(
                        now,
                        manifest_key=segment.manifest_key,
                        deleted_rows=segment.deleted_rows,
                        size_bytes=segment.size_bytes,
                        version=now.version + (now.manifest_key != segment.manifest_key),
                    )
                )
            if any(self._is_left_out(delta, read) for delta in deltas):
                raise InternalError(
                    f"deletes of {deltas[0].vchannel} concern a segment that was flushed later"
                )
            now_ms = self.context.world.clock.now_ms()
            return Change(put=[*puts, *(as_dropped(delta, now_ms) for delta in deltas)])

        await self.context.catalog.commit(decide)

    def _is_left_out(self, delta: SegmentInfo, read: dict[int, SegmentInfo]) -> bool:
        """Whether a flushed segment that the delete may touch was not looked at."""
        return any(
            segment.segment_id not in read and may_touch(delta, segment)
            for segment in self.context.catalog.flushed(delta.collection_id, delta.vchannel)
        )
