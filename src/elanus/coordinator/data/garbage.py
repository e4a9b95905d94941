"""Garbage collection: objects that nothing refers to go, and so do records of dropped segments.

Two kinds of garbage. **Dropped segments**, known by their records: their files go after a grace
time, unless a view, a loaded copy or a running task may still read them. **Debris**, known by
nobody: what crashes and abandoned tasks left; it goes at an age at which no writer can still be
about to commit it.

A dropped segment's record outlives its files until the channel's checkpoint has passed the
segment's rows: as long as the log has them, recovery must know that they need no replay.

Of a live segment, exactly the files that its manifest and index records name are kept. If a
manifest can't be read, everything of its segment is kept.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from elanus.coordinator.catalog import Change, in_batches
from elanus.coordinator.context import Context
from elanus.errors import ElanusError
from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentState
from elanus.storage.formats.keys import KINDS, place_of, segment_prefixes
from elanus.storage.formats.manifest import read_manifest
from elanus.storage.objects.base import ObjectInfo

log = structlog.get_logger(__name__)

DELETE_BATCH = 256
COLLECTIONS_PER_TURN = 16
"""Collections that are looked at before the event loop has its turn."""
MAX_CACHED_MANIFESTS = 4_096


@dataclass(frozen=True)
class _References:
    """What must stay: single objects, and everything of some segments."""

    keys: frozenset[str]
    segments: frozenset[tuple[int, int]]


class GarbageCollector:
    """``is_in_use(segment)``: whether somebody may still read a dropped segment's files.
    ``outputs()``: ids of segments that running tasks write."""

    def __init__(
        self,
        context: Context,
        is_in_use: Callable[[SegmentInfo], bool],
        outputs: Callable[[], Iterable[int]],
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        self._is_in_use = is_in_use
        self._outputs = outputs
        self._named: dict[str, tuple[str, ...]] = {}

    async def run_for_ever(self) -> None:
        """Collect once per interval."""
        while True:
            await self._context.world.clock.sleep(self._context.settings.data_coord.gc.interval)
            try:
                await self.collect(grace_s=self._context.settings.data_coord.gc.drop_tolerance)
            except ElanusError as error:
                log.warning("garbage was not collected", reason=str(error))

    async def collect(self, grace_s: int) -> int:
        """Delete garbage: segments dropped at least ``grace_s`` ago, and old debris. Returns the
        number of objects that were deleted."""
        now_ms = self._context.world.clock.now_ms()
        self._context.world.failpoints.hit("gc.before")
        deleted = await self._collect_dropped(now_ms - grace_s * 1_000)
        deleted += await self._collect_debris(now_ms)
        self._context.world.failpoints.hit("gc.after")
        if deleted:
            log.info("garbage collected", objects=deleted)
        return deleted

    # --- dropped segments -----------------------------------------------------------------------

    async def _collect_dropped(self, before_ms: int) -> int:
        deleted = 0
        finished: list[SegmentInfo] = []
        for segment in await self._dropped():
            if segment.dropped_at_ms > before_ms or self._is_in_use(segment):
                continue
            place = (segment.collection_id, segment.partition_id, segment.segment_id)
            for prefix in segment_prefixes(*place):
                keys = [found.key for found in await self._context.objects.list(prefix)]
                await self._delete(keys)
                deleted += len(keys)
            if self._is_forgettable(segment):
                finished.append(segment)
        self._context.world.failpoints.hit("gc.before_records")
        for batch in in_batches(finished):
            await self._remove(batch)
        return deleted

    async def _dropped(self) -> list[SegmentInfo]:
        found: list[SegmentInfo] = []
        for number, collection_id in enumerate(sorted(self._catalog.tables.segments)):
            segments = self._catalog.segments(collection_id)
            found += [s for s in segments if s.state is SegmentState.DROPPED]
            if number % COLLECTIONS_PER_TURN == 0:
                await asyncio.sleep(0)
        return found

    def _is_forgettable(self, segment: SegmentInfo) -> bool:
        if segment.import_job or self._catalog.owner(segment.vchannel) is None:
            return True  # no log has its rows
        return self._catalog.checkpoint(segment.vchannel).timestamp >= segment.max_ts

    async def _remove(self, batch: list[SegmentInfo]) -> None:
        await self._catalog.commit(lambda: Change(delete=batch))

    # --- debris ---------------------------------------------------------------------------------

    async def _collect_debris(self, now_ms: int) -> int:
        oldest_ms = now_ms - self._context.settings.data_coord.gc.missing_tolerance * 1_000
        candidates: list[ObjectInfo] = []
        for kind in KINDS:
            found = await self._context.objects.list(f"{kind}/")
            candidates += [info for info in found if info.modified_ms < oldest_ms]
        if not candidates:
            return 0
        # Read after listing: what was committed in between is referred to.
        references = await self._references()
        debris = [info.key for info in candidates if not _is_referred(info.key, references)]
        await self._delete(debris)
        return len(debris)

    async def _references(self) -> _References:
        keys: set[str] = set()
        whole: set[tuple[int, int]] = set()
        outputs = set(self._outputs())
        for collection_id in sorted(self._catalog.tables.segments):
            for segment in self._catalog.segments(collection_id):
                if segment.state is SegmentState.DROPPED:
                    whole.add((collection_id, segment.segment_id))  # the other way collects it
                    continue
                keys.update(part.key for part in segment.indexes if part.key)
                named = await self._files_of(segment)
                if named is None:
                    whole.add((collection_id, segment.segment_id))
                else:
                    keys.update(named)
            whole.update((collection_id, output) for output in outputs)
            await asyncio.sleep(0)
        return _References(frozenset(keys), frozenset(whole))

    async def _files_of(self, segment: SegmentInfo) -> tuple[str, ...] | None:
        key = segment.manifest_key
        if key not in self._named:
            try:
                manifest = await read_manifest(self._context.objects, key)
            except ElanusError as error:
                log.warning("manifest can't be read", key=key, reason=str(error))
                return None
            if len(self._named) >= MAX_CACHED_MANIFESTS:
                self._named.clear()
            self._named[key] = (key, *(file.key for file in manifest.files))
        return self._named[key]

    async def _delete(self, keys: list[str]) -> None:
        for batch in in_batches(keys, DELETE_BATCH):
            await self._context.objects.delete(batch)


def _is_referred(key: str, references: _References) -> bool:
    place = place_of(key)
    if place is None:
        return True  # not a segment's: not ours to judge
    owner = (place.collection_id, place.segment_id)
    return key in references.keys or owner in references.segments
