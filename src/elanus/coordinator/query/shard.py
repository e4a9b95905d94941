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
forgotten that far. If no file has deletes since then that could be for it, there is nothing to get:
so a new delegator, or a new coordinator, goes on with the copies that are there.

Planning is one synchronous step, and shards take turns in it: however many of them have something
to do, the event loop is never held up for longer than by one of them.
"""

from collections.abc import Sequence
from functools import partial

from elanus.coordinator.data.compaction_policy import may_touch
from elanus.coordinator.data.definitions import is_vector_index
from elanus.coordinator.query.copies import UNKNOWN, Copies, Copy, Key
from elanus.coordinator.query.fullness import NOTHING, Weight
from elanus.coordinator.query.load_queue import Job
from elanus.coordinator.query.placement import Placement, Wanted, balance, place, same_nodes
from elanus.coordinator.query.shared import Shared
from elanus.coordinator.query.target import ShardTarget, shard_target
from elanus.coordinator.query.weights import weights_of
from elanus.coordinator.records import LoadRecord
from elanus.coordinator.retry import retry
from elanus.errors import Unavailable
from elanus.model.catalog import CollectionInfo, IndexInfo, SegmentInfo
from elanus.model.types import SegmentLevel
from elanus.services.messages import LoadSegment, QueryView

VIEW_ATTEMPTS = 4


class LoadedShard:
    """State of one shard of a loaded collection. ``view`` is the last one acknowledged;
    ``is_short``: there were fewer nodes than wanted copies."""

    def __init__(self, shared: Shared, collection_id: int, vchannel: str) -> None:
        self._shared = shared
        self._context = shared.context
        self._catalog = shared.context.catalog
        self._channels = shared.channels
        self._nodes = shared.nodes
        self.collection_id = collection_id
        self.vchannel = vchannel
        self.view: QueryView | None = None
        self._viewed: dict[int, int] = {}
        self.total = 0
        self.ready = 0
        self.behind = True
        self.is_short = False
        self._copies: Copies[LoadedShard] = Copies(self, shared.holders)
        self._prefer_replaced = True
        self._has_lost_copies = False
        self._settled_at: tuple[object, ...] | None = None

    def segment_ids(self) -> set[int]:
        """Segments that a view or a loaded copy refers to."""
        return {segment_id for segment_id, _ in self._copies} | set(self._viewed)

    def placement(self) -> Placement:
        """The nodes of each segment that is read."""
        return {} if self.view is None else self.view.placement

    def shows(self, segment: SegmentInfo) -> bool:
        """Whether the view has the rows of a segment that was flushed, in itself or in what it was
        compacted into. The record of a dropped one stays until no view can lack that."""
        if self.view is None:
            return False
        is_gone = self._catalog.segment(self.collection_id, segment.segment_id) is None
        return is_gone or segment.segment_id in self.view.superseded

    def node_ids(self) -> set[int]:
        """Nodes that have a copy."""
        return {node_id for _, node_id in self._copies}

    def invalidate(self) -> None:
        """The delegator may have lost the view: push one again."""
        self._settled_at = None
        self._set_view(None)
        self.behind = True

    def tell_copies(self, collection: CollectionInfo) -> None:
        """Count the copies that are there: other shards plan beside them."""
        known = self._catalog.tables.segments.get(self.collection_id, {})
        here = {i: known[i] for i, _ in self._copies if i in known}
        weights = weights_of(self._context, collection.schema, here.values())
        loads: dict[int, Weight] = {}
        for segment_id, node_id in self._copies:
            if segment_id in weights:
                loads[node_id] = loads.get(node_id, NOTHING).plus(weights[segment_id])
        self._nodes.fullness.tell(self.vchannel, loads)

    def adopt(self, node_id: int, segment: SegmentInfo) -> None:
        """A former coordinator had this version loaded there: use it or release it."""
        key = (segment.segment_id, node_id)
        if key not in self._copies:
            self._copies.set(key, Copy(segment.version, 0))

    def believed(self, node_id: int, segment_id: int) -> Copy | None:
        """The copy that the node has told to have."""
        copy = self._copies.get((segment_id, node_id))
        return copy if copy is not None and copy.version != UNKNOWN else None

    def uses(self, node_id: int, segment_id: int) -> bool:
        """Whether the copy there is, or may be, one of this shard's; sure while not ``behind``."""
        return (segment_id, node_id) in self._copies

    def lose(self, node_id: int, segment_id: int, copy: Copy) -> bool:
        """The node does not have this copy. True if that was news."""
        if self._copies.get((segment_id, node_id)) is not copy:
            return False
        self._copies.drop((segment_id, node_id))
        self._has_lost_copies = True
        self.invalidate()
        return True

    async def reconcile(self, collection: CollectionInfo, record: LoadRecord) -> bool:
        """One round; whether it should be followed by another one. Raises what the first failed
        step raised."""
        self.behind = True
        if self._has_lost_copies:
            # Copies that are loaded anew must not be read before they have all deletes.
            await (await self._channels.owner(self.vchannel)).release(self.vchannel)
            self._has_lost_copies = False
        await self._nodes.refresh()
        if self._is_settled(record):
            self.behind = False
            return False
        async with self._shared.turns:
            stamp, self._settled_at = self._stamp(record), None
            target = self._target(collection, record)
            before = self._current(target)
            planned = self._plan(collection, target, before, record.copies())
            jobs = self._missing(collection, target, planned)
        failure = await self._shared.queue.run(jobs)
        placement = self._usable(target, planned)
        if failure is not None and not all(placement.values()):
            raise failure
        await self._push(target, placement)
        await self._release_copies(self._superfluous(planned, placement))
        if failure is not None:
            raise failure
        self.behind = False
        if not same_nodes(planned, before) and any(map(self._shared.is_uneven, record.copies())):
            return True  # nothing is missing now: the next round may move
        self._settled_at = stamp
        return False

    def _stamp(self, record: LoadRecord) -> tuple[object, ...]:
        """Equal as long as nothing has changed that the target or its place follows from."""
        version = self._catalog.tables.versions.get(self.collection_id)
        return record, version, self._nodes.version, self._prefer_replaced

    def _is_settled(self, record: LoadRecord) -> bool:
        """Whether a round would change nothing."""
        if self.view is None or self.is_short or self._settled_at != self._stamp(record):
            return False
        return not any(map(self._shared.is_uneven, record.copies()))

    def _target(self, collection: CollectionInfo, record: LoadRecord) -> ShardTarget:
        if self._nodes.is_empty:
            raise Unavailable("no query node is alive")
        mine = [
            segment
            for segment in self._catalog.segments(collection.collection_id)
            if segment.vchannel == self.vchannel and segment.level is not SegmentLevel.L0
        ]
        indexes = self._catalog.indexes(collection.collection_id)
        vector_indexes = {i.index_id for i in indexes if is_vector_index(collection, i)}
        viewed = self.view.sealed if self.view is not None and self._prefer_replaced else ()
        groups, group_of = record.copies(), self._nodes.fullness.group_of
        held = {k[0] for k in self._copies if group_of(k[1]) in groups and self._is_viewed(k)}
        return shard_target(
            mine,
            self._catalog.checkpoint(self.vchannel),
            record.partition_ids,
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
        self,
        collection: CollectionInfo,
        target: ShardTarget,
        before: Placement,
        copies: dict[str, int],
    ) -> Placement:
        """Who is to hold what. Moves wait until nothing is missing."""
        settings = self._context.settings.query_coord
        weights = weights_of(self._context, collection.schema, target.segments)
        wanted = Wanted(self.vchannel, weights, copies, target.replaced)
        planned = place(wanted, before, self._nodes.fullness)
        if settings.auto_balance and same_nodes(planned, before):
            tolerance = settings.score_unbalance_toleration_factor
            planned = balance(wanted, planned, self._nodes.fullness, tolerance)
        replicas = sum(copies.values())
        self.is_short = any(len(held) < replicas for held in planned.values())
        return planned

    def _missing(
        self, collection: CollectionInfo, target: ShardTarget, planned: Placement
    ) -> list[Job]:
        """Loading of the planned copies that are missing or outdated."""
        # The deletes of this very moment, which ``target.delta_ts`` is about.
        deltas = self._catalog.deltas(collection.collection_id, self.vchannel)
        indexes = self._catalog.built_indexes(collection.collection_id)
        self._refresh_copies(target, deltas)
        wanted = [
            (segment, node_id)
            for segment in target.segments
            for node_id in planned[segment.segment_id]
            if not self._is_ready(segment, node_id, target)
        ]
        self.total = sum(map(len, planned.values()))
        self.ready = self.total - len(wanted)
        load = partial(self._load_one, collection, indexes, deltas, target.delta_ts)
        return [(node_id, partial(load, segment, node_id)) for segment, node_id in wanted]

    def _refresh_copies(self, target: ShardTarget, deltas: Sequence[SegmentInfo]) -> None:
        """Copies that no view has, and that files have nothing new for, are as good as new."""
        by_segment = {segment.segment_id: segment for segment in target.segments}
        for key in list(self._copies):
            copy, segment = self._copies.get(key), by_segment.get(key[0])
            if copy is None or segment is None or copy.version < segment.version:
                continue
            if copy.delta_ts >= target.delta_ts or self._is_viewed(key):
                continue
            late = (delta for delta in deltas if delta.max_ts > copy.delta_ts)
            if not any(may_touch(delta, segment) for delta in late):
                self._copies.set(key, Copy(copy.version, target.delta_ts))

    def _is_ready(self, segment: SegmentInfo, node_id: int, target: ShardTarget) -> bool:
        key = (segment.segment_id, node_id)
        copy = self._copies.get(key)
        return (
            copy is not None
            and copy.version >= segment.version
            and (self._is_viewed(key) or copy.delta_ts >= target.delta_ts)
        )

    def _usable(self, target: ShardTarget, planned: Placement) -> Placement:
        """The planned copies that are ready; in their place, others of the segment that are."""
        placement: Placement = {}
        others: dict[int, list[int]] | None = None
        for segment in target.segments:
            segment_id = segment.segment_id
            wanted = planned[segment_id]
            ready = tuple(n for n in wanted if self._is_ready(segment, n, target))
            if not ready:
                others = self._copies.by_segment() if others is None else others
                held = sorted(n for n in others.get(segment_id, ()) if n in self._nodes.serving)
                ready = tuple(n for n in held if self._is_ready(segment, n, target))
            placement[segment_id] = ready
        return placement

    def _is_viewed(self, key: Key) -> bool:
        """Whether the delegator keeps this very copy up to date."""
        segment_id, node_id = key
        version = self._viewed.get(segment_id)
        if version is None or self.view is None or node_id not in self.view.placement[segment_id]:
            return False
        copy = self._copies.get(key)
        return copy is not None and version == copy.version

    def _set_view(self, view: QueryView | None) -> None:
        self.view = view
        sealed = () if view is None else view.sealed
        self._viewed = {segment.segment_id: segment.version for segment in sealed}

    async def _load_one(
        self,
        collection: CollectionInfo,
        indexes: tuple[IndexInfo, ...],
        deltas: Sequence[SegmentInfo],
        delta_ts: int,
        segment: SegmentInfo,
        node_id: int,
    ) -> None:
        key = (segment.segment_id, node_id)
        node = await self._context.router.query_node(node_id)
        self._copies.set(key, Copy(UNKNOWN, UNKNOWN))
        self._context.world.failpoints.hit("load_segment.before")
        damaged = await node.load_segment(
            LoadSegment(
                segment=segment,
                collection=collection,
                indexes=indexes,
                deltas=tuple(delta for delta in deltas if may_touch(delta, segment)),
            )
        )
        self._copies.set(key, Copy(segment.version, delta_ts))
        self.ready += 1
        if damaged:
            self._context.events.index_files_damaged(segment, damaged)

    async def _push(self, target: ShardTarget, placement: Placement) -> None:
        placed = [(segment_id, node) for segment_id, nodes in placement.items() for node in nodes]
        fresh = {
            key: copy.delta_ts
            for key in placed
            if not self._is_viewed(key) and (copy := self._copies.get(key)) is not None
        }
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

    def _superfluous(self, planned: Placement, placement: Placement) -> list[Key]:
        return [
            key
            for key in sorted(self._copies)
            if key[1] not in planned.get(key[0], ()) and key[1] not in placement.get(key[0], ())
        ]

    async def _release_copies(self, keys: list[Key]) -> None:
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
                self._copies.drop((segment_id, node_id))

    async def release(self) -> None:
        """The shard is no longer searched, then its copies go. May be repeated."""
        await (await self._channels.owner(self.vchannel)).release(self.vchannel)
        await self.forget()

    async def forget(self) -> None:
        """The shard is closed already: only its copies have to go. May be repeated."""
        self._set_view(None)
        self._nodes.fullness.forget(self.vchannel)
        await self._release_copies(sorted(self._copies))
