"""Which pchannels there are, which node owns each at which term, and where new shards go.

A pchannel (one log of the WAL) is opened when the first shard on it needs it, on the streaming
node that owns the fewest. Opening stores term+1 and the node first and only then tells the node,
so that two owners can never have one term: the WAL fences the writer with the smaller one. Proxies
find the owner by the same record.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeVar

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.records import PchannelRecord
from elanus.coordinator.retry import ATTEMPTS_OF_A_REQUEST, retry
from elanus.errors import FencedWriter, Unavailable
from elanus.model.catalog import CollectionInfo, pchannel_of
from elanus.services.interfaces import StreamingService
from elanus.services.messages import FlushTicket

T = TypeVar("T")

_FENCED_ATTEMPTS = 3


def choose_pchannels(
    in_use: Mapping[str, int], cluster: str, number: int, shards: int
) -> tuple[str, ...]:
    """The ``shards`` pchannels of ``number`` with the fewest vchannels; lower numbers first.

    Their names begin with ``cluster``. ``in_use`` has the number of vchannels by pchannel. A
    collection has at most one shard on a pchannel, so ``shards`` must not be larger than
    ``number``.
    """
    names = [f"{cluster}-rootcoord-dml_{n}" for n in range(number)]
    order = sorted(range(number), key=lambda n: (in_use.get(names[n], 0), n))
    return tuple(names[n] for n in order[:shards])


def vchannel_name(pchannel: str, collection_id: int, shard: int) -> str:
    return f"{pchannel}_{collection_id}v{shard}"


class Channels:
    """Opens pchannels, on which nodes, and speaks to the owners of shards."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._assigned: dict[str, PchannelRecord] = {}
        self._open: set[str] = set()
        self._met: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}
        self._adopted: set[str] = set()
        self._chosen: dict[str, int] = {}

    def choose(self, shards: int) -> tuple[str, ...]:
        """Pchannels for a new collection's shards."""
        in_use = {name: len(of) for name, of in self._context.catalog.tables.vchannels.items()}
        settings = self._context.settings
        cluster = settings.msg_channel.chan_name_prefix.cluster
        return choose_pchannels(in_use, cluster, settings.root_coord.dml_channel_num, shards)

    def lose_nodes(self, alive: Collection[int]) -> list[str]:
        """Forget the pchannels whose node is gone; they will be opened at the next term."""
        lost = [n for n, record in self._assigned.items() if record.node_id not in alive]
        for pchannel in lost:
            self._open.discard(pchannel)
            del self._assigned[pchannel]
        return sorted(lost)

    def misplaced(self, taking: Sequence[int]) -> str | None:
        """A pchannel that should move: from a node that takes none any more, or from the node that
        has the most to one that has at least two fewer. None if all is well."""
        owned = {name: record.node_id for name, record in sorted(self._assigned.items())}
        if not taking:
            return None
        for pchannel, node_id in owned.items():
            if node_id not in taking:
                return pchannel
        load = Counter(dict.fromkeys(taking, 0))
        load.update(owned.values())
        (heaviest, most), (_, fewest) = load.most_common()[0], load.most_common()[-1]
        if most - fewest < 2:
            return None
        return next(name for name, node_id in owned.items() if node_id == heaviest)

    def is_adopted(self, vchannel: str) -> bool:
        """Whether its owner served it before this coordinator began."""
        return pchannel_of(vchannel) in self._adopted

    async def ensure_open(self, vchannel: str, *, attempts: int = ATTEMPTS_OF_A_REQUEST) -> None:
        """The pchannel of ``vchannel`` is open on a node that is alive. Raises Unavailable."""
        pchannel = pchannel_of(vchannel)
        if pchannel in self._open:
            return
        async with self._locks.setdefault(pchannel, asyncio.Lock()):
            if pchannel not in self._open:
                await self._open_pchannel(pchannel, attempts)

    async def _open_pchannel(self, pchannel: str, attempts: int) -> None:
        for attempt in range(1, _FENCED_ATTEMPTS + 1):
            try:
                await retry(
                    self._context.world,
                    f"open {pchannel}",
                    lambda: self._open_once(pchannel),
                    attempts=attempts,
                )
                return
            except FencedWriter:
                self._assigned.pop(pchannel, None)
                if attempt == _FENCED_ATTEMPTS:
                    raise

    async def _open_once(self, pchannel: str) -> None:
        alive = await self._context.router.streaming_nodes()
        record = self._assigned.get(pchannel)
        if record is None or record.node_id not in alive:
            record = await self._assign(pchannel, alive)
        self._context.world.failpoints.hit("open_pchannel.after_term")
        node = await self._context.router.streaming_node_by_id(record.node_id)
        await node.open_pchannel(pchannel, record.term)
        if self._assigned.get(pchannel) is not record:
            raise Unavailable(f"{pchannel} has been given to another node meanwhile")
        self._open.add(pchannel)

    async def _assign(self, pchannel: str, alive: Sequence[int]) -> PchannelRecord:
        """An owner and its term. One that was given by a former coordinator and lives stays."""
        if not alive:
            raise Unavailable("no streaming node is alive")
        known = self._context.catalog.tables.pchannels.get(pchannel)
        if pchannel not in self._met and known is not None and known.node_id in alive:
            self._met.add(pchannel)
            self._assigned[pchannel] = known
            self._adopted.add(pchannel)
            return known
        self._met.add(pchannel)
        if known is not None:
            await self._close_at(known)
        owned = Counter(record.node_id for record in self._assigned.values())
        owned.update(self._chosen.values())
        node_id = self._chosen[pchannel] = min(alive, key=lambda node: (owned[node], node))

        def decide() -> Change:
            now = self._context.catalog.tables.pchannels.get(pchannel)
            term = (now.term if now else 0) + 1
            return Change(put=[PchannelRecord(name=pchannel, term=term, node_id=node_id)])

        try:
            await self._context.catalog.commit(decide)
        finally:
            del self._chosen[pchannel]
        record = self._context.catalog.tables.pchannels[pchannel]
        self._assigned[pchannel] = record
        return record

    async def _close_at(self, former: PchannelRecord) -> None:
        """As long as the former owner is alive it answers reads, which it must not do beside the
        next one."""
        try:
            node = await self._context.router.streaming_node_by_id(former.node_id)
        except Unavailable:
            return  # it is gone
        await node.close_pchannel(former.name, former.term)

    async def move(self, pchannel: str) -> None:
        """Give the pchannel to the node that owns the fewest of those that take any. Raises
        Unavailable; then the log may have to be opened again."""
        async with self._locks.setdefault(pchannel, asyncio.Lock()):
            record = self._assigned.get(pchannel)
            if record is None:
                return
            alive = await self._context.router.streaming_nodes()
            others = [node_id for node_id in alive if node_id != record.node_id]
            if not others:
                return
            self._open.discard(pchannel)
            await self._assign(pchannel, others)
            await self._open_pchannel(pchannel, ATTEMPTS_OF_A_REQUEST)

    async def owner(self, vchannel: str) -> StreamingService:
        """The streaming node of an open shard."""
        await self.ensure_open(vchannel)
        return await self._owner_now(vchannel)

    async def _owner_now(self, vchannel: str) -> StreamingService:
        record = self._assigned.get(pchannel_of(vchannel))
        if record is None:
            raise Unavailable(f"the log of {vchannel} is being opened elsewhere")
        return await self._context.router.streaming_node_by_id(record.node_id)

    async def open_shards(self, collection: CollectionInfo) -> None:
        async def open_one(vchannel: str) -> None:
            await self._call(
                vchannel, "open_vchannel", lambda node: node.open_vchannel(collection, vchannel)
            )

        for vchannel in collection.vchannels:
            await open_one(vchannel)

    async def close_shards(self, collection: CollectionInfo, *, attempts: int) -> None:
        """Searches are refused from now on, and the shards' data is forgotten."""

        async def close_one(vchannel: str) -> None:
            await self._call(
                vchannel,
                "close_vchannel",
                lambda node: node.close_vchannel(vchannel),
                attempts=attempts,
            )

        for vchannel in collection.vchannels:
            await close_one(vchannel)

    async def announce(self, collection_id: int) -> None:
        """Put the newest schema, partitions, properties and indexes into the log of every shard.

        After a crash before this, the shards learn the same when they recover.
        """
        self._context.world.failpoints.hit("announce.before")
        for vchannel in self._vchannels(collection_id):

            async def update(node: StreamingService, vchannel: str = vchannel) -> None:
                info = self._context.catalog.collection(collection_id)
                if info is not None:
                    indexes = self._context.catalog.indexes(collection_id)
                    await node.update_collection(info, indexes, vchannel)

            await self._call(vchannel, "update_collection", update)
        self._context.world.failpoints.hit("announce.after")

    async def seal(self, collection: CollectionInfo) -> list[FlushTicket]:
        """Seal every shard's growing segments."""

        async def seal_one(vchannel: str) -> FlushTicket:
            return await self._call(vchannel, "seal", lambda node: node.seal(vchannel))

        return [await seal_one(vchannel) for vchannel in collection.vchannels]

    def _vchannels(self, collection_id: int) -> tuple[str, ...]:
        info = self._context.catalog.collection(collection_id)
        return info.vchannels if info is not None else ()

    async def _call(
        self,
        vchannel: str,
        what: str,
        call: Callable[[StreamingService], Awaitable[T]],
        *,
        attempts: int = ATTEMPTS_OF_A_REQUEST,
    ) -> T:
        async def once() -> T:
            await self.ensure_open(vchannel, attempts=1)
            return await call(await self._owner_now(vchannel))

        return await retry(self._context.world, f"{what} of {vchannel}", once, attempts=attempts)
