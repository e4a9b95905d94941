"""A metadata store in memory that can be made unreachable, and a clock that tests move."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contract.conftest import ManualClock as StandingClock
from tests.worlds import running_world

from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.storage.meta.base import RevisionCompacted, Snapshot, WatchEvent
from elanus.storage.meta.memory import MemoryMetaStore

TURNS = 30
STEP_S = 0.25


async def turns() -> None:
    """Let everybody run until nothing but time is waited for."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


class ManualClock(StandingClock):
    """Stands still until a test moves it: with ``pass_`` in small steps, as time passes for those
    that run; with ``jump`` at once, as it does for a process that was paused."""

    jump = StandingClock.advance

    async def pass_(self, seconds: float) -> None:
        await turns()
        for _ in range(round(seconds / STEP_S)):
            self.jump(STEP_S)
            await turns()


class CuttableMeta(MemoryMetaStore):
    """``cut``: calls and watches fail, time goes on. ``compacted``: the next watch is refused."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.is_cut = False
        self.compacted = False
        self._broken = asyncio.Event()

    def cut(self) -> None:
        self.is_cut = True
        self._broken.set()

    def heal(self) -> None:
        self.is_cut = False
        self._broken = asyncio.Event()

    def _reach(self) -> None:
        if self.is_cut:
            raise Unavailable("the metadata store can't be reached")

    async def keep_alive(self, lease: int) -> None:
        self._reach()
        await super().keep_alive(lease)

    async def snapshot(self, prefix: str) -> Snapshot:
        self._reach()
        return await super().snapshot(prefix)

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:  # type: ignore[override]
        self._reach()
        if self.compacted:
            self.compacted = False
            raise RevisionCompacted(from_revision, from_revision)
        events = super().watch(prefix, from_revision)
        while True:
            following = asyncio.ensure_future(anext(events))
            broken = asyncio.ensure_future(self._broken.wait())
            try:
                await asyncio.wait({following, broken}, return_when=asyncio.FIRST_COMPLETED)
                if broken.done():
                    raise Unavailable("the connection broke")
                yield following.result()
            finally:
                for waiting in (following, broken):
                    waiting.cancel()
                await asyncio.gather(following, broken, return_exceptions=True)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def world(clock: ManualClock) -> AsyncIterator[World]:
    async with running_world(clock, cores=1) as world:
        yield world
    assert world.tasks.failures == []


@pytest.fixture
async def meta(world: World) -> AsyncIterator[CuttableMeta]:
    store = CuttableMeta(world)
    yield store
    await world.tasks.close()
    await store.close()
