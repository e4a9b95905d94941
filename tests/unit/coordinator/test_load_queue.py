"""The queue of loads: bounded by node and in sum, fair to nodes, and it ends with who waits."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from tests.unit.coordinator.support import make_world

from elanus.coordinator.query.load_queue import Job, LoadQueue
from elanus.errors import Unavailable
from elanus.runtime.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = make_world()
    yield made
    await made.tasks.close()


class Nodes:
    """Loads that end when they are told to."""

    def __init__(self) -> None:
        self.running: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.most_in_all = 0
        self.began: list[int] = []
        self.gate = asyncio.Event()

    def job(self, node_id: int) -> Job:
        async def work() -> None:
            self.began.append(node_id)
            self.running[node_id] += 1
            self.most[node_id] = max(self.most[node_id], self.running[node_id])
            self.most_in_all = max(self.most_in_all, self.running.total())
            try:
                await self.gate.wait()
            finally:
                self.running[node_id] -= 1

        return node_id, work


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_loads_are_bounded_by_node_and_in_all(world: World) -> None:
    nodes = Nodes()
    queue = LoadQueue(world, max_total=5, max_per_node=2)
    waiting = world.tasks.spawn("run", queue.run([nodes.job(n % 4) for n in range(40)]))
    await turns()
    assert nodes.running.total() == 5
    nodes.gate.set()
    assert await waiting is None
    assert len(nodes.began) == 40
    assert max(nodes.most.values()) == 2
    assert nodes.most_in_all == 5


async def test_a_node_that_does_not_answer_keeps_the_others_from_nothing(world: World) -> None:
    slow, quick = Nodes(), Nodes()
    quick.gate.set()
    queue = LoadQueue(world, max_total=5, max_per_node=2)
    stuck = world.tasks.spawn("run", queue.run([slow.job(1) for _ in range(10)]))
    await turns()
    assert await queue.run([quick.job(2) for _ in range(10)]) is None
    assert slow.running[1] == 2
    slow.gate.set()
    assert await stuck is None


async def test_the_first_failure_is_told_after_all_have_ended(world: World) -> None:
    ended = []

    def failing(number: int) -> Job:
        async def work() -> None:
            await asyncio.sleep(0)
            ended.append(number)
            if number in (3, 5):
                raise Unavailable(f"number {number}")

        return 1, work

    failure = await LoadQueue(world, 4, 1).run([failing(n) for n in range(8)])
    assert str(failure) == "number 3"
    assert ended == list(range(8))


async def test_who_no_longer_waits_ends_its_loads_and_nobody_elses(world: World) -> None:
    nodes, others = Nodes(), Nodes()
    queue = LoadQueue(world, max_total=8, max_per_node=2)
    given_up = world.tasks.spawn("run", queue.run([nodes.job(1) for _ in range(10)]))
    going_on = world.tasks.spawn("run", queue.run([others.job(1) for _ in range(3)]))
    await turns()
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert (len(nodes.began), nodes.running.total()) == (2, 0)
    others.gate.set()
    assert await going_on is None
    assert len(others.began) == 3


async def test_a_defect_is_raised(world: World) -> None:
    async def defect() -> None:
        raise KeyError("a defect")

    with pytest.raises(KeyError):
        await LoadQueue(world, 4).run([(1, defect)])
