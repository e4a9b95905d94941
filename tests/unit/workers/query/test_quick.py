"""Which searches run on the event loop, and which in a thread."""

import asyncio
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
from tests.worlds import running_world

from elanus.engine.reduce import empty_hits
from elanus.model.reads import Hits, VectorQuery
from elanus.model.types import MetricType
from elanus.runtime.world import World
from elanus.workers.query.quick import FEW_SLOTS, QUICK_ALONE_S, QUICK_OF_FEW_S, QUICK_S, TURN_S
from elanus.workers.query.scheduler import SearchScheduler

SLOTS = FEW_SLOTS + 1
ENOUGH = 100
"""Searches after which the former ones hardly count."""


class SearchClock:
    """Time passes in searches only."""

    now_s = 0.0

    def busy_s(self) -> float:
        return self.now_s


class Searches:
    """Searches that take ``seconds``; ``on_loop``: where the last one ran."""

    def __init__(self, world: World, clock: SearchClock, slots: int = SLOTS) -> None:
        self.world = world
        self.seconds = 0.0
        self.on_loop = False
        self.on_loop_count = 0
        self._clock = clock
        self.scheduler = SearchScheduler(world, slots=slots, max_waiting=10)

    def _search(self, query: VectorQuery) -> Hits:
        self.on_loop = threading.current_thread() is threading.main_thread()
        self.on_loop_count += self.on_loop
        self._clock.now_s += self.seconds
        return empty_hits(len(query.vectors), False)

    async def block(self, ended: threading.Event) -> None:
        """Takes a thread until then."""

        def wait(query: VectorQuery) -> Hits:
            ended.wait()
            return empty_hits(len(query.vectors), False)

        query = VectorQuery("v", MetricType.L2, np.zeros((1, 2), np.float32), 10)
        await self.scheduler.search(None, wait, query)

    async def search(self, key: str | None = "same", vectors: int = 1, times: int = 1) -> bool:
        query = VectorQuery("v", MetricType.L2, np.zeros((vectors, 2), np.float32), 10)
        for _ in range(times):
            await asyncio.sleep(0)  # all else has its turn
            await self.scheduler.search(key, self._search, query)
        return self.on_loop


@pytest.fixture
async def searches() -> AsyncIterator[Searches]:
    clock = SearchClock()
    async with running_world(clock) as world:  # type: ignore[arg-type]
        world.calls.in_flight = 1
        yield Searches(world, clock)


async def test_what_was_quick_runs_on_the_loop(searches: Searches) -> None:
    searches.seconds = QUICK_ALONE_S * 0.9
    assert not await searches.search()
    assert await searches.search()
    assert not await searches.search("another")
    assert not await searches.search(vectors=2)
    assert not await searches.search(None, times=3)


async def test_beside_other_calls_only_the_quickest_do(searches: Searches) -> None:
    searches.seconds = QUICK_ALONE_S * 0.9
    await searches.search()
    searches.world.calls.in_flight = 2
    assert not await searches.search()
    searches.seconds = QUICK_S * 0.9
    assert await searches.search(times=ENOUGH)


async def test_where_few_threads_search_more_stays_on_the_loop() -> None:
    clock = SearchClock()
    async with running_world(clock) as world:  # type: ignore[arg-type]
        searches = Searches(world, clock, FEW_SLOTS)
        searches.seconds = QUICK_OF_FEW_S * 0.9
        await searches.search()
        world.calls.in_flight = 4
        assert await searches.search()
        searches.seconds = QUICK_OF_FEW_S * 1.5
        assert not await searches.search(times=ENOUGH)


async def test_a_crowd_leaves_the_loop_to_others_after_a_while(searches: Searches) -> None:
    searches.seconds = QUICK_S * 0.9
    await searches.search(times=2)
    searches.world.calls.in_flight = 8
    for _ in range(2):
        searches.on_loop_count = 0
        await asyncio.gather(*(searches.search() for _ in range(8)))
        assert searches.on_loop_count == int(TURN_S / searches.seconds)
    assert await searches.search()


async def test_slow_searches_in_all_threads_keep_no_quick_one_from_the_loop(
    searches: Searches,
) -> None:
    await searches.search(times=2)
    ended = threading.Event()
    slow = [asyncio.ensure_future(searches.block(ended)) for _ in range(SLOTS)]
    await asyncio.sleep(0)
    searches.world.calls.in_flight = SLOTS + 1
    try:
        assert await searches.search()
    finally:
        ended.set()
        await asyncio.gather(*slow)


async def test_what_has_become_slow_goes_to_a_thread_until_it_is_quick_again(
    searches: Searches,
) -> None:
    assert await searches.search(times=2)
    searches.seconds = 0.5
    assert not await searches.search(times=4)
    searches.seconds = 0.0
    assert await searches.search(times=ENOUGH)


async def test_one_search_that_had_to_wait_changes_nothing(searches: Searches) -> None:
    searches.seconds = QUICK_ALONE_S * 0.4
    await searches.search(times=2)
    searches.seconds = 10.0
    await searches.search()
    searches.seconds = QUICK_ALONE_S * 0.4
    assert await searches.search()


async def test_what_fails_on_the_loop_fails_its_search(searches: Searches) -> None:
    await searches.search(times=2)
    searches.seconds = "none"  # type: ignore[assignment]
    with pytest.raises(TypeError):
        await searches.search()
    searches.seconds = 0.0
    assert await searches.search()


class Crowd:
    """Searches that come in one turn. ``events``: what happened to each, in order."""

    def __init__(self, searches: Searches) -> None:
        self.failing = -1
        self.events: list[tuple[str, int]] = []
        self.tasks: list[asyncio.Task[int]] = []
        self._searches = searches

    async def _one(self, number: int) -> int:
        def call(query: VectorQuery) -> Hits:
            self.events.append(("searched", number))
            if number == self.failing:
                raise ValueError(f"number {number}")
            return empty_hits(number, False)

        query = VectorQuery("v", MetricType.L2, np.zeros((1, 2), np.float32), 10)
        self.events.append(("asked", number))
        found = await self._searches.scheduler.search("same", call, query)
        self.events.append(("answered", number))
        return len(found.counts)

    def begin(self, size: int) -> None:
        self.events.clear()
        self.tasks = [asyncio.ensure_future(self._one(number)) for number in range(size)]

    async def come(self, size: int, times: int = 1) -> None:
        for _ in range(times):
            await asyncio.sleep(0)
            self.begin(size)
            await asyncio.gather(*self.tasks)


@pytest.fixture
async def crowd(searches: Searches) -> Crowd:
    """That has often come."""
    await searches.search(times=2)
    crowd = Crowd(searches)
    await crowd.come(3, times=ENOUGH)
    return crowd


async def test_searches_that_come_together_are_all_ready_before_the_first_kernel(
    crowd: Crowd,
) -> None:
    await crowd.come(3)
    assert [what for what, _ in crowd.events] == ["asked"] * 3 + ["searched"] * 3 + ["answered"] * 3


async def test_each_of_a_crowd_gets_its_own_answer(crowd: Crowd) -> None:
    crowd.begin(3)
    assert await asyncio.gather(*crowd.tasks) == [0, 1, 2]


async def test_one_that_mostly_comes_alone_waits_for_nobody(crowd: Crowd) -> None:
    await crowd.come(1, times=ENOUGH)
    await crowd.come(3)
    assert [number for _, number in crowd.events] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_what_is_cancelled_in_a_crowd_is_not_searched(crowd: Crowd) -> None:
    crowd.begin(3)
    asyncio.get_running_loop().call_soon(crowd.tasks[1].cancel)
    found = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    assert (found[0], found[2]) == (0, 2)
    assert ("searched", 1) not in crowd.events


async def test_what_fails_in_a_crowd_fails_alone(crowd: Crowd) -> None:
    crowd.failing = 1
    crowd.begin(3)
    found = await asyncio.gather(*crowd.tasks, return_exceptions=True)
    assert isinstance(found[1], ValueError)
    assert (found[0], found[2]) == (0, 2)
