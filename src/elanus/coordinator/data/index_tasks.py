"""Building indexes: one task for each flushed segment and index that lacks its part.

What is to be done follows from the metadata alone, so a restart needs no record of tasks. A
segment with too few rows (and an index without a file, as FLAT) counts as finished at once. A task
that fails is tried again with back-off, then it is FAILED, with the reason, until a restart. A
build whose segment or index is dropped meanwhile is cancelled. A part whose file a query node found
damaged is forgotten, and so built again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog

from elanus.coordinator.catalog import Catalog, Change, in_batches
from elanus.coordinator.context import Context
from elanus.coordinator.retry import UNBOUNDED, delay_s, retry
from elanus.errors import ElanusError, Unavailable
from elanus.model.catalog import CollectionInfo, IndexInfo, SegmentIndex, SegmentInfo
from elanus.model.types import IndexState, SegmentState
from elanus.services.messages import IndexTask

log = structlog.get_logger(__name__)

MAX_RUNNING = 1
MAX_ATTEMPTS = 3
"""Tries of a build that fails by itself; while nobody can do it, it just waits."""
MAX_REBUILDS = 3
"""Of a part whose files turn out damaged again and again, until a restart."""

Part = tuple[int, int, int]
"""(collection id, segment id, index id)"""


@dataclass(frozen=True)
class MissingPart:
    """``trivial`` parts have no file: they are finished by saying so."""

    segment: SegmentInfo
    index: IndexInfo
    trivial: bool

    @property
    def part(self) -> Part:
        return (self.segment.collection_id, self.segment.segment_id, self.index.index_id)


def missing_parts(
    collection: CollectionInfo,
    indexes: tuple[IndexInfo, ...],
    segments: list[SegmentInfo],
    min_rows: int,
) -> list[MissingPart]:
    """Parts of indexes that flushed segments lack, larger segments first."""
    lacking = [
        (segment, index)
        for segment in segments
        for index in indexes
        if not any(
            part.index_id == index.index_id and part.state is IndexState.FINISHED
            for part in segment.indexes
        )
    ]
    lacking.sort(key=lambda pair: (-pair[0].row_count, pair[0].segment_id))
    return [
        MissingPart(
            segment,
            index,
            trivial=segment.row_count < max(1, min_rows)
            or not index.has_file
            or index.field_name not in collection.schema.by_name,
        )
        for segment, index in lacking
    ]


def with_part(segment: SegmentInfo, part: SegmentIndex) -> SegmentInfo:
    """``segment`` with this part of an index instead of an earlier one; a new version if there is
    something new to load."""
    others = tuple(p for p in segment.indexes if p.index_id != part.index_id)
    return msgspec.structs.replace(
        segment,
        indexes=(*others, part),
        version=segment.version + (1 if part.key else 0),
    )


class IndexTasks:
    """``is_compacting(segment id)``: such a segment is soon gone; indexing it would be waste."""

    def __init__(
        self,
        context: Context,
        is_compacting: Callable[[int], bool],
        *,
        max_running: int = MAX_RUNNING,
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        self._is_compacting = is_compacting
        self._max_running = max_running
        self._running: dict[Part, asyncio.Task[None]] = {}
        self._attempts: dict[Part, int] = {}
        self._not_before: dict[Part, float] = {}
        self._marking: set[int] = set()
        self._pending: dict[int, None] = {}
        self._rebuilds: dict[Part, int] = {}

    def consider(self, collection_id: int) -> None:
        """Something changed: start what can be started, cancel what is no longer needed."""
        for part, task in list(self._running.items()):
            if part[0] == collection_id and not _is_needed(self._catalog, part):
                task.cancel()
        missing = self._missing(collection_id)
        if any(not each.trivial for each in missing):
            self._pending[collection_id] = None
        if any(each.trivial for each in missing) and collection_id not in self._marking:
            self._marking.add(collection_id)
            self._context.world.tasks.spawn(
                f"mark indexes of {collection_id}", self._mark_trivial(collection_id)
            )
        self._start_next()

    def run_at_most(self, count: int) -> None:
        """Builds at the same time from now on; those that run go on."""
        self._max_running = count
        self._start_next()

    def rebuild(self, segment: SegmentInfo, keys: tuple[str, ...]) -> None:
        """Build the parts of a segment that have these files, which are damaged, again."""
        for damaged in segment.indexes:
            part = (segment.collection_id, segment.segment_id, damaged.index_id)
            if damaged.key not in keys or self._rebuilds.get(part, 0) >= MAX_REBUILDS:
                continue
            self._rebuilds[part] = self._rebuilds.get(part, 0) + 1
            log.warning("an index file is damaged and is built again", key=damaged.key)
            self._context.world.tasks.spawn(f"rebuild {part}", self._forget(part, damaged.key))

    async def _forget(self, part: Part, key: str) -> None:
        def change() -> Change | None:
            segment = self._catalog.segment(part[0], part[1])
            kept = () if segment is None else tuple(p for p in segment.indexes if p.key != key)
            if segment is None or len(kept) == len(segment.indexes):
                return None
            return Change(put=[msgspec.structs.replace(segment, indexes=kept)])

        await self._commit(change)
        self._context.events.segments_changed(part[0])

    def running(self) -> list[Part]:
        return list(self._running)

    def _missing(self, collection_id: int) -> list[MissingPart]:
        info = self._catalog.collection(collection_id)
        if info is None:
            return []
        min_rows = self._context.settings.data_coord.min_segment_num_rows_to_enable_index
        indexes = self._catalog.built_indexes(collection_id)
        return missing_parts(info, indexes, self._catalog.flushed(collection_id), min_rows)

    def _trivial(self, collection_id: int) -> list[MissingPart]:
        return [missing for missing in self._missing(collection_id) if missing.trivial]

    async def _mark_trivial(self, collection_id: int) -> None:
        try:
            for batch in in_batches(self._trivial(collection_id)):
                await self._mark([missing.part for missing in batch])
        finally:
            self._marking.discard(collection_id)
        self._context.events.segments_changed(collection_id)

    async def _mark(self, parts: list[Part]) -> None:
        await self._commit(lambda: self._finished(parts))

    async def _commit(self, decide: Callable[[], Change | None]) -> None:
        await retry(
            self._context.world,
            "commit of indexes",
            lambda: self._catalog.commit(decide),
            attempts=UNBOUNDED,
        )

    def _finished(self, parts: list[Part]) -> Change:
        changed: dict[int, SegmentInfo] = {}
        for collection_id, segment_id, index_id in parts:
            if not _is_needed(self._catalog, (collection_id, segment_id, index_id)):
                continue
            segment = changed.get(segment_id) or self._catalog.segment(collection_id, segment_id)
            if segment is not None:
                part = SegmentIndex(index_id=index_id, state=IndexState.FINISHED)
                changed[segment_id] = with_part(segment, part)
        return Change(put=list(changed.values()))

    def _start_next(self) -> None:
        """Collections take turns in the order in which they had something to do. One that has
        nothing that can be started comes back with the event that changes this."""
        while self._pending and len(self._running) < self._max_running:
            collection_id = next(iter(self._pending))
            for missing in self._missing(collection_id):
                if len(self._running) >= self._max_running:
                    return
                if not missing.trivial and self._may_start(missing):
                    self._running[missing.part] = self._context.world.tasks.spawn(
                        f"index {missing.part}", self._run(missing)
                    )
            del self._pending[collection_id]

    def _may_start(self, missing: MissingPart) -> bool:
        now = self._context.world.clock.monotonic_s()
        return (
            missing.part not in self._running
            and self._attempts.get(missing.part, 0) < MAX_ATTEMPTS
            and self._not_before.get(missing.part, 0.0) <= now
            and not self._is_compacting(missing.segment.segment_id)
        )

    async def _run(self, missing: MissingPart) -> None:
        part = missing.part
        try:
            await self._build(missing)
        except asyncio.CancelledError:
            if _is_needed(self._catalog, part):
                raise
        except Unavailable as error:
            log.info("an index build waits", part=part, reason=str(error))
            self._try_again(part, 8)
        except ElanusError as error:
            attempt = self._attempts[part] = self._attempts.get(part, 0) + 1
            log.warning("an index build failed", part=part, attempt=attempt, reason=str(error))
            if attempt < MAX_ATTEMPTS:
                self._try_again(part, 4 + attempt)
            else:
                failed = SegmentIndex(
                    index_id=part[2], state=IndexState.FAILED, fail_reason=str(error)
                )
                await self._commit(lambda: self._put_part(part, failed))
        finally:
            del self._running[part]
        self._context.events.segments_changed(part[0])

    def _try_again(self, part: Part, attempt: int) -> None:
        delay = delay_s(self._context.world, attempt)
        self._not_before[part] = self._context.world.clock.monotonic_s() + delay

        async def wake() -> None:
            await self._context.world.clock.sleep(delay)
            self._not_before.pop(part, None)
            self._pending[part[0]] = None
            self._start_next()

        self._context.world.tasks.spawn(f"retry index {part}", wake())

    async def _build(self, missing: MissingPart) -> None:
        collection_id, segment_id, index_id = missing.part
        collection = self._catalog.collection(collection_id)
        segment = self._catalog.segment(collection_id, segment_id)
        if collection is None or segment is None:
            return
        task = IndexTask(
            task_id=await self._context.ids.allocate(),
            segment=segment,
            collection=collection,
            index=missing.index,
        )
        node = await self._context.router.data_node()
        result = await node.build_index(task)
        built = next(
            part
            for record in result.segments
            if record.segment_id == segment_id
            for part in record.indexes
            if part.index_id == index_id
        )
        self._context.world.failpoints.hit("index_task.before_commit")
        await self._commit(lambda: self._put_part(missing.part, built))
        self._context.world.failpoints.hit("index_task.after_commit")
        self._attempts.pop(missing.part, None)

    def _put_part(self, part: Part, built: SegmentIndex) -> Change | None:
        segment = self._catalog.segment(part[0], part[1])
        if segment is None or not _is_needed(self._catalog, part):
            return None
        return Change(put=[with_part(segment, built)])


def _is_needed(catalog: Catalog, part: Part) -> bool:
    collection_id, segment_id, index_id = part
    segment = catalog.segment(collection_id, segment_id)
    return (
        segment is not None
        and segment.state is SegmentState.FLUSHED
        and any(index.index_id == index_id for index in catalog.built_indexes(collection_id))
    )
