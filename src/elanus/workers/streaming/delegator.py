"""Reads of one shard: growing segments here, sealed ones on query nodes, one instant for both.

A read waits until its guarantee is safe, takes a snapshot timestamp and the shard's immutable set
of parts in one step, asks all parts at once, merges, and fetches output fields for the rows of the
final answer only. If the caller asks the query nodes itself (``offers``), sealed parts are left
out. A query node that fails is replaced by others that hold the same segments
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
from elanus.engine.groups import merge_found
from elanus.engine.reduce import empty_hits, merge_rows
from elanus.engine.reduce import empty_rows as no_rows
from elanus.engine.segment.base import Segment
from elanus.errors import CollectionNotLoaded, Unavailable
from elanus.model.reads import Hits, Rows, Snapshot, VectorQuery
from elanus.model.timestamp import compose
from elanus.model.types import DataType
from elanus.runtime.world import World
from elanus.services.interfaces import QueryNodeService
from elanus.services.messages import (
    MAX_ROWS_BROUGHT,
    FetchRows,
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    SegmentHits,
    SegmentQuery,
    SegmentRows,
    SegmentSearch,
    time_for_callee_s,
)
from elanus.services.routing import Router
from elanus.workers.gather import by_source, empty_rows, interleave, with_fields
from elanus.workers.streaming.brought import rows_of
from elanus.workers.streaming.offers import Offers
from elanus.workers.streaming.parts import Parts, check_fields, expiry_ts
from elanus.workers.streaming.replicas import Ask, ReplicaReader
from elanus.workers.streaming.shard import Shard
from elanus.workers.streaming.stages import Stages
from elanus.workers.streaming.tsafe import SafeTime
from elanus.workers.streaming.weights import weighted_search

_ATTEMPTS = 3
_RETRY_PAUSE_S = 0.01
_SEARCHED_ON_LOOP_FLOATS = 4 << 20
"""Dimensions of all growing rows, times vectors asked for, up to which a search without a filter
runs on the event loop: 0.2 ms by their codes, 2 ms at most. The way to a thread costs as much."""
_SEARCHED_ON_LOOP_NARROW = 1 << 19
"""The same for elements that must be widened first."""
_SEARCHED_ON_LOOP_SPARSE_ROWS = 1 << 12
"""The same for sparse vectors, rows times vectors."""

T = TypeVar("T")
_Taken = tuple[npt.NDArray[np.int64], pa.RecordBatch]
"""Positions in an answer, and their rows."""


class Delegator:
    """Searches and queries shards of this node."""

    def __init__(self, world: World, router: Router) -> None:
        self._world = world
        self._replicas = ReplicaReader(world, router)
        self._offers = Offers(world, router)

    async def search(
        self, shard: Shard, safe_time: SafeTime, request: SearchRequest
    ) -> SearchResponse:
        async def attempt(parts: Parts, stages: Stages) -> SearchResponse:
            told = self._offers.accepted(shard, request)
            if told is not None:
                parts.sealed = ()
            asked = await weighted_search(self._world, self._replicas, parts, request)
            hits, brought = await self._search_parts(shard, parts, asked)
            stages.done("search")
            fields = [parts.schema.arrow.field(name) for name in request.output_fields]
            rows = rows_of(hits, brought, fields)
            if rows is None:
                rows = await self._output_rows(
                    shard, parts, request.output_fields, hits.keys, hits.sources, hits.offsets
                )
            stages.done("fetch")
            view = None if told is not None else self._offers.for_caller(shard, request)
            return SearchResponse(hits, rows, parts.snapshot.read_ts, stages.seconds, told, view)

        return await self._read(shard, safe_time, request, attempt)

    async def query(
        self, shard: Shard, safe_time: SafeTime, request: QueryRequest
    ) -> QueryResponse:
        async def attempt(parts: Parts, stages: Stages) -> QueryResponse:
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
        attempt: Callable[[Parts, Stages], Awaitable[T]],
    ) -> T:
        """Each attempt reads at a fresh instant: what a compaction left out of a newer view can't
        be asked for at an older one."""
        stages = Stages(self._world)
        deadline_s = self._deadline_s(request)
        for tries_left in reversed(range(_ATTEMPTS)):
            guarantee_ts = max(request.guarantee_ts, request.read_ts)
            if request.is_issued:
                safe_time.note_issued(guarantee_ts)
            safe_ts = await safe_time.wait_until_safe(
                guarantee_ts, deadline_s, is_strong=request.is_strong
            )
            read_ts = request.read_ts or safe_ts
            snapshot = Snapshot(read_ts, self._expired_ts(request, read_ts))
            stages.done("wait")
            if shard.closed:
                raise Unavailable(f"shard {shard.vchannel} is no longer here")
            check_fields(shard, request)
            parts = shard.read_parts()
            if parts is None:
                raise CollectionNotLoaded(shard.collection.name)
            try:
                return await attempt(Parts(shard, parts, request, snapshot, deadline_s), stages)
            except Unavailable:
                is_late = deadline_s is not None and self._world.clock.monotonic_s() >= deadline_s
                if not tries_left or shard.closed or is_late:
                    raise
                if shard.view is parts.view:
                    await self._world.clock.sleep(_RETRY_PAUSE_S)
        raise AssertionError("not reached")

    def _expired_ts(self, request: SearchRequest | QueryRequest, read_ts: int) -> int:
        """Rows with an insert ts up to this one have expired."""
        if request.ttl_seconds <= 0:
            return 0
        # Rows expire while nothing is written, too: then the safe time may stand still.
        now_ts = request.read_ts or max(read_ts, compose(self._world.clock.now_ms()))
        return expiry_ts(now_ts, request.ttl_seconds)

    def _deadline_s(self, request: SearchRequest | QueryRequest) -> float | None:
        """When query nodes should have answered, by the clock's ``monotonic_s``."""
        if request.deadline_s is None:
            return None
        return self._world.clock.monotonic_s() + time_for_callee_s(request.deadline_s)

    def _left_s(self, parts: Parts) -> float | None:
        if parts.deadline_s is None:
            return None
        return max(0.0, parts.deadline_s - self._world.clock.monotonic_s())

    # --- search -----------------------------------------------------------------------------

    async def _search_parts(
        self, shard: Shard, parts: Parts, request: SearchRequest
    ) -> tuple[Hits, list[SegmentHits]]:
        """The hits, and those of the query nodes before the merge."""
        query = request.query
        local = await self._replicas.local_node(parts.copies, parts.sealed)
        if local is not None:
            asked = self._of_sealed(parts, request, parts.sealed)
            together = await local.search_beside(asked, parts.growing)
            return together, [together]
        found: list[Hits] = []
        brought: list[SegmentHits] = []
        jobs: list[Awaitable[list[Hits]]] = []
        if parts.growing:
            growing = (parts.growing, query, parts.snapshot, request.plan)
            field = shard.collection.schema.by_name[query.field_name]
            if _is_quick(parts.growing, request, field.data_type):
                found.append(search_growing(*growing))
            else:
                jobs.append(_one(self._world.executor.run("search", search_growing, *growing)))
        if parts.sealed:
            jobs.append(self._search_sealed(parts, request, brought))
        found += chain.from_iterable(await _all(jobs))
        if not found:
            return empty_hits(len(query.vectors), _has_string_keys(shard)), brought
        if len(found) == 1:
            return found[0], brought
        return merge_found(found, query), brought

    async def _search_sealed(
        self, parts: Parts, request: SearchRequest, brought: list[SegmentHits]
    ) -> list[Hits]:
        def ask(node: QueryNodeService, segment_ids: tuple[int, ...]) -> Awaitable[SegmentHits]:
            return node.search(self._of_sealed(parts, request, segment_ids))

        answers = await self._replicas.read(parts.copies, parts.sealed, ask)
        brought += [hits for _, hits in answers]
        return [hits for _, hits in answers]

    def _of_sealed(
        self, parts: Parts, request: SearchRequest, segment_ids: tuple[int, ...]
    ) -> SegmentSearch:
        """What one query node is asked. Of what one finds alone most stays: then a second call for
        the output fields would only cost time."""
        query, fields = request.query, request.output_fields
        is_small = len(query.vectors) * query.most_hits <= MAX_ROWS_BROUGHT
        is_alone = len(segment_ids) == len(parts.sealed)
        if not is_small or not is_alone or fields == (parts.schema.primary.name,):
            fields = ()
        return SegmentSearch(
            segment_ids,
            query,
            parts.snapshot,
            request.plan,
            parts.schema,
            fields,
            self._left_s(parts),
        )

    # --- query ------------------------------------------------------------------------------

    async def _query_parts(
        self, shard: Shard, parts: Parts, request: QueryRequest
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

    async def _query_sealed(self, parts: Parts, request: QueryRequest) -> list[SegmentRows]:
        def ask(node: QueryNodeService, segment_ids: tuple[int, ...]) -> Awaitable[SegmentRows]:
            return node.query(
                SegmentQuery(
                    segment_ids,
                    parts.snapshot,
                    request.plan,
                    request.limit,
                    request.count_only,
                    parts.schema,
                    self._left_s(parts),
                )
            )

        return [rows for _, rows in await self._replicas.read(parts.copies, parts.sealed, ask)]

    # --- output fields ------------------------------------------------------------------------

    async def _output_rows(
        self,
        shard: Shard,
        parts: Parts,
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
                asked = FetchRows(
                    sources[positions], offsets[positions], names, schema, self._left_s(parts)
                )
                return positions, await node.fetch(asked)

            jobs.append(self._fetch(parts, remote, fetch))
        rows = interleave(list(chain.from_iterable(await _all(jobs))), names)
        return with_fields(rows.columns, fields)

    async def _fetch(
        self, parts: Parts, segment_ids: Iterable[int], fetch: Ask[_Taken]
    ) -> list[_Taken]:
        return [taken for _, taken in await self._replicas.read(parts.copies, segment_ids, fetch)]


def _is_quick(segments: Sequence[Segment], request: SearchRequest, data_type: DataType) -> bool:
    """Whether these growing segments may be searched on the event loop."""
    if request.plan is not None or request.query.grouping is not None:
        return False
    rows = sum(segment.row_count for segment in segments)
    vectors = request.query.vectors
    if data_type is DataType.ARRAY_OF_VECTOR:
        return False
    if data_type is DataType.SPARSE_FLOAT_VECTOR:
        return rows * len(vectors) <= _SEARCHED_ON_LOOP_SPARSE_ROWS
    is_direct = data_type in (DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR)
    limit = _SEARCHED_ON_LOOP_FLOATS if is_direct else _SEARCHED_ON_LOOP_NARROW
    return bool(rows * vectors.size <= limit)


def search_growing(
    segments: Sequence[Segment], query: VectorQuery, snapshot: Snapshot, plan: Plan | None
) -> Hits:
    """The merged hits of several segments."""
    found = [segment.search(query, snapshot, plan) for segment in segments]
    return merge_found(found, query)


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
