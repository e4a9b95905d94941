"""What a role may ask of the outside world. A simulation builds another one of these."""

import random
from dataclasses import dataclass, field

from elanus.runtime.calls import Calls
from elanus.runtime.clock import Clock
from elanus.runtime.executor import Executor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor


@dataclass(frozen=True)
class World:
    """Time, randomness, threads, background tasks, failpoints, memory and calls, as arguments."""

    clock: Clock
    random: random.Random
    executor: Executor
    tasks: TaskSupervisor
    failpoints: Failpoints
    memory: MemoryLedger
    calls: Calls = field(default_factory=Calls)
