"""Requests to a remote store: few at a time, each attempt limited in time, repeated with sense.

An attempt that failed for a reason that may pass is made again after a random pause (full jitter:
anything from nothing to an exponentially growing limit), so that clients that were refused together
don't come back together. Three bounds: the number of attempts, a deadline over all of them, and a
budget of the process: retries may be a share of all requests, plus a trickle for a process that
asks for little. When it is used up a retry waits for its turn, so that a store in trouble sees
hardly more requests than a healthy one.

Every operation here may be repeated: objects don't change, and a create-only put that finds its own
earlier attempt compares the content.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog
from obstore.exceptions import BaseError

from elanus.runtime.clock import Clock
from elanus.runtime.world import World
from elanus.storage.objects.failures import Failure, Kind, RequestFailed, understand
from elanus.storage.objects.stats import FAILED, OK, RETRIED, ObjectStats

log = structlog.get_logger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
# Large bodies have more time: what a connection that is not worth waiting for still carries.
_SLOWEST_BYTES_PER_S = 1 << 20

_RETRY_SHARE = 0.2
_RETRY_TRICKLE_PER_S = 10.0
_RETRY_BURST = 100.0

_SETTLED = {Kind.MISSING, Kind.TAKEN, Kind.CHANGED, Kind.OUT_OF_RANGE}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempt_s`` limits one attempt, ``total_s`` all of them with their pauses; both grow with
    the size of the body."""

    attempt_s: float
    total_s: float
    max_retries: int
    max_concurrent: int

    @staticmethod
    def extra_s(size_bytes: int) -> float:
        return size_bytes / _SLOWEST_BYTES_PER_S


class RetryBudget:
    """A token bucket. Requests and time put in, each retry takes one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tokens = _RETRY_BURST
        self._filled_s = clock.monotonic_s()

    def earn(self) -> None:
        """A first attempt is made."""
        self._tokens = min(_RETRY_BURST, self._tokens + _RETRY_SHARE)

    def wait_s(self) -> float:
        """How long until a retry made now would be within the budget."""
        now_s = self._clock.monotonic_s()
        trickle = (now_s - self._filled_s) * _RETRY_TRICKLE_PER_S
        self._tokens = min(_RETRY_BURST, self._tokens + trickle)
        self._filled_s = now_s
        return max(0.0, 1.0 - self._tokens) / _RETRY_TRICKLE_PER_S

    def spend(self) -> None:
        """A retry is decided; it may have to wait as long as ``wait_s`` said before."""
        self._tokens -= 1.0


class Requests:
    """Runs the requests of one store. Those that wait for a free place get it in their order."""

    def __init__(
        self, world: World, policy: RetryPolicy, stats: ObjectStats, budget: RetryBudget
    ) -> None:
        self._clock = world.clock
        self._random = world.random
        self._policy = policy
        self._stats = stats
        self._budget = budget
        self._places = asyncio.Semaphore(policy.max_concurrent)
        self._wide = asyncio.Lock()

    async def run(
        self,
        operation: str,
        key: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        size_bytes: int = 0,
        width: int = 1,
        requests: int = 1,
    ) -> T:
        """What ``attempt`` returns in the end. Raises RequestFailed with the last failure.

        ``size_bytes``: of the body; ``width``: requests that one attempt has in flight;
        ``requests``: those that it makes, for the statistics.
        """
        extra_s = self._policy.extra_s(size_bytes)
        deadline_s = self._clock.monotonic_s() + self._policy.total_s + extra_s
        self._budget.earn()
        retries = 0
        while True:
            left_s = deadline_s - self._clock.monotonic_s()
            failure: Failure
            try:
                async with asyncio.timeout(left_s):
                    async with (
                        self._place(width),
                        asyncio.timeout(self._policy.attempt_s + extra_s),
                    ):
                        answer = await attempt()
            except (BaseError, OSError) as error:  # a TimeoutError is an OSError
                failure = understand(error)
            else:
                self._stats.count(operation, OK, requests)
                return answer
            pause_s = self._pause_s(retries, deadline_s) if failure.passing else None
            if pause_s is None:
                self._stats.count(operation, OK if failure.kind in _SETTLED else FAILED, requests)
                raise RequestFailed(failure) from None  # the cause's text may hold secrets
            self._stats.count(operation, RETRIED, requests)
            log.debug("request is retried", operation=operation, key=key, reason=failure.reason)
            await self._clock.sleep(pause_s)
            retries += 1

    def _pause_s(self, retries: int, deadline_s: float) -> float | None:
        """How long to wait before the next attempt; None if there is to be none."""
        if retries >= self._policy.max_retries:
            return None
        jitter_s = self.jitter_s(retries)
        pause_s = max(jitter_s, self._budget.wait_s())
        if self._clock.monotonic_s() + pause_s >= deadline_s:
            return None
        self._budget.spend()
        return pause_s

    def jitter_s(self, retries: int) -> float:
        limit_s: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**retries)
        return self._random.uniform(0.0, limit_s)

    @asynccontextmanager
    async def _place(self, width: int) -> AsyncIterator[None]:
        width = min(width, self._policy.max_concurrent)
        taken = 0
        try:
            if width == 1:
                await self._places.acquire()
                taken = 1
            else:
                # One at a time gathers several places: two that had half each would wait for ever.
                async with self._wide:
                    while taken < width:
                        await self._places.acquire()
                        taken += 1
            yield
        finally:
            for _ in range(taken):
                self._places.release()
