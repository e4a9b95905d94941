"""What is loaded: users' wishes as records, and one worker per loaded collection that brings the
query side there.

A worker sleeps until something concerns it (load, release, flush commit, compaction, index, drop)
and then makes rounds until one succeeds. What users see of it: state, progress, and the reason
while it isn't ready. After a restart the records say what to load again.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.query.admission import check_nodes, check_room
from elanus.coordinator.query.attention import CHECKS_PER_TURN, WAKES_PER_TURN, Attention
from elanus.coordinator.query.copies import Copy
from elanus.coordinator.query.shard import LoadedShard
from elanus.coordinator.query.shared import Shared
from elanus.coordinator.query.wishes import (
    check_indexes,
    replica_groups,
    with_load,
    with_replicas_moved,
    without_partitions,
)
from elanus.coordinator.query.worker import LoadedCollection, all_ended
from elanus.coordinator.records import CollectionState, LoadRecord
from elanus.coordinator.retry import delay_s
from elanus.coordinator.root.names import resolve_id
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import ElanusError, InvalidParameter
from elanus.model.catalog import CollectionInfo, LoadInfo, SegmentInfo
from elanus.model.types import LoadState

log = structlog.get_logger(__name__)

Held = dict[int, list[tuple[int, SegmentInfo]]]
"""(node id, segment) of what query nodes have, by collection id."""


class Loads:
    """See the module."""

    def __init__(self, context: Context, channels: Channels) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels
        self._shared = Shared(context, channels)
        self._loaded: dict[int, LoadedCollection] = {}
        self._stopping: dict[int, asyncio.Task[None]] = {}
        self._attention = Attention(
            self._shared, self._loaded, self._wake_in_a_hurry, self._may_do_better
        )
        self.nodes = self._shared.nodes
        self.nodes.listeners.append(self._nodes_changed)

    # --- what users ask for ---------------------------------------------------------------------

    async def load(
        self,
        collection_id: int,
        partition_ids: tuple[int, ...],
        replica_number: int,
        resource_groups: tuple[str, ...] = (),
    ) -> None:
        """Raises CollectionNotFound, PartitionNotFound, IndexNotFound, Rejected,
        ResourceInsufficient, ResourceGroupNotFound, ResourceGroupNodeNotEnough,
        MemoryLimitExceeded. The same again succeeds."""
        await self.nodes.refresh()
        replica_number = max(1, replica_number)
        asked = replica_groups(replica_number, resource_groups) if resource_groups else None
        info = resolve_id(self._catalog, collection_id)

        def decide() -> Change:
            nonlocal info
            info = resolve_id(self._catalog, collection_id)
            check_indexes(info, self._catalog.indexes(collection_id))
            known = self._catalog.tables.loads.get(collection_id)
            record = with_load(known, info, partition_ids, replica_number, asked)
            check_nodes(self.nodes, record)
            if record != known:
                self._check_room(info, record)
            return Change(put=[record])

        await self._change(collection_id, decide)

    async def transfer_replicas(
        self, source: str, target: str, collection_id: int, count: int
    ) -> None:
        """Raises CollectionNotFound, InvalidParameter, ResourceGroupNodeNotEnough."""

        def decide() -> Change:
            info = resolve_id(self._catalog, collection_id)
            known = self._catalog.tables.loads.get(collection_id)
            if known is None:
                raise InvalidParameter(
                    f"collectionID {collection_id}",
                    expected="Collection loaded",
                    actual="Collection not loaded",
                )
            record = with_replicas_moved(known, source, target, count)
            check_nodes(self.nodes, record)
            self._check_room(info, record)
            return Change(put=[record])

        await self._change(collection_id, decide)

    async def _change(self, collection_id: int, decide: Callable[[], Change]) -> None:
        before = self._catalog.tables.loads.get(collection_id)
        await self._catalog.commit(decide)
        # A release that came in between may have ended the worker and left the record as it was.
        info = self._catalog.collection(collection_id)
        if info is not None and (
            self._catalog.tables.loads.get(collection_id) != before
            or collection_id not in self._loaded
        ):
            self._start(info)
            self._context.events.metadata_changed(collection_id)

    def _check_room(self, info: CollectionInfo, record: LoadRecord) -> None:
        loaded = self._loaded.get(info.collection_id)
        vchannels = [shard.vchannel for shard in loaded.shards] if loaded is not None else []
        check_room(self._context, self.nodes, info, record, vchannels)

    async def release(self, collection_id: int, partition_ids: tuple[int, ...]) -> None:
        """Empty ``partition_ids`` means everything. What isn't loaded is fine."""
        info = resolve_id(self._catalog, collection_id)

        def decide() -> Change | None:
            known = self._catalog.tables.loads.get(collection_id)
            if known is None:
                return None
            rest = without_partitions(known, info, partition_ids)
            return Change(delete=[known]) if rest is None else Change(put=[rest])

        await self._catalog.commit(decide)
        if collection_id in self._catalog.tables.loads:
            self.wake(collection_id)
        else:
            self.stop(collection_id)
            stopping = self._stopping.get(collection_id)
            if stopping is not None:
                await asyncio.wait([stopping])
        self._context.events.metadata_changed(collection_id)

    async def load_info(self, collection_id: int) -> LoadInfo | None:
        record = self._catalog.tables.loads.get(collection_id)
        return None if record is None else self._info(record)

    async def loaded(self) -> list[LoadInfo]:
        """By collection id."""
        infos = []
        for number, (_, record) in enumerate(sorted(self._catalog.tables.loads.items())):
            infos.append(self._info(record, with_placement=False))
            if number % CHECKS_PER_TURN == 0:
                await asyncio.sleep(0)
        return infos

    def _info(self, record: LoadRecord, *, with_placement: bool = True) -> LoadInfo:
        loaded = self._loaded.get(record.collection_id)
        return LoadInfo(
            collection_id=record.collection_id,
            state=loaded.state if loaded else LoadState.LOADING,
            partition_ids=record.partition_ids,
            replica_number=record.replica_number,
            progress=loaded.progress if loaded else 0,
            reason=loaded.reason if loaded else "waiting for the coordinator to recover",
            restoring=loaded.restoring if loaded else True,
            placement={
                segment_id: nodes
                for shard in (loaded.shards if loaded and with_placement else ())
                for segment_id, nodes in shard.placement().items()
            },
            resource_groups=record.resource_groups,
        )

    # --- events ---------------------------------------------------------------------------------

    async def restore(self, held: Held) -> None:
        """At start: load again what was loaded; ``held``: copies that are there. What was
        not loaded, or was being released, is released from owners that served it before."""
        wanted = []
        for number, info in enumerate(self._catalog.collections(CollectionState.CREATED)):
            is_wanted = info.collection_id in self._catalog.tables.loads
            if is_wanted or any(map(self._channels.is_adopted, info.vchannels)):
                loaded = self._make(info, held.get(info.collection_id, ()))
                loaded.restoring = True
                self._loaded[info.collection_id] = loaded
                if is_wanted:
                    wanted.append(info)
                else:
                    self.stop(info.collection_id)
            if number % WAKES_PER_TURN == 0:
                await asyncio.sleep(0)
        # Only now: what is there counts before anybody decides what should move.
        for number, info in enumerate(wanted):
            if info.collection_id in self._loaded:
                self._start(info)
            if number % WAKES_PER_TURN == 0:
                await self._attention.let_plan()

    def wake(self, collection_id: int) -> None:
        """Something changed that may concern a loaded collection."""
        loaded = self._loaded.get(collection_id)
        if loaded is not None:
            loaded.wake()

    def query_nodes_changed(self) -> None:
        """Query nodes came, went or are stopping: load what is lost, move what weighs too much."""
        self._context.world.tasks.spawn("look at query nodes", self.nodes.refresh())

    def _nodes_changed(self, left: set[int]) -> None:
        for node_id in left:
            shards = self._shared.holders.on(node_id).values()
            self._attention.wake({shard.collection_id for shard in shards})
        self._attention.look()

    def logs_moved(self, pchannels: Iterable[str]) -> None:
        """Shards may have new delegators: push their views again."""
        for pchannel in pchannels:
            for vchannel, info in self._catalog.vchannels_on(pchannel):
                loaded = self._loaded.get(info.collection_id)
                for shard in loaded.shards if loaded is not None else ():
                    if shard.vchannel == vchannel:
                        shard.invalidate()
                        self._attention.wake([info.collection_id])

    def look_for_unevenness(self) -> None:
        """Wake what could make nodes more alike, unless nothing has changed since it couldn't."""
        if any(map(self._shared.is_uneven, self.nodes.configs())):
            self._attention.look(only_if_changed=True)

    def _may_do_better(self, collection_id: int) -> bool:
        """Whether other nodes could give the collection missing copies or a better place."""
        loaded = self._loaded.get(collection_id)
        record = self._catalog.tables.loads.get(collection_id)
        if loaded is None or record is None:
            return False
        is_lacking = loaded.is_failing or any(shard.is_short for shard in loaded.shards)
        return is_lacking or any(map(self._shared.is_uneven, record.copies()))

    def _wake_in_a_hurry(self, collection_id: int) -> None:
        """What made the last round fail may be over."""
        loaded = self._loaded.get(collection_id)
        if loaded is not None:
            loaded.wake()
            loaded.hurry.set()

    def stop(self, collection_id: int) -> None:
        """The collection was released or dropped: end its worker, then free what it holds."""
        loaded = self._loaded.pop(collection_id, None)
        if loaded is not None:
            self._stopping[collection_id] = self._context.world.tasks.spawn(
                f"release collection {collection_id}", self._stop(loaded)
            )

    def shows(self, collection_id: int, segments: Iterable[SegmentInfo]) -> bool:
        """Whether reads of what is loaded find all rows of segments that were flushed."""
        record = self._catalog.tables.loads.get(collection_id)
        if record is None:
            return True
        loaded, wanted = self._loaded.get(collection_id), record.partition_ids
        return loaded is not None and loaded.shows(
            each for each in segments if not wanted or each.partition_id in wanted
        )

    def holds(self, segment: SegmentInfo) -> bool:
        """Whether a view, a loaded copy, or one that is being made may refer to the segment."""
        if segment.collection_id in self._stopping:
            return True
        loaded = self._loaded.get(segment.collection_id)
        if loaded is None:
            return segment.collection_id in self._catalog.tables.loads
        return any(
            shard.behind or segment.segment_id in shard.segment_ids()
            for shard in loaded.shards
            if shard.vchannel == segment.vchannel
        )

    def believed(self, node_id: int) -> list[tuple[int, LoadedShard, Copy]]:
        """Segments that should be on the node, their shards, and the copies there."""
        return [
            (segment_id, shard, copy)
            for segment_id, shard in self._shared.holders.on(node_id).items()
            if (copy := shard.believed(node_id, segment_id)) is not None
        ]

    def collections_on(self, node_id: int) -> set[int]:
        """Those that the node has a segment of."""
        return {shard.collection_id for shard in self._shared.holders.on(node_id).values()}

    def unsettled(self) -> list[LoadedShard]:
        """Shards that are being brought to what they should be."""
        return [
            shard for loaded in self._loaded.values() for shard in loaded.shards if shard.behind
        ]

    def is_stranger(self, node_id: int, segment: SegmentInfo) -> bool:
        """Whether surely nobody uses the copy that the node holds."""
        if segment.collection_id in self._stopping:
            return False
        loaded = self._loaded.get(segment.collection_id)
        if loaded is None:
            return segment.collection_id not in self._catalog.tables.loads
        return not any(
            shard.behind or shard.uses(node_id, segment.segment_id) for shard in loaded.shards
        )

    # --- workers --------------------------------------------------------------------------------

    def _make(
        self, info: CollectionInfo, copies: Iterable[tuple[int, SegmentInfo]]
    ) -> LoadedCollection:
        shards = [LoadedShard(self._shared, info.collection_id, each) for each in info.vchannels]
        loaded = LoadedCollection(info.collection_id, shards)
        for node_id, segment in copies:
            for shard in loaded.shards:
                if shard.vchannel == segment.vchannel:
                    shard.adopt(node_id, segment)
        for shard in loaded.shards:
            shard.tell_copies(info)
        return loaded

    def _start(self, info: CollectionInfo) -> None:
        loaded = self._loaded.get(info.collection_id)
        if loaded is None:
            loaded = self._loaded[info.collection_id] = self._make(info, ())
        if loaded.task is None:
            loaded.task = self._context.world.tasks.spawn(
                f"load collection {info.collection_id}", self._work(loaded)
            )
        loaded.state = LoadState.LOADING
        loaded.reason = "waiting to be loaded"
        loaded.wake()

    async def _work(self, loaded: LoadedCollection) -> None:
        stopping = self._stopping.get(loaded.collection_id)
        if stopping is not None:
            await asyncio.wait([stopping])
        failures = 0
        while True:
            await loaded.wanted.wait()
            loaded.wanted.clear()
            loaded.hurry.clear()
            try:
                await self._round(loaded)
                failures = 0
                loaded.is_failing = False
            except ElanusError as error:
                failures += 1
                loaded.is_failing = True
                loaded.reason = error.message
                loaded.wanted.set()
                log.info(
                    "collection not loaded yet",
                    collection_id=loaded.collection_id,
                    failures=failures,
                    reason=loaded.reason,
                )
                longest_s = delay_s(self._context.world, failures + 1)
                await loaded.pause(self._context.world.clock, longest_s)

    async def _round(self, loaded: LoadedCollection) -> None:
        record = self._catalog.tables.loads.get(loaded.collection_id)
        info = self._catalog.collection(loaded.collection_id)
        if record is None or info is None:
            return
        if loaded.state is LoadState.LOADING:
            loaded.reason = "segments are being loaded"
        unfinished = await all_ended(shard.reconcile(info, record) for shard in loaded.shards)
        if any(unfinished):
            loaded.wanted.set()
        now = self._catalog.tables.loads.get(loaded.collection_id)
        if loaded.state is LoadState.LOADING and now == record:
            loaded.state = LoadState.LOADED
            loaded.restoring = False
            self._context.events.metadata_changed(loaded.collection_id)
        loaded.reason = ""

    async def _stop(self, loaded: LoadedCollection) -> None:
        if loaded.task is not None:
            loaded.task.cancel()
            await asyncio.wait([loaded.task])
        try:
            failures = 0
            while True:
                dropped = self._catalog.collection(loaded.collection_id) is None
                try:
                    await all_ended(s.forget() if dropped else s.release() for s in loaded.shards)
                    return
                except ElanusError as error:
                    failures += 1
                    log.info("release waits", reason=error.message, failures=failures)
                    await self._context.world.clock.sleep(delay_s(self._context.world, failures))
        finally:
            del self._stopping[loaded.collection_id]
