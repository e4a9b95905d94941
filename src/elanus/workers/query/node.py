"""The query node: holds sealed segments and searches them.

Segments are looked up when a read starts; a read keeps what it holds, whatever is released
meanwhile. Asking for a segment that is not here is Unavailable: the delegator's view is old. Where
files may be remote, a read pins those that it needs; if all are here, that is all it does.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import pyarrow as pa
import structlog
from msgspec.structs import replace

from elanus.config.settings import QueryNodeSettings
from elanus.engine.filter.plan import Plan
from elanus.engine.groups import merge_found
from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.engine.segment.base import Segment
from elanus.engine.segment.cache import BitmapCache
from elanus.errors import Unavailable
from elanus.model.catalog import SegmentInfo
from elanus.model.reads import Hits, Snapshot
from elanus.model.schema import CollectionSchema
from elanus.runtime.world import World
from elanus.services.local import LocalQueryNode
from elanus.services.messages import (
    AskTerms,
    FetchRows,
    LoadSegment,
    PrimaryKeys,
    SegmentHits,
    SegmentQuery,
    SegmentRows,
    SegmentSearch,
)
from elanus.storage.objects.base import ObjectStore
from elanus.workers.gather import by_source
from elanus.workers.query.cold import ColdReads, files_of, filter_fields, need_of
from elanus.workers.query.loader import Loaded, Loader
from elanus.workers.query.reads import (
    Beside,
    SearchOf,
    WithRows,
    batch_key,
    delete_keys,
    merged_rows,
    query_segments,
    take_rows,
    takes_least,
)
from elanus.workers.query.scheduler import SearchScheduler
from elanus.workers.query.segment_files import Need
from elanus.workers.query.tier import Tier
from elanus.workers.terms import sum_terms

log = structlog.get_logger(__name__)

T = TypeVar("T")

_INLINE_DELETES = 64
"""Keys times segments up to which deletes are looked up on the event loop."""
_PARALLEL_ROWS = 50_000
"""Rows times query vectors from which on a request over several segments is spread over slots."""
_UNEVEN = 4
"""A slot that would get this many times fewer rows than another is not worth its thread."""


class QueryNode(LocalQueryNode):
    """The QueryNodeService. ``slots``: threads of the executor's search pool."""

    def __init__(
        self, world: World, settings: QueryNodeSettings, objects: ObjectStore, *, slots: int
    ) -> None:
        self._world = world
        tiered = settings.segcore.tiered_storage
        self._tier = Tier(world, objects.copies, evicts=tiered.eviction_enabled)
        cache = BitmapCache(settings.filter_cache_size)
        self._loader = Loader(world, objects, cache, self._tier, tiered.warmup)
        self._scheduler = SearchScheduler(world, slots=slots, max_waiting=settings.max_queue_length)
        self._cold = ColdReads(self._tier, self._scheduler)
        self._segments: dict[int, Loaded] = {}
        self._loading: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    # --- life cycle -----------------------------------------------------------------------------

    async def load_segment(self, request: LoadSegment) -> tuple[str, ...]:
        """Serve this version of the segment, or a newer one, with these deletes at least, when it
        returns. A copy that another coordinator had loaded may lack deletes."""
        segment_id = request.segment.segment_id
        async with self._lock(segment_id):
            loaded = self._segments.get(segment_id)
            if loaded is None:
                loaded = await self._loader.load(request)
                self._segments[segment_id] = loaded
            elif loaded.info.version <= request.segment.version:
                is_new = loaded.info.version < request.segment.version
                await self._loader.refresh(loaded, request)
                if not is_new:
                    return loaded.damaged
            else:
                return ()
        self._world.tasks.spawn(
            f"interim index {segment_id}", self._loader.build_interim(loaded, request.indexes)
        )
        return loaded.damaged

    async def release_segments(self, segment_ids: tuple[int, ...]) -> None:
        for segment_id in segment_ids:
            async with self._lock(segment_id):
                loaded = self._segments.pop(segment_id, None)
                if loaded is not None:
                    self._loader.release(loaded)

    async def list_segments(self) -> list[SegmentInfo]:
        return [loaded.info for _, loaded in sorted(self._segments.items())]

    def segment_ids(self) -> list[int]:
        """What this node holds now."""
        return sorted(self._segments)

    async def apply_deletes(
        self, segment_ids: tuple[int, ...], deletes: tuple[PrimaryKeys, ...], timestamp: int
    ) -> None:
        """Segments that are not here (any more) are skipped: whoever loads them anew gives them
        their deletes before they are read."""
        here = [self._segments[i] for i in segment_ids if i in self._segments]
        keys = sum(len(part.keys) for part in deletes)
        for loaded in here:
            async with loaded.changing:
                if keys * len(here) <= _INLINE_DELETES:
                    delete_keys(loaded.segment, deletes, timestamp)
                else:
                    await self._world.executor.run(
                        "compute", delete_keys, loaded.segment, deletes, timestamp
                    )
                loaded.note_change(timestamp)
        # Only now: a search in between may see it in some of the segments.
        for loaded in here:
            loaded.told_ts = max(loaded.told_ts, timestamp)

    async def mark_segments(self, segment_ids: tuple[int, ...], mark: int) -> None:
        for loaded in self._held(segment_ids, None):
            loaded.mark = mark

    # --- reads ----------------------------------------------------------------------------------

    async def search(self, request: SegmentSearch) -> SegmentHits:
        return await self.search_beside(request, ())

    async def search_beside(self, request: SegmentSearch, others: Sequence[Segment]) -> SegmentHits:
        change_ts = told_ts = 0
        if request.mark:
            change_ts, told_ts = self._now(request)
            request = replace(request, snapshot=Snapshot(change_ts))
        hits, rows = await self._search(request, others)
        return SegmentHits(
            hits.counts,
            hits.scores,
            hits.keys,
            hits.timestamps,
            hits.sources,
            hits.offsets,
            hits.groups,
            hits.elements,
            rows,
            change_ts,
            told_ts,
        )

    async def _search(
        self, request: SegmentSearch, others: Sequence[Segment]
    ) -> tuple[Hits, pa.RecordBatch | None]:
        """The hits and, if they are asked for, their rows."""
        loaded, query = self._held(request.segment_ids, request.schema), request.query
        if not self._tier.is_remote:
            return await self._search_open(loaded, request, others)
        files = files_of(loaded, need_of(query, request.plan, request.output_fields))
        if not self._tier.pin_open(files):
            return await self._cold.search(loaded, request, others)
        try:
            return await self._search_open(loaded, request, others)
        finally:
            self._tier.unpin(files)

    async def _search_open(
        self, loaded: Sequence[Loaded], request: SegmentSearch, others: Sequence[Segment]
    ) -> tuple[Hits, pa.RecordBatch | None]:
        query = request.query
        segments = [each.segment for each in loaded]
        every: list[Segment] = [*segments, *others]
        with_rows = WithRows(every, request.output_fields)
        # A bar that is known spares a growing segment more than a thread of its own gains.
        is_beside = bool(segments and others) and takes_least(query)
        groups = self._spread(segments if is_beside else every, len(query.vectors))
        if len(groups) == 1:
            key, call = batch_key(loaded, request), SearchOf(segments, request)
            finish = Beside(others, request, with_rows) if others else with_rows
            found = await self._scheduler.search(key, call, query, finish)
            return cast(tuple[Hits, pa.RecordBatch | None], found)
        searches = [
            self._scheduler.search(None, SearchOf(group, request), query) for group in groups
        ]
        hits = merge_found(await asyncio.gather(*searches), query)
        if is_beside:
            return await self._scheduler.run(Beside(others, request, with_rows), hits)
        if not request.output_fields:
            return hits, None
        return await self._scheduler.run(with_rows, hits)

    async def query(self, request: SegmentQuery) -> SegmentRows:
        loaded = self._held(request.segment_ids, request.schema)
        need = filter_fields(request.plan), ()
        found = await self._read(loaded, need, request.plan, query_segments, request)
        return found[0] if len(found) == 1 else merged_rows(found, request)

    async def term_statistics(self, request: AskTerms) -> TermStatistics:
        loaded = self._held(request.segment_ids, None)
        need = frozenset((request.field_name,)), ()
        found = await self._read(loaded, need, None, sum_terms, request.field_name, request.terms)
        return sum(found[1:], start=found[0])

    async def _read(
        self,
        loaded: Sequence[Loaded],
        need: Need,
        plan: Plan | None,
        function: Callable[..., T],
        *args: Any,
    ) -> list[T]:
        """``function(segments, *args)`` of all segments, or of each if some are cold."""
        if self._tier.is_remote:
            files = files_of(loaded, need)
            if not self._tier.pin_open(files):
                return await self._cold.run(loaded, need, plan, function, *args)
        else:
            files = []
        try:
            segments = [each.segment for each in loaded]
            return [await self._scheduler.run(function, segments, *args)]
        finally:
            self._tier.unpin(files)

    async def fetch(self, request: FetchRows) -> pa.RecordBatch:
        sources = by_source(request.sources)
        held = self._held([source for source, _ in sources], request.schema)
        parts = [(each, positions) for each, (_, positions) in zip(held, sources, strict=True)]
        files = files_of(held, (frozenset(), request.fields)) if self._tier.is_remote else []
        if files and not self._tier.pin_open(files):
            return await self._cold.take(parts, request.offsets, request.fields)
        try:
            segments = [(each.segment, positions) for each, positions in parts]
            return await self._scheduler.run(take_rows, segments, request.offsets, request.fields)
        finally:
            self._tier.unpin(files)

    # --- helpers --------------------------------------------------------------------------------

    def loaded_versions(self) -> dict[int, int]:
        """Segment id → version of what is loaded."""
        return {segment_id: each.info.version for segment_id, each in self._segments.items()}

    def _held(self, segment_ids: Sequence[int], schema: CollectionSchema | None) -> list[Loaded]:
        """The loaded segments, which from now on answer nulls for fields new in ``schema``."""
        try:
            held = [self._segments[segment_id] for segment_id in segment_ids]
        except KeyError as error:
            raise Unavailable(f"segment {error.args[0]} is not loaded on this query node") from None
        for loaded in held:
            if schema is not None and schema.version > loaded.segment.schema.version:
                loaded.segment.schema = schema
        return held

    def _now(self, request: SegmentSearch) -> tuple[int, int]:
        """(when the segments last changed, the last delete that they were told). A search at the
        former sees all that was done to them, and nothing that is done from now on."""
        held = self._held(request.segment_ids, None)
        for loaded in held:
            known = loaded.segment.schema.version
            if loaded.mark != request.mark or known < request.schema_version:
                raise Unavailable(
                    f"segment {loaded.info.segment_id} is not, or not any more, as it was marked"
                )
        change_ts = max((loaded.change_ts for loaded in held), default=0)
        return change_ts, max((loaded.told_ts for loaded in held), default=0)

    def _spread(self, segments: Sequence[Segment], query_count: int) -> list[list[Segment]]:
        """The segments in groups of alike size, no more than there are slots free for them."""
        slots = min(self._scheduler.free_slots, len(segments))
        if slots <= 1:
            return [list(segments)]
        rows = sum(segment.row_count for segment in segments)
        if rows * query_count < _PARALLEL_ROWS:
            return [list(segments)]
        ordered = sorted(segments, key=lambda s: -s.row_count)
        while slots > 1:
            groups: list[list[Segment]] = [[] for _ in range(slots)]
            sizes = [0] * slots
            for segment in ordered:
                smallest = sizes.index(min(sizes))
                groups[smallest].append(segment)
                sizes[smallest] += segment.row_count
            if min(sizes) * _UNEVEN >= max(sizes):
                return groups
            slots -= 1
        return [list(segments)]

    def _lock(self, segment_id: int) -> asyncio.Lock:
        """Keeps loading and releasing of one segment apart."""
        lock = self._loading.get(segment_id)
        if lock is None:
            lock = self._loading[segment_id] = asyncio.Lock()
        return lock
