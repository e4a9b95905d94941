"""Leases of an embedded metadata store: who must say "I live" how often.

Each lease has a deadline and a background task that sleeps until then; without leases nothing
runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.storage.meta.base import LeaseEnded

RETRY_S = 1.0


class LeaseTable:
    """Leases by id. ``end_lease`` deletes a lease and its keys durably, then calls forget."""

    def __init__(self, world: World, end_lease: Callable[[int], Awaitable[None]]) -> None:
        self._world = world
        self._end_lease = end_lease
        self._ttl_s: dict[int, float] = {}
        self._deadline_s: dict[int, float] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self, leases: Mapping[int, float]) -> None:
        """Take over leases (id → time to live) with their full time ahead."""
        for lease, ttl_s in leases.items():
            self._ttl_s[lease] = ttl_s
            self._deadline_s[lease] = self._world.clock.monotonic_s() + ttl_s
            self._tasks[lease] = self._world.tasks.spawn(f"lease-{lease}", self._expire(lease))

    def require(self, lease: int) -> None:
        """Raises LeaseEnded if the lease has ended."""
        if lease not in self._ttl_s:
            raise LeaseEnded

    def keep_alive(self, lease: int) -> None:
        self.require(lease)
        self._deadline_s[lease] = self._world.clock.monotonic_s() + self._ttl_s[lease]

    def forget(self, lease: int) -> None:
        self._ttl_s.pop(lease, None)
        self._deadline_s.pop(lease, None)
        task = self._tasks.pop(lease, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _expire(self, lease: int) -> None:
        while (deadline_s := self._deadline_s.get(lease)) is not None:
            delay_s = deadline_s - self._world.clock.monotonic_s()
            if delay_s > 0:
                await self._world.clock.sleep(delay_s)
                continue
            try:
                await self._end_lease(lease)
            except Unavailable:  # no room or no disk now: the keys stay a little longer
                await self._world.clock.sleep(RETRY_S)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
