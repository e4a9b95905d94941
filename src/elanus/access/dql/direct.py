"""A search of a shard in a cluster: the query nodes are asked at the same time as the delegator.

Ordinarily a search goes through the delegator, which asks the query nodes: two calls, one after
the other. A delegator may offer its view of the sealed part. A proxy that has one asks the view's
query nodes by itself, while the delegator waits for the guarantee, fixes the instant T and searches
what is growing. The delegator does so only if the view is still its own. What the query nodes have
found, without knowing T, counts only if

- each knew of no row and of no delete after T, and
- each had heard of the last delete of its segments that the delegator had told by T.

So the parts are those of an ordinary search at T, and with them the answer. Why that is so is told
in :mod:`elanus.workers.streaming.offers`. Nothing here has to be up to date: an old view is
refused, and the delegator answers for all parts instead.

If what was found doesn't count, or a query node fails or is late while others have copies, the
search is made again in the ordinary way. Where that happens, as in shards with many deletes, the
next searches go the ordinary way at once, more and more of them as long as it goes on.

Searches whose parts need to know of each other (BM25), which may bring many rows, hits in groups,
and rows that expire by the delegator's clock, go the ordinary way.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import structlog
from msgspec.structs import replace

from elanus.access.dql.merging import merge_searches
from elanus.access.lru import LruCache
from elanus.errors import DeadlineExceeded, Unavailable
from elanus.model.catalog import ALL_PARTITIONS
from elanus.model.reads import Snapshot
from elanus.model.schema import CollectionSchema
from elanus.model.types import MetricType
from elanus.runtime.world import World
from elanus.services.hedging import Hedging
from elanus.services.interfaces import StreamingService
from elanus.services.messages import (
    MAX_ROWS_BROUGHT,
    SealedView,
    SearchRequest,
    SearchResponse,
    SegmentHits,
    SegmentSearch,
    time_for_callee_s,
)
from elanus.services.routing import Router

log = structlog.get_logger(__name__)

MAX_SHARDS = 4_096
"""Shards whose views are remembered."""

MAX_NODES = 8
"""What is spread over more query nodes is left to the delegator, which fetches the rows of the
final hits only."""

SUSPECT_S = 5.0
"""Time for which a query node that failed or was late is not asked from here."""

FIRST_REST, LONGEST_REST = 8, 512
"""Searches of a shard that go the ordinary way after one in vain: at first, and at most if that
repeats."""

DIRECT, OUTDATED, CHANGED, FAILED, LATE = "direct", "outdated", "changed", "failed", "late"


class DirectSearch:
    """See the module. ``counts``: how searches by a view have ended: ``direct``; ``outdated``, the
    delegator has another view; made again because what was found has ``changed``, or a query node
    ``failed`` or was ``late``."""

    def __init__(self, world: World, router: Router, *, is_used: bool = True) -> None:
        self._world = world
        self._router = router
        self._is_used = is_used
        self._shards: LruCache[str, _Shard] = LruCache(MAX_SHARDS)
        self._hedging = Hedging(world.clock)
        self._suspects: dict[int, float] = {}
        self._searches = 0
        self.counts: Counter[str] = Counter()

    async def search(
        self, owner: StreamingService, request: SearchRequest, schema: CollectionSchema
    ) -> SearchResponse:
        """The answer of ``owner``, the shard's delegator, to ``request``, maybe sooner. Raises what
        it raises."""
        if not self._is_used or not _is_suitable(request):
            return await owner.search(request)
        shard = self._shards.get(request.vchannel)
        if shard is None:
            shard = _Shard()
            self._shards.put(request.vchannel, shard)
        if shard.rests():
            return await owner.search(request)
        if shard.view is None:
            answer = await owner.search(replace(request, known_view=0))
            shard.view = answer.view
            return answer
        nodes = self._choose(shard.view, request)
        if nodes is None:
            return await owner.search(request)
        return await self._search_view(owner, request, schema, shard, shard.view, nodes)

    async def _search_view(
        self,
        owner: StreamingService,
        request: SearchRequest,
        schema: CollectionSchema,
        shard: "_Shard",
        view: SealedView,
        nodes: dict[int, tuple[int, ...]],
    ) -> SearchResponse:
        started_s = self._world.clock.monotonic_s()
        asked = _sealed_search(request, schema, view.mark)
        calls = [
            asyncio.create_task(self._ask(node_id, replace(asked, segment_ids=segment_ids)))
            for node_id, segment_ids in nodes.items()
        ]
        try:
            answer = await owner.search(replace(request, known_view=view.mark))
            if answer.told is None:
                shard.view = answer.view
                self.counts[OUTDATED] += 1
                return answer
            found, outcome = await self._in_time(dict(zip(nodes, calls, strict=True)), view)
        finally:
            for call in calls:
                call.cancel()
                call.add_done_callback(_notice)
        spent_s = self._world.clock.monotonic_s() - started_s
        if outcome == DIRECT and not _are_at(found, nodes, view, answer):
            outcome = CHANGED
        self.counts[outcome] += 1
        if outcome != DIRECT:
            shard.rest()
            return await owner.search(_later(request, spent_s))
        shard.went_well()
        self._hedging.note(spent_s)
        answer.stages["sealed"] = spent_s
        return _together(request, schema, answer, found)

    async def _ask(self, node_id: int, request: SegmentSearch) -> SegmentHits:
        return await (await self._router.query_node(node_id)).search(request)

    async def _in_time(
        self, calls: dict[int, asyncio.Task[SegmentHits]], view: SealedView
    ) -> tuple[list[SegmentHits], str]:
        """The answers of the query nodes, in their order, if all come. One that is late is waited
        for unless others have copies; if it takes all the time, that is Unavailable."""
        if not all(call.done() for call in calls.values()) and _has_copies(view):
            await asyncio.wait(calls.values(), timeout=self._hedging.delay_s)
            late = [node_id for node_id, call in calls.items() if not call.done()]
            if late and self._hedging.may_hedge():
                self._suspect(late)
                log.info("query nodes are late", node_ids=late)
                return [], LATE
        found: list[SegmentHits] = []
        for node_id, call in calls.items():
            try:
                found.append(await call)
            except DeadlineExceeded as error:
                # No time is left for another attempt.
                self._suspect([node_id])
                self.counts[FAILED] += 1
                message = f"query node {node_id} failed a read: {error.message}"
                raise Unavailable(message) from error
            except Unavailable as error:
                self._suspect([node_id])
                log.info("search by a view failed", node_id=node_id, reason=error.message)
                return [], FAILED
        return found, DIRECT

    def _suspect(self, node_ids: Iterable[int]) -> None:
        now_s = self._world.clock.monotonic_s()
        self._suspects = {n: until_s for n, until_s in self._suspects.items() if until_s > now_s}
        self._suspects.update(dict.fromkeys(node_ids, now_s + SUSPECT_S))

    def _choose(
        self, view: SealedView, request: SearchRequest
    ) -> dict[int, tuple[int, ...]] | None:
        """Query node → the segments that it is asked about; None if no good nodes hold all, or too
        many. Of nodes with the same copies each gets its turn."""
        wanted = frozenset(request.partition_ids)
        chosen: dict[int, list[int]] = {}
        self._searches += 1
        now_s = self._world.clock.monotonic_s()
        suspects = {n for n, until_s in self._suspects.items() if until_s > now_s}
        for segment_id, copies in view.placement.items():
            if wanted and view.partitions[segment_id] not in wanted:
                continue
            good = [n for n in copies if n not in suspects] if suspects else copies
            if not good:
                return None
            node_id = next((n for n in good if n in chosen), good[self._searches % len(good)])
            chosen.setdefault(node_id, []).append(segment_id)
        if len(chosen) > MAX_NODES:
            return None
        return {node_id: tuple(segment_ids) for node_id, segment_ids in chosen.items()}


class _Shard:
    """What is remembered of a shard."""

    def __init__(self) -> None:
        self.view: SealedView | None = None
        self._rest = 0
        self._next_rest = FIRST_REST

    def rests(self) -> bool:
        """Whether this search goes the ordinary way."""
        if self._rest:
            self._rest -= 1
            return True
        return False

    def rest(self) -> None:
        self._rest = self._next_rest
        self._next_rest = min(2 * self._next_rest, LONGEST_REST)

    def went_well(self) -> None:
        self._next_rest = FIRST_REST


def _is_suitable(request: SearchRequest) -> bool:
    query = request.query
    return (
        query.metric is not MetricType.BM25
        and query.grouping is None
        and request.ttl_seconds == 0
        and len(query.vectors) * query.top_k <= MAX_ROWS_BROUGHT
    )


def _sealed_search(request: SearchRequest, schema: CollectionSchema, mark: int) -> SegmentSearch:
    names = request.output_fields
    return SegmentSearch(
        segment_ids=(),
        query=request.query,
        snapshot=Snapshot(0),
        plan=request.plan,
        output_fields=() if names == (schema.primary.name,) else names,
        deadline_s=None if request.deadline_s is None else time_for_callee_s(request.deadline_s),
        mark=mark,
        schema_version=schema.version,
    )


def _has_copies(view: SealedView) -> bool:
    return any(len(nodes) > 1 for nodes in view.placement.values())


def _are_at(
    found: Sequence[SegmentHits],
    nodes: dict[int, tuple[int, ...]],
    view: SealedView,
    answer: SearchResponse,
) -> bool:
    """Whether all is as the delegator saw it. ``found``: by node, in their order."""
    told = answer.told or {}
    for hits, segment_ids in zip(found, nodes.values(), strict=True):
        partitions = {ALL_PARTITIONS, *(view.partitions[each] for each in segment_ids)}
        last_ts = max(told.get(partition_id, 0) for partition_id in partitions)
        if hits.change_ts > answer.read_ts or hits.told_ts < last_ts:
            return False
    return True


def _later(request: SearchRequest, spent_s: float) -> SearchRequest:
    if request.deadline_s is None:
        return request
    return replace(request, deadline_s=max(0.0, request.deadline_s - spent_s))


def _together(
    request: SearchRequest,
    schema: CollectionSchema,
    growing: SearchResponse,
    found: Sequence[SegmentHits],
) -> SearchResponse:
    parts = [_with_rows(request, schema, growing, hits) for hits in found]
    if len(growing.hits.scores) or not parts:
        parts.insert(0, growing)
    return merge_searches(parts, request.query)


def _with_rows(
    request: SearchRequest, schema: CollectionSchema, growing: SearchResponse, hits: SegmentHits
) -> SearchResponse:
    """As the delegator would have answered had it found these."""
    fields = growing.rows.schema
    if request.output_fields == (schema.primary.name,):
        columns = [pa.array(hits.keys, fields.field(0).type)]
    elif hits.rows is not None:
        columns = hits.rows.columns
    else:
        columns = [pa.array([], field.type) for field in fields]
    rows = pa.RecordBatch.from_arrays(columns, schema=fields)
    return SearchResponse(hits, rows, growing.read_ts, growing.stages)


def _notice(call: "asyncio.Task[object]") -> None:
    # Of a call that isn't needed any more nobody asks what became of it.
    if not call.cancelled():
        call.exception()
