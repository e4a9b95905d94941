"""Timestamps never repeat or go back: not over restarts, clock steps or failures of the store."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.coordinator.crashes import DyingStore
from tests.unit.coordinator.support import make_world

from elanus.coordinator.tso import Allocator
from elanus.errors import Unavailable
from elanus.model.timestamp import compose, physical_ms
from elanus.storage.meta.base import MetaStore
from elanus.storage.meta.memory import MemoryMetaStore


class Clock:
    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


async def started(store: MetaStore, clock: Clock) -> Allocator:
    allocator = Allocator(store, clock, "k")  # type: ignore[arg-type]
    await allocator.start()
    return allocator


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("allocate"), st.integers(1, 600_000)),
            st.tuples(st.just("step"), st.integers(-100_000, 100_000)),
            st.tuples(st.just("restart"), st.booleans()),
            st.tuples(st.just("lose answer"), st.booleans()),
        ),
        max_size=30,
    )
)
async def test_ranges_grow_and_never_overlap(steps) -> None:
    world = make_world()
    store = DyingStore(MemoryMetaStore(world))
    clock = Clock()
    allocator = await started(store, clock)
    end = 0
    for step, value in steps:
        if step == "allocate":
            try:
                first = await allocator.allocate(value)
            except Unavailable:
                continue
            assert first >= end
            end = first + value
        elif step == "step":
            clock.now += value
        elif step == "lose answer":
            store.lose_next(after=value)
        else:
            if value:
                store.revive()
                await allocator.close()
            store.revive()
            allocator = await started(store, clock)


async def test_the_clock_is_followed_and_the_store_seldom_written() -> None:
    world = make_world()
    inner = MemoryMetaStore(world)
    clock = Clock()
    allocator = await started(inner, clock)
    first = await allocator.allocate()
    assert first == compose(clock.now)
    before = await inner.revision()
    for _ in range(2_900):
        clock.now += 1
        assert physical_ms(await allocator.allocate()) == clock.now
    assert await inner.revision() == before
    await allocator.close()
    again = await started(inner, clock)
    assert physical_ms(await again.allocate()) == clock.now


async def test_two_coordinators_over_one_store_never_give_the_same() -> None:
    store = MemoryMetaStore(make_world())
    clock = Clock()
    one, two = await started(store, clock), await started(store, clock)
    given_out = set()
    for _ in range(5):
        for allocator in (one, two):
            first = await allocator.allocate(3)
            fresh = {first, first + 1, first + 2}
            assert not fresh & given_out
            given_out |= fresh
        clock.now += 4_000


async def test_a_damaged_bound_is_an_error() -> None:
    store = MemoryMetaStore(make_world())
    await store.put("k", b"nonsense")
    with pytest.raises(Exception, match="not a number"):
        await started(store, Clock())
