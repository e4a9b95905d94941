"""Calls to the owners of shards, repeated while an owner is being replaced.

A route may be old, an owner may have died a moment ago, the next one may still be recovering. Reads
are repeated whatever of this happens to them. Writes are repeated only if they were refused before
anything was done: of any other failure nobody knows whether the write is in the log.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from elanus.access.proxy import Proxy
from elanus.errors import CollectionNotLoaded, NotServed, Unavailable
from elanus.model.catalog import CollectionInfo
from elanus.services.interfaces import StreamingService
from elanus.services.messages import GrowingInfo

T = TypeVar("T")
Call = Callable[[StreamingService], Awaitable[T]]

WAIT_FOR_OWNER_S = 30.0
"""A request without a deadline of its own, or with a later one, fails after this time."""

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


async def write_to_owner(proxy: Proxy, vchannel: str, call: Call[T]) -> T:
    return await _repeat(proxy, vchannel, call, lambda error: type(error) is NotServed)


async def read_from_owner(
    proxy: Proxy,
    collection_id: int,
    vchannel: str,
    call: Call[T],
    timeout_s: float | None = None,
) -> T:
    """An owner that doesn't know yet that the collection is loaded is waited for, too."""

    async def told_again(node: StreamingService) -> T:
        try:
            return await call(node)
        except CollectionNotLoaded as error:
            if await proxy.coordinator.load_info(collection_id) is None:
                raise
            raise NotServed(error.message) from error

    return await _repeat(
        proxy,
        vchannel,
        told_again,
        lambda error: type(error) in (NotServed, Unavailable),
        timeout_s,
    )


async def growing_of(proxy: Proxy, info: CollectionInfo, vchannel: str) -> list[GrowingInfo]:
    """What is growing in a shard."""
    return await read_from_owner(
        proxy, info.collection_id, vchannel, lambda node: node.growing(vchannel)
    )


async def _repeat(
    proxy: Proxy,
    vchannel: str,
    call: Call[T],
    may_repeat: Callable[[Unavailable], bool],
    timeout_s: float | None = None,
) -> T:
    world = proxy.world
    timeout_s = WAIT_FOR_OWNER_S if timeout_s is None else min(timeout_s, WAIT_FOR_OWNER_S)
    deadline_s = world.clock.monotonic_s() + timeout_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            try:
                node = await proxy.router.streaming_node(vchannel)
            except Unavailable as error:
                raise NotServed(error.message) from error
            return await call(node)
        except Unavailable as error:
            if not may_repeat(error) or world.clock.monotonic_s() + pause_s > deadline_s:
                raise
        await world.clock.sleep(pause_s * (0.75 + world.random.random() / 2))
        pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
