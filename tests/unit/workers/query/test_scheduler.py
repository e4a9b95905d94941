"""Searches start at once while there is room; those that wait together run together."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elanus.errors import TooManyRequests
from elanus.model.reads import Hits, VectorQuery
from elanus.model.types import MetricType
from elanus.runtime.clock import SystemClock
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.workers.query.scheduler import SearchScheduler


class GatedExecutor:
    """Holds every call until the gate is open; counts the calls."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.calls = 0

    async def run(self, pool: str, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self.calls += 1
        await self.gate.wait()
        return function(*args, **more)

    def start(self, pool: str, function: Callable[[], Any]) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.run(pool, function))

    def close(self) -> None: ...


@pytest.fixture
def executor() -> GatedExecutor:
    return GatedExecutor()


@pytest.fixture
def scheduler(executor: GatedExecutor) -> SearchScheduler:
    world = World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=executor,
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1),
    )
    return SearchScheduler(world, slots=1, max_waiting=3)


def query(*values: float) -> VectorQuery:
    return VectorQuery("v", MetricType.L2, np.array([[v] for v in values], np.float32), 2)


def echo(asked: VectorQuery) -> Hits:
    """As many hits as the value of each vector says, each with that value as its key."""
    counts = asked.vectors[:, 0].astype(np.int64)
    keys = np.repeat(counts, counts)
    scores, stamps = keys.astype(np.float32), keys.astype(np.uint64)
    return Hits(counts, scores, keys, stamps, keys, keys, groups=pa.array(keys))


async def test_a_free_slot_is_used_at_once(
    scheduler: SearchScheduler, executor: GatedExecutor
) -> None:
    executor.gate.set()
    assert (await scheduler.search("a", echo, query(2, 1))).keys.tolist() == [2, 2, 1]
    assert executor.calls == 1


async def test_waiting_searches_of_one_key_are_one_call_and_get_their_own_hits(
    scheduler: SearchScheduler, executor: GatedExecutor
) -> None:
    searches = [asyncio.ensure_future(scheduler.search("a", echo, query(9)))]
    await asyncio.sleep(0)
    searches += [
        asyncio.ensure_future(scheduler.search("a", echo, asked))
        for asked in (query(1), query(2, 0), query(3))
    ]
    await asyncio.sleep(0)
    assert scheduler.waiting == 3
    executor.gate.set()
    answers = await asyncio.gather(*searches)
    assert [hits.counts.tolist() for hits in answers] == [[9], [1], [2, 0], [3]]
    assert [hits.keys.tolist() for hits in answers] == [[9] * 9, [1], [2, 2], [3, 3, 3]]
    assert [hits.groups.to_pylist() for hits in answers] == [hits.keys.tolist() for hits in answers]
    assert executor.calls == 2


async def test_other_keys_and_keyless_searches_stay_alone(
    scheduler: SearchScheduler, executor: GatedExecutor
) -> None:
    keys = ["a", "a", None, None]
    searches = [asyncio.ensure_future(scheduler.search(key, echo, query(1))) for key in keys]
    await asyncio.sleep(0)
    executor.gate.set()
    await asyncio.gather(*searches)
    assert executor.calls == 4


async def test_a_full_queue_refuses(scheduler: SearchScheduler, executor: GatedExecutor) -> None:
    searches = [asyncio.ensure_future(scheduler.search("a", echo, query(1))) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await scheduler.search("a", echo, query(1))
    with pytest.raises(TooManyRequests):
        await scheduler.run(lambda: None)
    executor.gate.set()
    await asyncio.gather(*searches)
    assert (await scheduler.search("a", echo, query(1))).counts.tolist() == [1]


async def test_a_cancelled_search_gives_its_place_away(
    scheduler: SearchScheduler, executor: GatedExecutor
) -> None:
    first = asyncio.ensure_future(scheduler.search("a", echo, query(1)))
    second = asyncio.ensure_future(scheduler.search("b", echo, query(2)))
    third = asyncio.ensure_future(scheduler.run(lambda: 3))
    fourth = asyncio.ensure_future(scheduler.run(lambda: 4))
    await asyncio.sleep(0)
    second.cancel()
    third.cancel()
    executor.gate.set()
    await first
    assert await fourth == 4
    assert (await scheduler.search("a", echo, query(5))).counts.tolist() == [5]
    assert scheduler.waiting == 0


async def test_an_error_reaches_everyone_of_the_batch(
    scheduler: SearchScheduler, executor: GatedExecutor
) -> None:
    def fail(asked: VectorQuery) -> Hits:
        raise ValueError("broken")

    searches = [asyncio.ensure_future(scheduler.search("a", fail, query(1))) for _ in range(3)]
    await asyncio.sleep(0)
    executor.gate.set()
    outcomes = await asyncio.gather(*searches, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    assert scheduler.free_slots == 1
