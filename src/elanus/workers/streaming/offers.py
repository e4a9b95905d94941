"""Offers of the sealed part: proxies may ask query nodes and delegator at the same time.

An ordinary search comes to the query nodes through the delegator, which fixes the instant T first.
A proxy that has been offered the view V of a shard asks V's query nodes while it asks the
delegator. They search what they have now, without knowing T. What they find is the sealed part at T
if they had heard of every delete up to T when they began, and knew of nothing later than T. Then
nothing else could have changed: rows of sealed segments don't.

An offer is made in the background, in this order:

1. Between two deletes (the apply lock), with a view whose query nodes have missed none: every copy
   has heard of every delete so far. From here on the offer notes each delete that the shard tells
   its query nodes, before it tells them.
2. Every copy is marked with the offer's number, which no other offer has.
3. If the shard has the same view still, and no node has missed a delete, the offer stands.

It falls, for good, as soon as the shard has another view, a partition of it is dropped, or a query
node misses a delete. The delegator looks at that in the step in which it fixes T (``accepted``); it
then leaves the sealed part out of its answer and says which deletes the offer has noted. The proxy
takes the two answers together if

- each query node knew of no row or delete after T, and
- each had heard of the last delete noted of its segments, all of them.

Why that suffices: who asks by the mark has learnt of it after step 3. So it asks copies that had
all deletes up to step 1; a copy that was let go and loaded again has no mark. The deletes since
then were told in the order of their timestamps, and answered by all nodes before the next one was
told (a node that doesn't answer has missed it, and the offer has fallen). So who has heard of the
last one has heard of all. At T all deletes up to T are noted, because the safe time passes a delete
only after it was told. A delegator that has lost its shard can't accept: its node's session is
looked at after the answer is made, as with every read.
"""

import asyncio

import structlog

from elanus.errors import ElanusError
from elanus.runtime.world import World
from elanus.services.messages import QueryView, SealedView, SearchRequest
from elanus.services.routing import Router
from elanus.workers.streaming.shard import Offer, Shard

log = structlog.get_logger(__name__)

MAX_OFFERED_SEGMENTS = 256
"""The sealed part of a shard with more segments is left to the delegator."""

RETRY_S = 5.0
"""After an offer that couldn't be made (query nodes of an older version don't know of marks)."""

_MARK_BITS = 62


class Offers:
    """See the module."""

    def __init__(self, world: World, router: Router) -> None:
        self._world = world
        self._router = router

    def accepted(self, shard: Shard, request: SearchRequest) -> dict[int, int] | None:
        """The deletes that query nodes must have heard of, if the caller may ask them itself.

        Call it in the step in which the instant and the parts of the read are fixed.
        """
        offer = _standing(shard)
        if offer is None or not request.known_view or request.known_view != offer.sealed.mark:
            return None
        return dict(offer.told)

    def for_caller(self, shard: Shard, request: SearchRequest) -> SealedView | None:
        """The view for a caller that would like one and doesn't know it; if there is none yet it is
        made in the background."""
        if request.known_view is None:
            return None
        offer = _standing(shard)
        if offer is None:
            self._consider(shard)
            return None
        return None if offer.sealed.mark == request.known_view else offer.sealed

    def _consider(self, shard: Shard) -> None:
        view, now_s = shard.view, self._world.clock.monotonic_s()
        if shard.is_offering or view is None or now_s < shard.no_offer_until_s:
            return
        if 0 < len(view.sealed) <= MAX_OFFERED_SEGMENTS and not shard.lost_nodes:
            shard.is_offering = True
            self._world.tasks.spawn(f"offer view of {shard.vchannel}", self._make(shard))

    async def _make(self, shard: Shard) -> None:
        try:
            async with shard.apply_lock:
                if shard.view is None or shard.lost_nodes or shard.closed:
                    return
                mark = self._world.random.getrandbits(_MARK_BITS) | 1
                sealed = _sealed_view(shard, shard.view, mark)
                partition_ids = frozenset(sealed.partitions.values())
                offer = shard.offer = Offer(shard.view, sealed, partition_ids)
            await self._mark(offer.sealed)
            offer.stands = True
        except ElanusError as error:
            shard.no_offer_until_s = self._world.clock.monotonic_s() + RETRY_S
            log.info("view not offered", vchannel=shard.vchannel, reason=error.message)
        finally:
            shard.is_offering = False

    async def _mark(self, sealed: SealedView) -> None:
        by_node: dict[int, list[int]] = {}
        for segment_id, nodes in sealed.placement.items():
            for node_id in nodes:
                by_node.setdefault(node_id, []).append(segment_id)

        async def mark(node_id: int, segment_ids: list[int]) -> None:
            node = await self._router.query_node(node_id)
            await node.mark_segments(tuple(segment_ids), sealed.mark)

        await asyncio.gather(*(mark(node_id, ids) for node_id, ids in by_node.items()))


def _standing(shard: Shard) -> Offer | None:
    offer = shard.offer
    if offer is None or not offer.stands or offer.view is not shard.view or shard.closed:
        return None
    return offer if offer.partition_ids <= shard.partition_ids else None


def _sealed_view(shard: Shard, view: QueryView, mark: int) -> SealedView:
    wanted = shard.partition_ids.intersection(view.partition_ids or shard.partition_ids)
    sealed = [segment for segment in view.sealed if segment.partition_id in wanted]
    return SealedView(
        mark,
        {segment.segment_id: view.placement[segment.segment_id] for segment in sealed},
        {segment.segment_id: segment.partition_id for segment in sealed},
    )
