"""The outside world for contract tests: real threads and real files, a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from elanus.runtime.world import World
from tests.worlds import running_world


class ManualClock:
    """Stands still until ``advance``."""

    def __init__(self) -> None:
        self._now_s = 1_000_000.0
        self._moved = asyncio.Event()

    def now_ms(self) -> int:
        return int(self._now_s * 1_000)

    def monotonic_s(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        end = self._now_s + seconds
        while self._now_s < end:
            await self._moved.wait()

    def advance(self, seconds: float) -> None:
        self._now_s += seconds
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def world(clock: ManualClock) -> AsyncIterator[World]:
    async with running_world(clock) as world:
        yield world
    assert world.tasks.failures == []
