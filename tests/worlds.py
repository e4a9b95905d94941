"""What a test hands to what it tests as the outside world: real threads, and a clock that is real
unless the test brings its own."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from elanus.runtime.clock import Clock, SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World


def make_world(clock: Clock | None = None, *, cores: int | None = 2, seed: int | None = 1) -> World:
    """``seed`` None: what is random differs from one process to the next."""
    return World(
        clock=clock or SystemClock(),
        random=random.Random(seed),
        executor=ThreadExecutor(cores=cores),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )


@asynccontextmanager
async def running_world(
    clock: Clock | None = None, *, cores: int | None = 2, seed: int | None = 1
) -> AsyncIterator[World]:
    """Ends its tasks and threads."""
    world = make_world(clock, cores=cores, seed=seed)
    try:
        yield world
    finally:
        await world.tasks.close()
        world.executor.close()
