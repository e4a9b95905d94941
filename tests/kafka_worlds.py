"""An outside world with real time, for tests in which a broker's delays matter."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World


@asynccontextmanager
async def real_world() -> AsyncIterator[World]:
    world = World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=ThreadExecutor(cores=2),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )
    try:
        yield world
    finally:
        await world.tasks.close()
        world.executor.close()
