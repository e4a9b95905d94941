"""The query node: holds sealed segments and searches them.

Segments are looked up when a read starts; a read keeps what it holds, whatever is released
meanwhile. Asking for a segment that is not here is Unavailable: the delegator's view is old.
"""

import asyncio
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import cast
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from elanus.config.settings import QueryNodeSettings
from elanus.engine.groups import merge_found
from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.engine.reduce import merge_rows
from elanus.engine.segment.base import Segment
from elanus.engine.segment.cache import BitmapCache
from elanus.engine.segment.sealed import SealedSegment
from elanus.errors import Unavailable
from elanus.model.catalog import ALL_PARTITIONS, SegmentInfo
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema
from elanus.model.types import DENSE_METRICS
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
from elanus.workers.gather import by_source, interleave
from elanus.workers.query.loader import Loaded, Loader
from elanus.workers.query.scheduler import SearchScheduler
from elanus.workers.terms import sum_terms

log = structlog.get_logger(__name__)

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
        self._loader = Loader(world, objects, BitmapCache(settings.filter_cache_size))
        self._scheduler = SearchScheduler(world, slots=slots, max_waiting=settings.max_queue_length)
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
        segments = [each.segment for each in loaded]
        every: list[Segment] = [*segments, *others]
        with_rows = _WithRows(every, request.output_fields)
        groups = self._spread(every, len(query.vectors))
        if len(groups) == 1:
            key, call = batch_key(loaded, request), _SearchOf(segments, request)
            finish = _Beside(others, request, with_rows) if others else with_rows
            found = await self._scheduler.search(key, call, query, finish)
            return cast(tuple[Hits, pa.RecordBatch | None], found)
        searches = [
            self._scheduler.search(None, _SearchOf(group, request), query) for group in groups
        ]
        hits = merge_found(await asyncio.gather(*searches), query)
        if not request.output_fields:
            return hits, None
        return await self._scheduler.run(with_rows, hits)

    async def query(self, request: SegmentQuery) -> SegmentRows:
        segments = [each.segment for each in self._held(request.segment_ids, request.schema)]
        return await self._scheduler.run(query_segments, segments, request)

    async def term_statistics(self, request: AskTerms) -> TermStatistics:
        segments = [each.segment for each in self._held(request.segment_ids, None)]
        return await self._scheduler.run(sum_terms, segments, request.field_name, request.terms)

    async def fetch(self, request: FetchRows) -> pa.RecordBatch:
        sources = by_source(request.sources)
        held = self._held([source for source, _ in sources], request.schema)
        segments = [each.segment for each in held]
        parts = [
            (segment, positions) for segment, (_, positions) in zip(segments, sources, strict=True)
        ]
        return await self._scheduler.run(take_rows, parts, request.offsets, request.fields)

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
        rows = sum(segment.row_count for segment in segments)
        if slots <= 1 or rows * query_count < _PARALLEL_ROWS:
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


class _SearchOf:
    """A search of fixed segments at a fixed snapshot, for any vectors."""

    __slots__ = ("plan", "segments", "snapshot")

    def __init__(self, segments: Sequence[Segment], request: SegmentSearch) -> None:
        self.segments = segments
        self.snapshot = request.snapshot
        self.plan = request.plan

    def __call__(self, query: VectorQuery) -> Hits:
        found = [segment.search(query, self.snapshot, self.plan) for segment in self.segments]
        return merge_found(found, query)


class _WithRows:
    """Hits in fixed segments with their output fields, if there are any of either."""

    __slots__ = ("_names", "_segments")

    def __init__(self, segments: Sequence[Segment], names: tuple[str, ...]) -> None:
        self._segments = segments
        self._names = names

    def __call__(self, hits: Hits) -> tuple[Hits, pa.RecordBatch | None]:
        if not self._names or not len(hits.sources):
            return hits, None
        by_id = {segment.segment_id: segment for segment in self._segments}
        parts = [(by_id[source], positions) for source, positions in by_source(hits.sources)]
        return hits, take_rows(parts, hits.offsets, self._names)


class _Beside:
    """Adds what other segments have to the hits of a search, at its own snapshot; ``then`` makes
    the answer of all hits."""

    __slots__ = ("_others", "_request", "_then")

    def __init__(
        self, others: Sequence[Segment], request: SegmentSearch, then: "_WithRows"
    ) -> None:
        self._others = others
        self._request = request
        self._then = then

    def __call__(self, hits: Hits) -> tuple[Hits, pa.RecordBatch | None]:
        query = with_least(self._request.query, hits)
        snapshot, plan = self._request.snapshot, self._request.plan
        found = [segment.search(query, snapshot, plan) for segment in self._others]
        return self._then(merge_found([hits, *found], query))


def with_least(query: VectorQuery, hits: Hits) -> VectorQuery:
    """The query for further rows beside those that are found: if there are enough of these, others
    must be as good as the worst."""
    is_full = len(hits.counts) == 1 and len(hits.scores) == query.top_k
    is_plain = query.grouping is None and hits.elements is None and query.metric in DENSE_METRICS
    if not is_full or not is_plain:
        return query
    return replace(query, least=float(hits.scores[-1]))


def batch_key(loaded: Sequence[Loaded], request: SegmentSearch) -> Hashable | None:
    """Equal keys: one call answers both. None: not to be batched.

    Snapshots behind the last change of all segments see the same rows; the change itself is in the
    key, because a later delete may be visible to later reads only.
    """
    plan, query, grouping = request.plan, request.query, request.query.grouping
    if plan is not None and plan.is_random:
        return None
    if grouping is not None and grouping.within is not None:
        return None
    change_ts = max((each.change_ts for each in loaded), default=0)
    min_ts = min((each.min_ts for each in loaded), default=0)
    snapshot: Snapshot | int = request.snapshot
    if request.snapshot.read_ts >= change_ts and request.snapshot.expire_before_ts < min_ts:
        snapshot = change_ts
    return (
        request.segment_ids,
        snapshot,
        None if plan is None else plan.key,
        query.field_name,
        query.metric,
        query.top_k,
        tuple(sorted(query.params.items())),
        query.radius,
        query.range_filter,
        grouping,
    )


def query_segments(segments: Sequence[SealedSegment], request: SegmentQuery) -> SegmentRows:
    """Runs in a thread."""
    if request.count_only:
        count = sum(segment.count(request.snapshot, request.plan) for segment in segments)
        return SegmentRows(count, None)
    found = [segment.select(request.snapshot, request.plan, request.limit) for segment in segments]
    rows = merge_rows(found, request.limit)
    return SegmentRows(len(rows.offsets), rows)


def take_rows(
    parts: Sequence[tuple[Segment, npt.NDArray[np.int64]]],
    offsets: npt.NDArray[np.int64],
    names: tuple[str, ...],
) -> pa.RecordBatch:
    """Runs in a thread."""
    taken = [(positions, segment.take(offsets[positions], names)) for segment, positions in parts]
    return interleave(taken, names)


def delete_keys(segment: SealedSegment, deletes: Sequence[PrimaryKeys], timestamp: int) -> None:
    for part in deletes:
        if part.partition_id in (ALL_PARTITIONS, segment.partition_id):
            segment.delete(part.keys, timestamp)
