"""Reads of one shard: growing segments here, sealed ones on query nodes, one instant for both.

A read waits until its guarantee is safe, takes a snapshot timestamp and the shard's immutable set
of parts in one step, asks all parts at once, merges, and fetches output fields for the rows of the
final answer only. A query node that fails is replaced by others that hold the same segments
(``replicas``). Should all have let a segment go, the read starts again on the newer view.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.plan import Plan
from elanus.engine.reduce import empty_hits, merge_hits, merge_rows
from elanus.engine.reduce import empty_rows as no_rows
from elanus.engine.segment.base import Segment
from elanus.errors import CollectionNotLoaded, PartitionNotLoaded, Unavailable
from elanus.model.reads import Hits, Rows, Snapshot, VectorQuery
from elanus.model.timestamp import compose, physical_ms
from elanus.runtime.world import World
from elanus.services.interfaces import QueryNodeService
from elanus.services.messages import (
    FetchRows,
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    SegmentQuery,
    SegmentRows,
    SegmentSearch,
)
from elanus.services.routing import Router
from elanus.workers.gather import by_source, empty_rows, interleave, with_fields
from elanus.workers.streaming.replicas import Ask, Copies, ReplicaReader
from elanus.workers.streaming.shard import ReadParts, Shard
from elanus.workers.streaming.tsafe import SafeTime

_ATTEMPTS = 3
_RETRY_PAUSE_S = 0.01
_SEARCHED_ON_LOOP_FLOATS = 4 << 20
"""Dimensions of all growing rows, times vectors asked for, up to which a search without a filter
runs on the event loop: 0.2 ms by their codes, 2 ms at most. The way to a thread costs as much."""

T = TypeVar("T")
_Taken = tuple[npt.NDArray[np.int64], pa.RecordBatch]
"""Positions in an answer, and their rows."""


class _Stages:
    """Seconds spent in each stage of a read, by name."""

    def __init__(self, world: World) -> None:
        self._clock = world.clock
        self._last_s = world.clock.monotonic_s()
        self.seconds: dict[str, float] = {}

    def done(self, stage: str) -> None:
        now_s = self._clock.monotonic_s()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now_s - self._last_s
        self._last_s = now_s


class _Parts:
    """What one read looks at: growing segments, and sealed ones with their copies."""

    def __init__(
        self,
        shard: Shard,
        parts: ReadParts,
        request: SearchRequest | QueryRequest,
        snapshot: Snapshot,
    ) -> None:
        loaded = parts.view.partition_ids
        wanted = request.partition_ids
        if loaded and wanted and not set(wanted) <= set(loaded):
            missing = next(each for each in wanted if each not in loaded)
            raise PartitionNotLoaded(missing)
        chosen = frozenset(wanted or loaded)
        self.snapshot = snapshot
        self.growing: list[Segment] = [
            growing.segment
            for growing in parts.growing
            if not request.ignore_growing and (not chosen or growing.partition_id in chosen)
        ]
        self.sealed = [
            segment.segment_id
            for segment in parts.view.sealed
            if not chosen or segment.partition_id in chosen
        ]
        self.copies = Copies(shard.vchannel, parts.view.placement, shard.lost_nodes)
        self.schema = shard.collection.schema


class Delegator:
    """Searches and queries shards of this node."""

    def __init__(self, world: World, router: Router) -> None:
        self._world = world
        self._replicas = ReplicaReader(world, router)

    async def search(
        self, shard: Shard, safe_time: SafeTime, request: SearchRequest
    ) -> SearchResponse:
        async def attempt(parts: _Parts, stages: _Stages) -> SearchResponse:
            hits = await self._search_parts(shard, parts, request)
            stages.done("search")
            rows = await self._output_rows(
                shard, parts, request.output_fields, hits.keys, hits.sources, hits.offsets
            )
            stages.done("fetch")
            return SearchResponse(hits, rows, parts.snapshot.read_ts, stages.seconds)

        return await self._read(shard, safe_time, request, attempt)

    async def query(
        self, shard: Shard, safe_time: SafeTime, request: QueryRequest
    ) -> QueryResponse:
        async def attempt(parts: _Parts, stages: _Stages) -> QueryResponse:
            count, found = await self._query_parts(shard, parts, request)
            stages.done("query")
            if request.count_only:
                rows, timestamps = empty_rows([]), np.empty(0, dtype=np.uint64)
            else:
                rows = await self._output_rows(
                    shard, parts, request.output_fields, found.keys, found.sources, found.offsets
                )
                timestamps = found.timestamps
            stages.done("fetch")
            return QueryResponse(rows, timestamps, count, parts.snapshot.read_ts, stages.seconds)

        return await self._read(shard, safe_time, request, attempt)

    async def _read(
        self,
        shard: Shard,
        safe_time: SafeTime,
        request: SearchRequest | QueryRequest,
        attempt: Callable[[_Parts, _Stages], Awaitable[T]],
    ) -> T:
        """Each attempt reads at a fresh instant: what a compaction left out of a newer view can't
        be asked for at an older one."""
        stages = _Stages(self._world)
        deadline_s = None
        if request.deadline_s is not None:
            deadline_s = self._world.clock.monotonic_s() + request.deadline_s
        for tries_left in reversed(range(_ATTEMPTS)):
            guarantee_ts = max(request.guarantee_ts, request.read_ts)
            safe_ts = await safe_time.wait_until_safe(guarantee_ts, deadline_s)
            read_ts = request.read_ts or safe_ts
            # Rows expire while nothing is written, too: then the safe time may stand still.
            now_ts = request.read_ts or max(read_ts, compose(self._world.clock.now_ms()))
            snapshot = Snapshot(read_ts, expiry_ts(now_ts, request.ttl_seconds))
            stages.done("wait")
            if shard.closed:
                raise Unavailable(f"shard {shard.vchannel} is no longer here")
            _check_fields(shard, request)
            parts = shard.read_parts()
            if parts is None:
                raise CollectionNotLoaded(shard.collection.name)
            try:
                return await attempt(_Parts(shard, parts, request, snapshot), stages)
            except Unavailable:
                if not tries_left or shard.closed:
                    raise
                if shard.view is parts.view:
                    await self._world.clock.sleep(_RETRY_PAUSE_S)
        raise AssertionError("not reached")

    # --- search -----------------------------------------------------------------------------

    async def _search_parts(self, shard: Shard, parts: _Parts, request: SearchRequest) -> Hits:
        query = request.query
        found: list[Hits] = []
        jobs: list[Awaitable[list[Hits]]] = []
        if parts.growing:
            growing = (parts.growing, query, parts.snapshot, request.plan)
            if _is_quick(parts.growing, request):
                found.append(search_growing(*growing))
            else:
                jobs.append(_one(self._world.executor.run("search", search_growing, *growing)))
        if parts.sealed:
            jobs.append(self._search_sealed(parts, request))
        found += chain.from_iterable(await _all(jobs))
        if not found:
            return empty_hits(len(query.vectors), _has_string_keys(shard))
        if len(found) == 1:
            return found[0]
        return merge_hits(found, query.top_k, query.metric.larger_is_better)

    async def _search_sealed(self, parts: _Parts, request: SearchRequest) -> list[Hits]:
        def ask(node: QueryNodeService, segment_ids: tuple[int, ...]) -> Awaitable[Hits]:
            return node.search(
                SegmentSearch(
                    segment_ids, request.query, parts.snapshot, request.plan, parts.schema
                )
            )

        return [hits for _, hits in await self._replicas.read(parts.copies, parts.sealed, ask)]

    # --- query ------------------------------------------------------------------------------

    async def _query_parts(
        self, shard: Shard, parts: _Parts, request: QueryRequest
    ) -> tuple[int, Rows]:
        jobs: list[Awaitable[list[SegmentRows]]] = []
        if parts.growing:
            job = self._world.executor.run(
                "search",
                query_segments,
                parts.growing,
                parts.snapshot,
                request.plan,
                request.limit,
                request.count_only,
            )
            jobs.append(_one(job))
        if parts.sealed:
            jobs.append(self._query_sealed(parts, request))
        found = list(chain.from_iterable(await _all(jobs)))
        rows = [part.rows for part in found if part.rows is not None]
        if not rows:
            rows = [no_rows(_has_string_keys(shard))]
        merged = rows[0] if len(rows) == 1 else merge_rows(rows, request.limit)
        return sum(part.count for part in found), merged

    async def _query_sealed(self, parts: _Parts, request: QueryRequest) -> list[SegmentRows]:
        def ask(node: QueryNodeService, segment_ids: tuple[int, ...]) -> Awaitable[SegmentRows]:
            return node.query(
                SegmentQuery(
                    segment_ids,
                    parts.snapshot,
                    request.plan,
                    request.limit,
                    request.count_only,
                    parts.schema,
                )
            )

        return [rows for _, rows in await self._replicas.read(parts.copies, parts.sealed, ask)]

    # --- output fields ------------------------------------------------------------------------

    async def _output_rows(
        self,
        shard: Shard,
        parts: _Parts,
        names: tuple[str, ...],
        keys: Any,
        sources: npt.NDArray[np.int64],
        offsets: npt.NDArray[np.int64],
    ) -> pa.RecordBatch:
        """The output fields of these rows, in their order. All shards give the same columns,
        however many rows they find."""
        schema = parts.schema
        fields = [schema.arrow.field(name) for name in names]
        if not names or len(sources) == 0:
            return empty_rows(fields)
        if names == (schema.primary.name,):
            return with_fields([_key_array(keys, fields[0].type)], fields)
        growing = {segment.segment_id: segment for segment in parts.growing}
        local: list[tuple[Segment, npt.NDArray[np.int64]]] = []
        remote: dict[int, npt.NDArray[np.int64]] = {}
        for source, positions in by_source(sources):
            if source in growing:
                local.append((growing[source], positions))
            else:
                remote[source] = positions
        jobs: list[Awaitable[list[_Taken]]] = []
        if local:
            job = self._world.executor.run("search", take_growing, local, offsets, names)
            jobs.append(_one(job))
        if remote:

            async def fetch(node: QueryNodeService, segment_ids: tuple[int, ...]) -> _Taken:
                positions = np.sort(np.concatenate([remote[each] for each in segment_ids]))
                asked = FetchRows(sources[positions], offsets[positions], names, schema)
                return positions, await node.fetch(asked)

            jobs.append(self._fetch(parts, remote, fetch))
        rows = interleave(list(chain.from_iterable(await _all(jobs))), names)
        return with_fields(rows.columns, fields)

    async def _fetch(
        self, parts: _Parts, segment_ids: Iterable[int], fetch: Ask[_Taken]
    ) -> list[_Taken]:
        return [taken for _, taken in await self._replicas.read(parts.copies, segment_ids, fetch)]


def expiry_ts(now_ts: int, ttl_seconds: int) -> int:
    """Rows with an insert ts up to this one have expired at ``now_ts``."""
    if ttl_seconds <= 0:
        return 0
    return compose(max(0, physical_ms(now_ts) - ttl_seconds * 1000))


def _check_fields(shard: Shard, request: SearchRequest | QueryRequest) -> None:
    """A field that was added just now may be asked for before the shard has heard of it."""
    known = shard.collection.schema.by_name
    wanted = (*request.output_fields, *(request.plan.fields if request.plan else ()))
    if not all(name in known for name in wanted):
        raise Unavailable(f"the schema of {shard.vchannel} is being changed, try again")


def _is_quick(segments: Sequence[Segment], request: SearchRequest) -> bool:
    """Whether these growing segments may be searched on the event loop."""
    rows = sum(segment.row_count for segment in segments)
    return request.plan is None and rows * request.query.vectors.size <= _SEARCHED_ON_LOOP_FLOATS


def search_growing(
    segments: Sequence[Segment], query: VectorQuery, snapshot: Snapshot, plan: Plan | None
) -> Hits:
    """The merged hits of several segments."""
    found = [segment.search(query, snapshot, plan) for segment in segments]
    return merge_hits(found, query.top_k, query.metric.larger_is_better)


def query_segments(
    segments: Sequence[Segment],
    snapshot: Snapshot,
    plan: Plan | None,
    limit: int | None,
    count_only: bool,
) -> SegmentRows:
    """The merged rows, or their number, of several segments. Runs in a thread."""
    if count_only:
        return SegmentRows(sum(segment.count(snapshot, plan) for segment in segments), None)
    found = [segment.select(snapshot, plan, limit) for segment in segments]
    rows = merge_rows(found, limit)
    return SegmentRows(len(rows.offsets), rows)


def take_growing(
    parts: Sequence[tuple[Segment, npt.NDArray[np.int64]]],
    offsets: npt.NDArray[np.int64],
    names: tuple[str, ...],
) -> tuple[npt.NDArray[np.int64], pa.RecordBatch]:
    """(positions, their rows) out of several segments. Runs in a thread."""
    positions = np.sort(np.concatenate([each for _, each in parts]))
    taken = [
        (np.searchsorted(positions, each), segment.take(offsets[each], names))
        for segment, each in parts
    ]
    return positions, interleave(taken, names)


async def _all(jobs: Sequence[Awaitable[T]]) -> list[T]:
    """Their results; a single one without the price of a task."""
    if len(jobs) <= 1:
        return [await job for job in jobs]
    return list(await asyncio.gather(*jobs))


async def _one(job: Awaitable[T]) -> list[T]:
    return [await job]


def _has_string_keys(shard: Shard) -> bool:
    return not shard.collection.schema.primary.data_type.is_integer


def _key_array(keys: Any, key_type: pa.DataType) -> pa.Array:
    return keys if isinstance(keys, pa.Array) else pa.array(keys, type=key_type)
