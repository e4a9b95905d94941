"""What is loaded: users' wishes as records, and one worker per loaded collection that brings the
query side there.

A worker sleeps until something concerns it (load, release, flush commit, compaction, index, drop)
and then makes rounds until one succeeds. What users see of it: state, progress, and the reason
while it isn't ready. After a restart the records say what to load again.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.query.planned import PlannedRows
from elanus.coordinator.query.shard import Copy, LoadedShard, reason_of
from elanus.coordinator.query.wishes import check_indexes, with_load, without_partitions
from elanus.coordinator.records import CollectionState, LoadRecord
from elanus.coordinator.retry import delay_s
from elanus.coordinator.root.names import resolve_id
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import ElanusError, ResourceInsufficient
from elanus.model.catalog import CollectionInfo, LoadInfo, SegmentInfo
from elanus.model.types import LoadState

log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_PARALLEL_LOADS = 4
"""Segments that are being loaded at the same time, all collections together."""


class _Loaded:
    """A worker's state."""

    def __init__(self, collection_id: int, shards: Sequence[LoadedShard]) -> None:
        self.collection_id = collection_id
        self.shards = shards
        self.state = LoadState.LOADING
        self.reason = "waiting to be loaded"
        self.restoring = False
        self.wanted = asyncio.Event()
        self.hurry = asyncio.Event()
        """Why the last round failed may be over: try again at once."""

        self.task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        for shard in self.shards:
            shard.behind = True
        self.wanted.set()

    @property
    def progress(self) -> int:
        if self.state is LoadState.LOADED:
            return 100
        total = sum(shard.total for shard in self.shards)
        ready = sum(shard.ready for shard in self.shards)
        return 99 * ready // total if total else 0


class Loads:
    """See the module."""

    def __init__(self, context: Context, channels: Channels) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels
        self._loaded: dict[int, _Loaded] = {}
        self._stopping: dict[int, asyncio.Task[None]] = {}
        self._planned = PlannedRows()
        self._slots = asyncio.Semaphore(MAX_PARALLEL_LOADS)

    # --- what users ask for ---------------------------------------------------------------------

    async def load(
        self, collection_id: int, partition_ids: tuple[int, ...], replica_number: int
    ) -> None:
        """Raises CollectionNotFound, PartitionNotFound, IndexNotFound, Rejected,
        ResourceInsufficient. The same again succeeds."""
        nodes = await self._context.router.query_nodes()
        if replica_number > max(1, len(nodes)):
            raise ResourceInsufficient(
                f"{replica_number} replicas need as many query nodes, there are {len(nodes)}: "
                "service resource insufficient"
            )
        info = resolve_id(self._catalog, collection_id)

        def decide() -> Change:
            nonlocal info
            info = resolve_id(self._catalog, collection_id)
            check_indexes(info, self._catalog.indexes(collection_id))
            known = self._catalog.tables.loads.get(collection_id)
            return Change(put=[with_load(known, info, partition_ids, max(1, replica_number))])

        before = self._catalog.tables.loads.get(collection_id)
        await self._catalog.commit(decide)
        # A release that came in between may have ended the worker and left the record as it was.
        if (
            self._catalog.tables.loads.get(collection_id) != before
            or collection_id not in self._loaded
        ):
            self._start(info)
            self._context.events.metadata_changed(collection_id)

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
        return [self._info(record) for _, record in sorted(self._catalog.tables.loads.items())]

    def _info(self, record: LoadRecord) -> LoadInfo:
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
                for shard in (loaded.shards if loaded else ())
                for segment_id, nodes in shard.placement().items()
            },
        )

    # --- events ---------------------------------------------------------------------------------

    def restore(self, held: Iterable[tuple[int, SegmentInfo]]) -> None:
        """At start: load again what was loaded; ``held``: copies that are there, by node. What was
        not loaded, or was being released, is released from owners that served it before."""
        by_collection: dict[int, list[tuple[int, SegmentInfo]]] = {}
        for node_id, segment in held:
            by_collection.setdefault(segment.collection_id, []).append((node_id, segment))
        for info in self._catalog.collections(CollectionState.CREATED):
            copies = by_collection.get(info.collection_id, [])
            if info.collection_id in self._catalog.tables.loads:
                self._start(info, copies, restoring=True)
            elif any(map(self._channels.is_adopted, info.vchannels)):
                loaded = self._make(info, copies)
                self._loaded[info.collection_id] = loaded
                self.stop(info.collection_id)

    def wake(self, collection_id: int) -> None:
        """Something changed that may concern a loaded collection."""
        loaded = self._loaded.get(collection_id)
        if loaded is not None:
            loaded.wake()

    def query_nodes_changed(self) -> None:
        """Query nodes came, went or are stopping: load what is lost, move what weighs too much."""
        for loaded in self._loaded.values():
            loaded.wake()
            loaded.hurry.set()

    def logs_moved(self) -> None:
        """Shards may have new delegators: push every view again."""
        for loaded in self._loaded.values():
            for shard in loaded.shards:
                shard.invalidate()
            loaded.wake()
            loaded.hurry.set()

    def stop(self, collection_id: int) -> None:
        """The collection was released or dropped: end its worker, then free what it holds."""
        loaded = self._loaded.pop(collection_id, None)
        if loaded is not None:
            self._stopping[collection_id] = self._context.world.tasks.spawn(
                f"release collection {collection_id}", self._stop(loaded)
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

    def believed(self, node_id: int) -> list[tuple[int, LoadedShard, dict[int, Copy]]]:
        """By collection and shard, the copies that should be on the node."""
        return [
            (collection_id, shard, shard.believed(node_id))
            for collection_id, loaded in self._loaded.items()
            for shard in loaded.shards
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

    def _make(self, info: CollectionInfo, copies: Iterable[tuple[int, SegmentInfo]]) -> _Loaded:
        context, channels, planned = self._context, self._channels, self._planned
        shards = [LoadedShard(context, channels, planned, each) for each in info.vchannels]
        loaded = _Loaded(info.collection_id, shards)
        for node_id, segment in copies:
            for shard in loaded.shards:
                if shard.vchannel == segment.vchannel:
                    shard.adopt(node_id, segment.segment_id)
        return loaded

    def _start(
        self,
        info: CollectionInfo,
        copies: Iterable[tuple[int, SegmentInfo]] = (),
        *,
        restoring: bool = False,
    ) -> None:
        loaded = self._loaded.get(info.collection_id)
        if loaded is None:
            loaded = self._make(info, copies)
            loaded.restoring = restoring
            self._loaded[info.collection_id] = loaded
            loaded.task = self._context.world.tasks.spawn(
                f"load collection {info.collection_id}", self._work(loaded)
            )
        loaded.state = LoadState.LOADING
        loaded.reason = "waiting to be loaded"
        loaded.wake()

    async def _work(self, loaded: _Loaded) -> None:
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
            except ElanusError as error:
                failures += 1
                loaded.reason = reason_of(error)
                loaded.wanted.set()
                log.info(
                    "collection not loaded yet",
                    collection_id=loaded.collection_id,
                    failures=failures,
                    reason=loaded.reason,
                )
                await self._pause(loaded, delay_s(self._context.world, failures + 1))

    async def _pause(self, loaded: _Loaded, longest_s: float) -> None:
        """Until there is a hurry, or the time is over."""
        over = asyncio.ensure_future(self._context.world.clock.sleep(longest_s))
        hurry = asyncio.ensure_future(loaded.hurry.wait())
        try:
            await asyncio.wait({over, hurry}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            hurry.cancel()

    async def _round(self, loaded: _Loaded) -> None:
        record = self._catalog.tables.loads.get(loaded.collection_id)
        info = self._catalog.collection(loaded.collection_id)
        if record is None or info is None:
            return
        if loaded.state is LoadState.LOADING:
            loaded.reason = "segments are being loaded"
        unfinished = await _all(
            shard.reconcile(info, record.partition_ids, record.replica_number, self._slots)
            for shard in loaded.shards
        )
        if any(unfinished):
            loaded.wanted.set()
        now = self._catalog.tables.loads.get(loaded.collection_id)
        if loaded.state is LoadState.LOADING and now == record:
            loaded.state = LoadState.LOADED
            loaded.restoring = False
            self._context.events.metadata_changed(loaded.collection_id)
        loaded.reason = ""

    async def _stop(self, loaded: _Loaded) -> None:
        if loaded.task is not None:
            loaded.task.cancel()
            await asyncio.wait([loaded.task])
        try:
            failures = 0
            while True:
                dropped = self._catalog.collection(loaded.collection_id) is None
                try:
                    await _all(s.forget() if dropped else s.release() for s in loaded.shards)
                    return
                except ElanusError as error:
                    failures += 1
                    log.info("release waits", reason=reason_of(error), failures=failures)
                    await self._context.world.clock.sleep(delay_s(self._context.world, failures))
        finally:
            del self._stopping[loaded.collection_id]


async def _all(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of them to their end, then raise the first error."""
    results: list[T] = []
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
