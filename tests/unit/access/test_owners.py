"""Requests wait for the next owner of a shard, and only what surely did not happen is repeated."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from elanus.access.owners import WAIT_FOR_OWNER_S, read_from_owner, write_to_owner
from elanus.errors import CollectionNotLoaded, NotServed, TooManyRequests, Unavailable


class SkippingClock:
    """Sleeps take no time and move the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


class Owner:
    """Raises ``failures`` one after another, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def call(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def proxy_with(owner: Owner, *, absent: int = 0, is_loaded: bool = True) -> Any:
    """A proxy whose route to ``owner`` is missing the first ``absent`` times."""
    missing = [Unavailable("the log has no owner yet")] * absent

    async def streaming_node(vchannel: str) -> Owner:
        if missing:
            raise missing.pop()
        return owner

    async def load_info(collection_id: int) -> Any:
        return object() if is_loaded else None

    return SimpleNamespace(
        world=SimpleNamespace(clock=SkippingClock(), random=random.Random(1)),
        router=SimpleNamespace(streaming_node=streaming_node),
        coordinator=SimpleNamespace(load_info=load_info),
    )


async def write(proxy: Any) -> str:
    return await write_to_owner(proxy, "v", lambda node: node.call())


async def read(proxy: Any) -> str:
    return await read_from_owner(proxy, 1, "v", lambda node: node.call())


async def test_a_write_that_was_refused_goes_to_the_next_owner() -> None:
    owner = Owner(NotServed("not open here"), NotServed("being recovered"))
    assert await write(proxy_with(owner, absent=2)) == "done"
    assert owner.calls == 3


async def test_a_write_that_may_have_happened_is_not_repeated() -> None:
    owner = Owner(Unavailable("the connection broke"))
    with pytest.raises(Unavailable, match="broke"):
        await write(proxy_with(owner))
    assert owner.calls == 1


async def test_a_read_is_repeated_whatever_happened_to_its_owner() -> None:
    owner = Owner(Unavailable("the connection broke"), NotServed("not open here"))
    assert await read(proxy_with(owner, absent=1)) == "done"


async def test_a_read_of_a_full_node_fails_at_once() -> None:
    owner = Owner(TooManyRequests("too many"))
    with pytest.raises(TooManyRequests):
        await read(proxy_with(owner))


async def test_an_owner_that_does_not_know_the_load_yet_is_waited_for() -> None:
    owner = Owner(CollectionNotLoaded("c"), CollectionNotLoaded("c"))
    assert await read(proxy_with(owner)) == "done"
    with pytest.raises(CollectionNotLoaded):
        await read(proxy_with(Owner(CollectionNotLoaded("c")), is_loaded=False))


async def test_nobody_waits_for_ever() -> None:
    proxy = proxy_with(Owner(), absent=10_000)
    with pytest.raises(Unavailable, match="no owner yet"):
        await write(proxy)
    assert proxy.world.clock.now_s <= WAIT_FOR_OWNER_S
