"""The streaming node: owns pchannels, and is the delegator of their shards.

A pchannel is open (serving), being opened, or not here. While it is opened again after a failed
append, its shards go on answering reads; writes are refused until the log has been read again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import structlog

from elanus.config.settings import Settings
from elanus.errors import ElanusError, FencedWriter, NotServed, Unavailable
from elanus.model.catalog import CollectionInfo, IndexInfo, pchannel_of
from elanus.runtime.world import World
from elanus.services.interfaces import CoordinatorService
from elanus.services.messages import (
    FlushTicket,
    GrowingInfo,
    QueryRequest,
    QueryResponse,
    QueryView,
    SearchRequest,
    SearchResponse,
    WriteRequest,
)
from elanus.services.routing import Router
from elanus.storage.objects.base import ObjectStore
from elanus.storage.wal.base import Wal
from elanus.workers.streaming.apply import Applier
from elanus.workers.streaming.delegator import Delegator
from elanus.workers.streaming.flush import Flusher
from elanus.workers.streaming.growing_index import GrowingIndexer
from elanus.workers.streaming.pchannel import Pchannel
from elanus.workers.streaming.recovery import recover
from elanus.workers.streaming.sealer import Sealer
from elanus.workers.streaming.shard import Shard
from elanus.workers.streaming.tsafe import SafeTime
from elanus.workers.streaming.views import ViewSwitcher

log = structlog.get_logger(__name__)

_FIRST_REOPEN_PAUSE_S = 0.1
_LONGEST_REOPEN_PAUSE_S = 10.0

T = TypeVar("T")


class StreamingNode:
    """Implements ``services.interfaces.StreamingService``."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        wal: Wal,
        objects: ObjectStore,
        coordinator: CoordinatorService,
        router: Router,
    ) -> None:
        self._world = world
        self._settings = settings
        self._wal = wal
        self._coordinator = coordinator
        self._applier = Applier(world, router)
        self._delegator = Delegator(world, router)
        self._views = ViewSwitcher(world, coordinator, self._applier)
        self._flusher = Flusher(world, coordinator, objects, wal)
        self._sealer = Sealer(world, settings, self._shards_by_pchannel)
        self._indexer = GrowingIndexer(world)
        self._pchannels: dict[str, Pchannel] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._closing = False

    # --- life cycle -----------------------------------------------------------------------------

    async def open_pchannel(self, pchannel: str, term: int) -> None:
        async with self._opening.setdefault(pchannel, asyncio.Lock()):
            owned = self._pchannels.get(pchannel)
            if owned is not None and owned.term > term:
                raise FencedWriter(f"{pchannel} is open at term {owned.term}, not {term}")
            if owned is not None and owned.term == term and owned.broken is None:
                return
            await self._open(pchannel, term, owned)

    async def _open(self, name: str, term: int, previous: Pchannel | None) -> None:
        """Fence, recover, serve. The shards of ``previous`` answer reads until then."""
        if previous is not None:
            await previous.close()
            await self._flusher.wait_idle(previous)
        writer = await self._wal.open_writer(name, term)
        try:
            recovered = await recover(self._world, self._wal, self._coordinator, name)
            known_ts = await self._coordinator.allocate_timestamps(1)
        except BaseException:
            await writer.close()
            raise
        pchannel = Pchannel(
            self._world,
            self._settings,
            self._coordinator,
            name=name,
            term=term,
            writer=writer,
            safe_time=SafeTime(
                self._world.clock,
                self._coordinator,
                self._settings.query_node.max_timestamp_lag,
                known_ts,
            ),
            applier=self._applier,
            shards=recovered.shards,
            last_position=recovered.last_position,
            on_sealed=self._flusher.request,
            on_grown=self._grown,
            on_broken=self._reopen_later,
        )
        if previous is None:
            self._pchannels[name] = pchannel
        else:
            await self._replace(previous, pchannel)
        pchannel.start()
        for shard in pchannel.shards.values():
            self._flusher.request(pchannel, shard)

    async def _replace(self, previous: Pchannel, pchannel: Pchannel) -> None:
        """Put ``pchannel`` in the place of ``previous`` in one step: until then the old shards
        answer reads from all that they hold, from then on the new ones do."""
        async with AsyncExitStack() as held:
            for vchannel, old in list(previous.shards.items()):
                await held.enter_async_context(old.view_lock)
                if vchannel in pchannel.shards:
                    await self._views.prepare(pchannel.shards[vchannel], old)
            for vchannel, old in previous.shards.items():
                if vchannel in pchannel.shards:
                    self._views.inherit(pchannel.shards[vchannel], old)
                old.closed = True
                self._world.memory.release("growing", old.drop_everything())
            # Reads don't go back: neither behind what was read nor behind the views' versions.
            pchannel.safe_time.note_issued(previous.safe_time.known_ts)
            self._pchannels[pchannel.name] = pchannel

    async def close_pchannel(self, pchannel: str, term: int) -> None:
        async with self._opening.setdefault(pchannel, asyncio.Lock()):
            owned = self._pchannels.get(pchannel)
            if owned is None or owned.term > term:
                return
            del self._pchannels[pchannel]
            await owned.close()
            await self._flusher.wait_idle(owned)
            for shard in owned.shards.values():
                shard.closed = True
                self._world.memory.release("growing", shard.drop_everything())

    def _reopen_later(self, pchannel: Pchannel, error: ElanusError) -> None:
        if isinstance(error, FencedWriter):
            return  # another owner has it; this one only waits to be told
        self._world.tasks.spawn(f"reopen {pchannel.name}", self._reopen(pchannel))

    async def _reopen(self, pchannel: Pchannel) -> None:
        pause_s = _FIRST_REOPEN_PAUSE_S
        while not self._closing and self._pchannels.get(pchannel.name) is pchannel:
            try:
                await self.open_pchannel(pchannel.name, pchannel.term)
            except FencedWriter:
                return
            except ElanusError as error:
                log.warning("log not recovered yet", pchannel=pchannel.name, error=str(error))
                await self._world.clock.sleep(pause_s)
                pause_s = min(_LONGEST_REOPEN_PAUSE_S, pause_s * 2)

    def terms(self) -> dict[str, int]:
        """The pchannels that this node owns now, with the terms at which it does."""
        return {name: self._pchannels[name].term for name in sorted(self._pchannels)}

    async def close(self) -> None:
        """Finish the groups in flight and stop. What is growing comes back from the WAL."""
        self._closing = True
        for pchannel in list(self._pchannels.values()):
            for shard in pchannel.shards.values():
                shard.closed = True
            await pchannel.close()
        self._pchannels.clear()

    # --- shards ---------------------------------------------------------------------------------

    async def open_vchannel(self, collection: CollectionInfo, vchannel: str) -> None:
        indexes = tuple(await self._coordinator.list_indexes(collection.collection_id))
        pchannel = self._pchannel(vchannel)
        if vchannel not in pchannel.shards:
            if pchannel.broken is not None:
                # Its recovery may have begun without knowing of this shard.
                raise Unavailable(f"the log of {vchannel} is being recovered, try again")
            pchannel.shards[vchannel] = Shard(vchannel, collection, indexes)

    async def close_vchannel(self, vchannel: str) -> None:
        shard = self._pchannel(vchannel).shards.pop(vchannel, None)
        if shard is not None:
            shard.closed = True
            shard.view = None
            self._world.memory.release("growing", shard.drop_everything())

    async def update_collection(
        self, collection: CollectionInfo, indexes: tuple[IndexInfo, ...], vchannel: str
    ) -> int:
        pchannel, shard = self._shard(vchannel)
        return await pchannel.update_collection(shard, collection, indexes)

    async def write(self, request: WriteRequest) -> int:
        return await self._pchannel(request.vchannel).write(request)

    async def seal(self, vchannel: str) -> FlushTicket:
        pchannel, shard = self._shard(vchannel)
        return await pchannel.seal(shard)

    async def update_view(self, view: QueryView) -> None:
        """Once this has returned, every read that doesn't name an earlier instant finds all rows of
        the view. No log brings those of an import here, so the safe time knows nothing of them; but
        the oracle gave the view its version after them, and the safe time never falls below that
        again. A group in flight may have an earlier timestamp: until it ends reads are before it.
        """
        pchannel, shard = self._shard(view.vchannel)
        pchannel.safe_time.note_issued(view.version)
        await self._views.switch(shard, view)
        self._indexer.consider(shard)
        await pchannel.safe_time.wait_until_safe(view.version)

    async def release(self, vchannel: str) -> None:
        pchannel = self._pchannels.get(pchannel_of(vchannel))
        shard = pchannel.shards.get(vchannel) if pchannel is not None else None
        if shard is None:
            return
        async with shard.view_lock:
            if shard.closed:
                raise Unavailable(f"shard {vchannel} has just been recovered, try again")
            shard.view = None
            shard.lost_nodes.clear()
            flushed = [g.segment_id for g in shard.growing.values() if g.flushed]
            shard.needs_coverage_check = True
            freed = shard.drop_growing(flushed)
            freed += shard.deletes.forget(shard.checkpoint_ts)
            self._world.memory.release("growing", freed)

    async def search(self, request: SearchRequest) -> SearchResponse:
        return await self._read(
            request.vchannel,
            lambda shard, safe_time: self._delegator.search(shard, safe_time, request),
        )

    async def query(self, request: QueryRequest) -> QueryResponse:
        return await self._read(
            request.vchannel,
            lambda shard, safe_time: self._delegator.query(shard, safe_time, request),
        )

    async def growing(self, vchannel: str) -> list[GrowingInfo]:
        _, shard = self._shard(vchannel)
        return shard.growing_infos()

    # --- helpers --------------------------------------------------------------------------------

    async def _read(self, vchannel: str, read: Callable[[Shard, SafeTime], Awaitable[T]]) -> T:
        """Read the shard, and its successor if it is replaced meanwhile."""
        while True:
            pchannel, shard = self._shard(vchannel)
            try:
                return await read(shard, pchannel.safe_time)
            except Unavailable:
                if not shard.closed or self._closing:
                    raise

    def _grown(self, pchannel: Pchannel, shard: Shard) -> None:
        self._sealer.watch(pchannel, shard)
        self._indexer.consider(shard)

    def _pchannel(self, vchannel: str) -> Pchannel:
        pchannel = self._pchannels.get(pchannel_of(vchannel))
        if pchannel is None:
            raise NotServed(f"the log of {vchannel} is not open on this streaming node")
        if isinstance(pchannel.broken, FencedWriter):
            # Its next owner has taken writes that are not here.
            raise NotServed(f"another streaming node has taken over the log of {vchannel}")
        return pchannel

    def _shard(self, vchannel: str) -> tuple[Pchannel, Shard]:
        pchannel = self._pchannel(vchannel)
        shard = pchannel.shards.get(vchannel)
        if shard is None:
            raise NotServed(f"shard {vchannel} is not on this streaming node")
        return pchannel, shard

    def _shards_by_pchannel(self) -> list[tuple[Pchannel, Shard]]:
        return [
            (pchannel, shard)
            for pchannel in self._pchannels.values()
            for shard in pchannel.shards.values()
        ]
