"""What goes wrong, when: one seeded source of crashes, delays, errors and lost replies per life."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from elanus.errors import DiskFull, Unavailable
from elanus.runtime.executor import Pool
from tests.simulation.loop import Died

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

CALM_DELAY_S = 0.01
START_MS = 1_700_000_000_000


@dataclass
class Weather:
    """How bad things are now. Rates are probabilities per operation or call."""

    error_rate: float = 0.0
    lost_reply_rate: float = 0.0
    max_delay_s: float = CALM_DELAY_S
    disk_full: bool = False


class Faults:
    """Everything of one process that reaches the outside asks here first.

    ``kill(reason)`` ends the process; ``die_at``: the number of durable operations until it is
    killed, -1 for never.
    """

    def __init__(
        self,
        rng: random.Random,
        trace: Callable[[str], None],
        kill: Callable[[str], None],
        die_at: int = -1,
    ) -> None:
        self.rng = rng
        self.weather = Weather()
        self.dead = False
        self.operations = 0
        self._trace = trace
        self._kill = kill
        self._die_at = die_at

    def die(self, reason: str) -> None:
        if not self.dead:
            self.dead = True
            self._trace(f"killed {reason}")
            self._kill(reason)

    def step(self, name: str) -> None:
        """A durable operation is about to happen."""
        if not self.dead and self.operations == self._die_at:
            self.die(f"before {name}")
        if self.dead:
            raise Died(name)
        self.operations += 1
        if self.weather.disk_full and name.startswith(("write", "meta", "object put")):
            raise DiskFull("the simulated disk")
        self.glitch(name)

    def glitch(self, name: str) -> None:
        """Something that may fail, without effect, is about to happen."""
        if self.dead:
            raise Died(name)
        rate = self.weather.error_rate
        if rate and self.rng.random() < rate:
            self._trace(f"error in {name}")
            raise Unavailable(f"simulated fault in {name}")

    async def delay(self, sleep: Sleep) -> None:
        await sleep(self.rng.random() ** 3 * self.weather.max_delay_s)

    def loses_reply(self, name: str) -> bool:
        rate = self.weather.lost_reply_rate
        lost = bool(rate) and self.rng.random() < rate
        if lost:
            self._trace(f"lost {name}")
        return lost


class SimulatedClock:
    """Virtual time. ``skew_ms`` moves the wall clock only."""

    def __init__(self, time_s: Callable[[], float], sleep: Sleep) -> None:
        self._time_s = time_s
        self._sleep = sleep
        self.skew_ms = 0

    def now_ms(self) -> int:
        return START_MS + int(self._time_s() * 1_000) + self.skew_ms

    def monotonic_s(self) -> float:
        return self._time_s()

    def busy_s(self) -> float:
        return self._time_s()

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)


class SimulatedExecutor:
    """Runs everything on the loop, between two random delays."""

    def __init__(self, faults: Faults, sleep: Sleep) -> None:
        self._faults = faults
        self._sleep = sleep

    async def run(self, pool: Pool, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await self._faults.delay(self._sleep)
        result = function(*args, **kwargs)
        await self._faults.delay(self._sleep)
        return result

    def start(self, pool: Pool, function: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.ensure_future(self.run(pool, function))

    def close(self) -> None:
        pass


class FaultyService:
    """A role behind a network: calls are delayed; their requests or replies may be lost."""

    def __init__(self, target: Any, name: str, faults: Faults, sleep: Sleep) -> None:
        self._target = target
        self._name = name
        self._faults = faults
        self._sleep = sleep

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._target, method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            name = f"{self._name}.{method}"
            await self._faults.delay(self._sleep)
            if self._faults.loses_reply(f"request {name}"):
                raise Unavailable(f"simulated loss of a request to {name}")
            result = await function(*args, **kwargs)
            await self._faults.delay(self._sleep)
            if self._faults.loses_reply(f"reply of {name}"):
                raise Unavailable(f"simulated loss of a reply from {name}")
            return result

        return call
