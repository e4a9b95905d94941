"""Which pchannels there are, which term each is open at, and where new shards go.

A pchannel (one log of the WAL) is opened when the first shard on it needs it. Opening stores
term+1 first and only then tells the streaming node, so that two owners can never have one term:
the WAL fences the writer with the smaller one.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.records import CollectionState, PchannelRecord
from elanus.coordinator.retry import ATTEMPTS_OF_A_REQUEST, retry
from elanus.errors import FencedWriter
from elanus.model.catalog import CollectionInfo, pchannel_of
from elanus.services.interfaces import StreamingService
from elanus.services.messages import FlushTicket

T = TypeVar("T")

_FENCED_ATTEMPTS = 3


def choose_pchannels(
    in_use: Iterable[str], cluster: str, number: int, shards: int
) -> tuple[str, ...]:
    """The ``shards`` pchannels of ``number`` with the fewest vchannels; lower numbers first.

    Their names begin with ``cluster``. ``in_use`` has the pchannel of every existing vchannel. A
    collection has at most one shard on a pchannel, so ``shards`` must not be larger than
    ``number``.
    """
    load = Counter(in_use)
    names = [f"{cluster}-rootcoord-dml_{n}" for n in range(number)]
    order = sorted(range(number), key=lambda n: (load[names[n]], n))
    return tuple(names[n] for n in order[:shards])


def vchannel_name(pchannel: str, collection_id: int, shard: int) -> str:
    return f"{pchannel}_{collection_id}v{shard}"


class Channels:
    """Opens pchannels and speaks to the owners of shards."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._terms: dict[str, int] = {}
        self._open: set[str] = set()
        self._locks: dict[str, asyncio.Lock] = {}

    def choose(self, shards: int) -> tuple[str, ...]:
        """Pchannels for a new collection's shards."""
        in_use = [
            pchannel_of(vchannel)
            for info in self._context.catalog.collections(*CollectionState)
            for vchannel in info.vchannels
        ]
        settings = self._context.settings
        cluster = settings.msg_channel.chan_name_prefix.cluster
        return choose_pchannels(in_use, cluster, settings.root_coord.dml_channel_num, shards)

    def forget(self, pchannel: str) -> None:
        """Its streaming node is gone: it will be opened again, at the next term."""
        self._open.discard(pchannel)
        self._terms.pop(pchannel, None)

    async def ensure_open(self, vchannel: str, *, attempts: int = ATTEMPTS_OF_A_REQUEST) -> None:
        """The pchannel of ``vchannel`` is open at a term of this run. Raises Unavailable."""
        pchannel = pchannel_of(vchannel)
        if pchannel in self._open:
            return
        async with self._locks.setdefault(pchannel, asyncio.Lock()):
            for attempt in range(_FENCED_ATTEMPTS):
                if pchannel in self._open:
                    return
                term = self._terms.get(pchannel) or await self._next_term(pchannel)
                self._context.world.failpoints.hit("open_pchannel.after_term")
                try:
                    await self._open_at_term(vchannel, term, attempts)
                except FencedWriter:
                    del self._terms[pchannel]
                    if attempt == _FENCED_ATTEMPTS - 1:
                        raise
                else:
                    self._open.add(pchannel)

    async def owner(self, vchannel: str) -> StreamingService:
        """The streaming node of an open shard."""
        await self.ensure_open(vchannel)
        return await self._context.router.streaming_node(vchannel)

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
            return await call(await self._context.router.streaming_node(vchannel))

        return await retry(self._context.world, f"{what} of {vchannel}", once, attempts=attempts)

    async def _open_at_term(self, vchannel: str, term: int, attempts: int) -> None:
        pchannel = pchannel_of(vchannel)

        async def once() -> None:
            node = await self._context.router.streaming_node(vchannel)
            await node.open_pchannel(pchannel, term)

        await retry(self._context.world, f"open {pchannel}", once, attempts=attempts)

    async def _next_term(self, pchannel: str) -> int:
        term = 0

        def decide() -> Change:
            nonlocal term
            record = self._context.catalog.tables.pchannels.get(pchannel)
            term = (record.term if record else 0) + 1
            return Change(put=[PchannelRecord(name=pchannel, term=term)])

        await self._context.catalog.commit(decide)
        self._terms[pchannel] = term
        return term
