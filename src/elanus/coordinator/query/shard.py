"""One loaded shard: brings its query nodes and its delegator to the target.

One round: compute the target → load what is missing or outdated → push the view → release what is
superfluous. A round that fails half-way leaves the old view in place, and the next one starts from
the metadata again.

Deletes: a copy is loaded with the deletes of the files at that moment (``delta_ts``); from the
view on, the delegator keeps it up to date. So a copy that no view has yet may only be used with
the ``delta_ts`` of its loading, and is loaded again once the delegator has forgotten that far.

A copy that a former coordinator had loaded stays where it is and is loaded again there, which only
adds what it lacks: a delegator that reads it goes on doing so.
"""

import asyncio
from dataclasses import dataclass

import structlog

from elanus.coordinator.context import Context
from elanus.coordinator.data.compaction_policy import may_touch
from elanus.coordinator.data.definitions import is_vector_index
from elanus.coordinator.query.target import ShardTarget, place, shard_target
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


@dataclass(frozen=True, slots=True)
class Copy:
    """A loaded copy: on which node, which version, with the deletes up to which timestamp."""

    node_id: int
    version: int
    delta_ts: int


class LoadedShard:
    """State of one shard of a loaded collection. ``view`` is the last one acknowledged."""

    def __init__(self, context: Context, channels: Channels, vchannel: str) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels
        self.vchannel = vchannel
        self.view: QueryView | None = None
        self.total = 0
        self.ready = 0
        self.behind = True
        self._copies: dict[int, Copy] = {}
        self._left: set[tuple[int, int]] = set()
        self._prefer_replaced = True
        self._has_lost_copies = False

    def segment_ids(self) -> set[int]:
        """Segments that a view or a loaded copy refers to."""
        viewed = () if self.view is None else self.view.sealed
        return {*self._copies, *(segment.segment_id for segment in viewed)}

    def adopt(self, node_id: int, segment_id: int) -> None:
        """A former coordinator had the segment loaded there."""
        former = self._copies.get(segment_id)
        if former is not None:
            self._left.add((former.node_id, segment_id))
        self._copies[segment_id] = Copy(node_id, _UNKNOWN, _UNKNOWN)

    def believed(self, node_id: int) -> dict[int, Copy]:
        """The copies that the node has told to have, by segment."""
        return {
            segment_id: copy
            for segment_id, copy in self._copies.items()
            if copy.node_id == node_id and copy.version != _UNKNOWN
        }

    def uses(self, node_id: int, segment_id: int) -> bool:
        """Whether the copy there is, or may be, one of this shard's; sure while not ``behind``."""
        copy = self._copies.get(segment_id)
        return (copy is not None and copy.node_id == node_id) or (
            (node_id, segment_id) in self._left
        )

    def lose(self, segment_id: int, copy: Copy) -> bool:
        """The node does not have this copy. True if that was news."""
        if self._copies.get(segment_id) is not copy:
            return False
        del self._copies[segment_id]
        self._has_lost_copies = True
        self.invalidate()
        return True

    def invalidate(self) -> None:
        """The delegator may have lost the view: push one again."""
        self.view = None
        self.behind = True

    async def reconcile(
        self, collection: CollectionInfo, partition_ids: tuple[int, ...], slots: asyncio.Semaphore
    ) -> None:
        """One round. Raises what the last failed step raised."""
        self.behind = True
        if self._has_lost_copies:
            # Copies that are loaded anew must not be read before they have all deletes.
            await (await self._channels.owner(self.vchannel)).release(self.vchannel)
            self._has_lost_copies = False
        nodes = await self._context.router.query_nodes()
        target = self._target(collection, partition_ids, nodes)
        placement = place(
            target.segments,
            nodes,
            {segment_id: copy.node_id for segment_id, copy in self._copies.items()},
            {},
        )
        await self._load(collection, target, placement, slots)
        await self._push(target, placement)
        await self._release_superfluous(target)
        self.behind = False

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
        held = {i for i, copy in self._copies.items() if copy.node_id in nodes}
        return shard_target(
            mine,
            self._catalog.checkpoint(self.vchannel),
            partition_ids,
            vector_indexes,
            {s.segment_id: s for s in viewed if s.segment_id in held},
        )

    async def _load(
        self,
        collection: CollectionInfo,
        target: ShardTarget,
        placement: dict[int, int],
        slots: asyncio.Semaphore,
    ) -> None:
        wanted = [s for s in target.segments if not self._is_ready(s, placement, target)]
        self.total = len(target.segments)
        self.ready = self.total - len(wanted)
        # The deletes of this very moment, which ``target.delta_ts`` is about.
        deltas = self._catalog.deltas(collection.collection_id, self.vchannel)
        indexes = self._catalog.indexes(collection.collection_id)

        async def load(segment: SegmentInfo) -> None:
            request = LoadSegment(
                segment=segment,
                collection=collection,
                indexes=indexes,
                deltas=tuple(delta for delta in deltas if may_touch(delta, segment)),
            )
            node_id = placement[segment.segment_id]
            async with slots:
                await self._load_one(node_id, request, target.delta_ts)

        outcomes = await asyncio.gather(*map(load, wanted), return_exceptions=True)
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failed:
            raise failed[0]

    def _is_ready(
        self, segment: SegmentInfo, placement: dict[int, int], target: ShardTarget
    ) -> bool:
        copy = self._copies.get(segment.segment_id)
        if copy is None or copy.node_id != placement[segment.segment_id]:
            return False
        return copy.version >= segment.version and (
            self._is_viewed(segment.segment_id) or copy.delta_ts >= target.delta_ts
        )

    def _is_viewed(self, segment_id: int) -> bool:
        """Whether the delegator keeps this very copy up to date."""
        copy = self._copies.get(segment_id)
        return (
            copy is not None
            and self.view is not None
            and self.view.placement.get(segment_id) == copy.node_id
            and any(
                s.segment_id == segment_id and s.version == copy.version for s in self.view.sealed
            )
        )

    async def _load_one(self, node_id: int, request: LoadSegment, delta_ts: int) -> None:
        segment = request.segment
        node = await self._context.router.query_node(node_id)
        old = self._copies.get(segment.segment_id)
        if old is not None and old.node_id != node_id:
            self._left.add((old.node_id, segment.segment_id))
        self._left.discard((node_id, segment.segment_id))
        self._copies[segment.segment_id] = Copy(node_id, _UNKNOWN, _UNKNOWN)
        self._context.world.failpoints.hit("load_segment.before")
        await node.load_segment(request)
        self._copies[segment.segment_id] = Copy(node_id, segment.version, delta_ts)
        self.ready += 1

    async def _push(self, target: ShardTarget, placement: dict[int, int]) -> None:
        fresh = {
            segment.segment_id: self._copies[segment.segment_id].delta_ts
            for segment in target.segments
            if not self._is_viewed(segment.segment_id)
        }
        if self.view is not None and not fresh and self._says_the_same(target):
            return
        view = QueryView(
            vchannel=self.vchannel,
            version=await self._context.timestamps.allocate(),
            sealed=target.segments,
            superseded=target.superseded,
            delta_ts=min([target.delta_ts, *fresh.values()]),
            placement=placement,
            partition_ids=target.partition_ids,
            reloaded=frozenset(fresh),
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
        self.view = view
        self._prefer_replaced = True

    async def _send(self, view: QueryView) -> None:
        await (await self._channels.owner(self.vchannel)).update_view(view)

    def _says_the_same(self, target: ShardTarget) -> bool:
        view = self.view
        return (
            view is not None
            and view.sealed == target.segments
            and view.superseded == target.superseded
            and view.partition_ids == target.partition_ids
        )

    async def _release_superfluous(self, target: ShardTarget) -> None:
        wanted = {segment.segment_id for segment in target.segments}
        await self._release_copies([i for i in sorted(self._copies) if i not in wanted])

    async def _release_copies(self, segment_ids: list[int]) -> None:
        """These copies, and those that were left behind on other nodes."""
        by_node: dict[int, list[int]] = {}
        for segment_id in segment_ids:
            by_node.setdefault(self._copies[segment_id].node_id, []).append(segment_id)
        for node_id, segment_id in sorted(self._left):
            by_node.setdefault(node_id, []).append(segment_id)
        for node_id, ids in sorted(by_node.items()):
            try:
                node = await self._context.router.query_node(node_id)
            except Unavailable:
                pass  # the node is gone, and its copies with it
            else:
                await node.release_segments(tuple(ids))
            for segment_id in ids:
                self._left.discard((node_id, segment_id))
                copy = self._copies.get(segment_id)
                if copy is not None and copy.node_id == node_id:
                    del self._copies[segment_id]

    async def release(self) -> None:
        """The shard is no longer searched, then its copies go. May be repeated."""
        await (await self._channels.owner(self.vchannel)).release(self.vchannel)
        await self.forget()

    async def forget(self) -> None:
        """The shard is closed already: only its copies have to go. May be repeated."""
        self.view = None
        await self._release_copies(sorted(self._copies))


def reason_of(error: BaseException) -> str:
    return error.message if isinstance(error, ElanusError) else f"{type(error).__name__}: {error}"
