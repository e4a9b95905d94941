"""The outside world for these tests is real."""

import random
from collections.abc import AsyncIterator

import pytest

from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=ThreadExecutor(cores=2),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )
    yield world
    await world.tasks.close()
    world.executor.close()
    assert world.tasks.failures == []
