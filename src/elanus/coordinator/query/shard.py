"""One loaded shard: brings its query nodes and its delegator to the target.

One round: compute the target and who holds what → load what is missing or outdated → push the view
→ release what is superfluous. A round that fails half-way leaves the old view in place, and the
next one starts from the metadata again. If only some copies can't be loaded, the view names the
others, and the round fails after that.

So a segment moves without a gap: it is loaded on its new node first, then the view names that, then
its old node lets it go.

Deletes: a copy is loaded with the deletes of the files at that moment (``delta_ts``); from the
view on, the delegator keeps it up to date. So a copy that no view has yet may only be used with
the ``delta_ts`` of its loading, and gets what files have since then once the delegator has
forgotten that far.

A copy that a former coordinator had loaded stays where it is and is loaded again there, which only
adds what it lacks: a delegator that reads it goes on doing so.
"""

import asyncio
from dataclasses import dataclass

import structlog

from elanus.coordinator.context import Context
from elanus.coordinator.data.compaction_policy import may_touch
from elanus.coordinator.data.definitions import is_vector_index
from elanus.coordinator.query.placement import Placement, balance, place, rows_by_node
from elanus.coordinator.query.planned import PlannedRows
from elanus.coordinator.query.target import ShardTarget, shard_target
from elanus.coordinator.retry import retry
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import ElanusError, Unavailable
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.model.types import SegmentLevel
from elanus.services.messages import LoadSegment, QueryView

log = structlog.get_logger(__name__)

VIEW_ATTEMPTS = 4
_UNKNOWN = -1
"""Version and deletes of a copy whose loading was not answered, or was another coordinator's."""

_Key = tuple[int, int]
"""A copy: the segment's id and the node's."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What is loaded: which version, with the deletes up to which timestamp."""

    version: int
    delta_ts: int


class LoadedShard:
    """State of one shard of a loaded collection. ``view`` is the last one acknowledged."""

    def __init__(
        self, context: Context, channels: Channels, planned: PlannedRows, vchannel: str
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels
        self._planned = planned
        self.vchannel = vchannel
        self.view: QueryView | None = None
        self._viewed: dict[_Key, int] = {}
        self.total = 0
        self.ready = 0
        self.behind = True
        self._copies: dict[_Key, Copy] = {}
        self._prefer_replaced = True
        self._has_lost_copies = False

    def segment_ids(self) -> set[int]:
        """Segments that a view or a loaded copy refers to."""
        viewed = () if self.view is None else self.view.sealed
        loaded = {segment_id for segment_id, _ in self._copies}
        return loaded | {segment.segment_id for segment in viewed}

    def placement(self) -> Placement:
        """The nodes of each segment that is read."""
        return {} if self.view is None else self.view.placement

    def invalidate(self) -> None:
        """The delegator may have lost the view: push one again."""
        self._set_view(None)
        self.behind = True

    def adopt(self, node_id: int, segment_id: int) -> None:
        """A former coordinator had the segment loaded there: use it or release it."""
        self._copies.setdefault((segment_id, node_id), Copy(_UNKNOWN, _UNKNOWN))

    def believed(self, node_id: int) -> dict[int, Copy]:
        """The copies that the node has told to have, by segment."""
        return {
            segment_id: copy
            for (segment_id, holder), copy in self._copies.items()
            if holder == node_id and copy.version != _UNKNOWN
        }

    def uses(self, node_id: int, segment_id: int) -> bool:
        """Whether the copy there is, or may be, one of this shard's; sure while not ``behind``."""
        return (segment_id, node_id) in self._copies

    def lose(self, node_id: int, segment_id: int, copy: Copy) -> bool:
        """The node does not have this copy. True if that was news."""
        if self._copies.get((segment_id, node_id)) is not copy:
            return False
        del self._copies[segment_id, node_id]
        self._has_lost_copies = True
        self.invalidate()
        return True

    async def reconcile(
        self,
        collection: CollectionInfo,
        partition_ids: tuple[int, ...],
        replicas: int,
        slots: asyncio.Semaphore,
    ) -> bool:
        """One round; whether it should be followed by another one. Raises what the first failed
        step raised."""
        self.behind = True
        if self._has_lost_copies:
            # Copies that are loaded anew must not be read before they have all deletes.
            await (await self._channels.owner(self.vchannel)).release(self.vchannel)
            self._has_lost_copies = False
        nodes = await self._context.router.query_nodes()
        serving = await self._context.router.query_nodes(stopping=True)
        target = self._target(collection, partition_ids, nodes)
        before = self._current(target)
        planned = self._plan(target, nodes, before, replicas)
        failure = await self._load(collection, target, planned, slots)
        placement = self._usable(target, planned, serving)
        if failure is not None and not all(placement.values()):
            raise failure
        await self._push(target, placement)
        wanted = {(i, n) for chosen in (planned, placement) for i in chosen for n in chosen[i]}
        await self._release_copies([key for key in sorted(self._copies) if key not in wanted])
        if failure is not None:
            raise failure
        self.behind = False
        return planned != before

    def _target(
        self, collection: CollectionInfo, partition_ids: tuple[int, ...], nodes: list[int]
    ) -> ShardTarget:
        if not nodes:
            raise Unavailable("no query node is alive")
        mine = [
            segment
            for segment in self._catalog.segments(collection.collection_id)
            if segment.vchannel == self.vchannel and segment.level is not SegmentLevel.L0
        ]
        indexes = self._catalog.indexes(collection.collection_id)
        vector_indexes = {i.index_id for i in indexes if is_vector_index(collection, i)}
        viewed = self.view.sealed if self.view is not None and self._prefer_replaced else ()
        held = {
            segment_id
            for segment_id, node_id in self._copies
            if node_id in nodes and self._is_viewed((segment_id, node_id))
        }
        return shard_target(
            mine,
            self._catalog.checkpoint(self.vchannel),
            partition_ids,
            vector_indexes,
            {s.segment_id: s for s in viewed if s.segment_id in held},
        )

    def _current(self, target: ShardTarget) -> dict[int, tuple[int, ...]]:
        """The nodes that have a copy of each segment of the target, those in use first."""
        current: dict[int, list[int]] = {segment.segment_id: [] for segment in target.segments}
        for key in sorted(self._copies, key=lambda key: (not self._is_viewed(key), key)):
            segment_id, node_id = key
            replaced = segment_id in target.replaced
            if segment_id in current and (self._is_viewed(key) or not replaced):
                current[segment_id].append(node_id)
        return {segment_id: tuple(node_ids) for segment_id, node_ids in current.items()}

    def _plan(
        self, target: ShardTarget, nodes: list[int], before: Placement, replicas: int
    ) -> Placement:
        """Who is to hold what. Moves wait until nothing is missing."""
        elsewhere = self._planned.elsewhere(self.vchannel)
        pinned = target.replaced
        planned = place(target.segments, nodes, before, elsewhere, replicas, pinned)
        if planned == before:
            planned = balance(target.segments, nodes, planned, elsewhere, pinned)
        self._planned.plan(self.vchannel, rows_by_node(target.segments, nodes, planned, {}))
        return planned

    async def _load(
        self,
        collection: CollectionInfo,
        target: ShardTarget,
        planned: Placement,
        slots: asyncio.Semaphore,
    ) -> ElanusError | None:
        """Load the planned copies that are missing or outdated; the first failure."""
        wanted = [
            (segment, node_id)
            for segment in target.segments
            for node_id in planned[segment.segment_id]
            if not self._is_ready(segment, node_id, target)
        ]
        self.total = sum(map(len, planned.values()))
        self.ready = self.total - len(wanted)
        # The deletes of this very moment, which ``target.delta_ts`` is about.
        deltas = self._catalog.deltas(collection.collection_id, self.vchannel)
        indexes = self._catalog.indexes(collection.collection_id)

        async def load(segment: SegmentInfo, node_id: int) -> None:
            request = LoadSegment(
                segment=segment,
                collection=collection,
                indexes=indexes,
                deltas=tuple(delta for delta in deltas if may_touch(delta, segment)),
            )
            async with slots:
                await self._load_one(node_id, request, target.delta_ts)

        loads = (load(segment, node_id) for segment, node_id in wanted)
        failures = [each for each in await asyncio.gather(*loads, return_exceptions=True) if each]
        for failure in failures:
            if not isinstance(failure, ElanusError):
                raise failure
        return next((each for each in failures if isinstance(each, ElanusError)), None)

    def _is_ready(self, segment: SegmentInfo, node_id: int, target: ShardTarget) -> bool:
        key = (segment.segment_id, node_id)
        copy = self._copies.get(key)
        return (
            copy is not None
            and copy.version >= segment.version
            and (self._is_viewed(key) or copy.delta_ts >= target.delta_ts)
        )

    def _usable(self, target: ShardTarget, planned: Placement, serving: list[int]) -> Placement:
        """The planned copies that are ready; in their place, others of the segment that are."""
        placement: Placement = {}
        for segment in target.segments:
            segment_id = segment.segment_id
            others = sorted(n for i, n in self._copies if i == segment_id and n in serving)
            for nodes in (planned[segment_id], others):
                ready = tuple(n for n in nodes if self._is_ready(segment, n, target))
                placement[segment_id] = ready
                if ready:
                    break
        return placement

    def _is_viewed(self, key: _Key) -> bool:
        """Whether the delegator keeps this very copy up to date."""
        copy = self._copies.get(key)
        return copy is not None and self._viewed.get(key) == copy.version

    def _set_view(self, view: QueryView | None) -> None:
        self.view = view
        self._viewed = {
            (segment.segment_id, node_id): segment.version
            for segment in (() if view is None else view.sealed)
            for node_id in (() if view is None else view.placement[segment.segment_id])
        }

    async def _load_one(self, node_id: int, request: LoadSegment, delta_ts: int) -> None:
        key = (request.segment.segment_id, node_id)
        node = await self._context.router.query_node(node_id)
        self._copies[key] = Copy(_UNKNOWN, _UNKNOWN)
        self._context.world.failpoints.hit("load_segment.before")
        damaged = await node.load_segment(request)
        self._copies[key] = Copy(request.segment.version, delta_ts)
        self.ready += 1
        if damaged:
            self._context.events.index_files_damaged(request.segment, damaged)

    async def _push(self, target: ShardTarget, placement: Placement) -> None:
        placed = [(segment_id, node) for segment_id, nodes in placement.items() for node in nodes]
        fresh = {key: self._copies[key].delta_ts for key in placed if not self._is_viewed(key)}
        if self.view is not None and not fresh and self._says_the_same(target, placement):
            return
        view = QueryView(
            vchannel=self.vchannel,
            version=await self._context.timestamps.allocate(),
            sealed=target.segments,
            superseded=target.superseded,
            delta_ts=min([target.delta_ts, *fresh.values()]),
            placement=placement,
            partition_ids=target.partition_ids,
            reloaded=frozenset(segment_id for segment_id, _ in fresh),
        )
        self._context.world.failpoints.hit("update_view.before")
        try:
            # The same view again is harmless, and makes up for a lost answer.
            await retry(
                self._context.world,
                f"view of {self.vchannel}",
                lambda: self._send(view),
                attempts=VIEW_ATTEMPTS,
            )
        except Unavailable:
            # It may lack rows that the delegator does not hold: begin with what is flushed.
            self._prefer_replaced = False
            raise
        self._context.world.failpoints.hit("update_view.after")
        self._set_view(view)
        self._prefer_replaced = True

    async def _send(self, view: QueryView) -> None:
        await (await self._channels.owner(self.vchannel)).update_view(view)

    def _says_the_same(self, target: ShardTarget, placement: Placement) -> bool:
        view = self.view
        return (
            view is not None
            and view.sealed == target.segments
            and view.superseded == target.superseded
            and view.partition_ids == target.partition_ids
            and view.placement == placement
        )

    async def _release_copies(self, keys: list[_Key]) -> None:
        by_node: dict[int, list[int]] = {}
        for segment_id, node_id in keys:
            by_node.setdefault(node_id, []).append(segment_id)
        for node_id, ids in sorted(by_node.items()):
            try:
                node = await self._context.router.query_node(node_id)
            except Unavailable:
                pass  # the node is gone, and its copies with it
            else:
                await node.release_segments(tuple(ids))
            for segment_id in ids:
                self._copies.pop((segment_id, node_id), None)

    async def release(self) -> None:
        """The shard is no longer searched, then its copies go. May be repeated."""
        await (await self._channels.owner(self.vchannel)).release(self.vchannel)
        await self.forget()

    async def forget(self) -> None:
        """The shard is closed already: only its copies have to go. May be repeated."""
        self._set_view(None)
        self._planned.forget(self.vchannel)
        await self._release_copies(sorted(self._copies))


def reason_of(error: BaseException) -> str:
    return error.message if isinstance(error, ElanusError) else f"{type(error).__name__}: {error}"
