"""Counting in etcd from several tasks at once, with proof of each step.

Each increment is one transaction that compares the counter's revision and also puts a receipt of
its own. So whether an increment whose answer was lost has happened can be read afterwards, and
whatever happens, the counter equals the number of receipts, unless the store lost or doubled one.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.worlds import running_world

from elanus.config.storage import EtcdSettings
from elanus.errors import Unavailable
from elanus.storage.meta.base import Compare, MetaStore, Put
from elanus.storage.meta.etcd import EtcdMetaStore

COUNTER = "counter"
RECEIPTS = "receipt/"
PATIENCE_S = 60


@asynccontextmanager
async def open_store(settings: EtcdSettings) -> AsyncIterator[EtcdMetaStore]:
    async with running_world(seed=None) as world:
        store = await EtcdMetaStore.open(world, settings)
        try:
            yield store
        finally:
            await store.close()


class Progress:
    """How many increments were acknowledged, and how many only turned out to have happened."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.settled = 0
        self._moved = asyncio.Event()

    def step(self, *, settled: bool) -> None:
        self.acknowledged += not settled
        self.settled += settled
        self._moved.set()

    async def reach(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.acknowledged + self.settled < count:
                self._moved.clear()
                await self._moved.wait()


async def count_up(store: MetaStore, name: str, times: int, progress: Progress) -> None:
    """Increment ``times`` times, however often the store fails meanwhile."""
    for number in range(times):
        receipt = f"{RECEIPTS}{name}/{number:06}"
        unsure = False
        while True:
            try:
                if unsure and await store.get(receipt) is not None:
                    break
                counter = await store.get(COUNTER)
                value = int(counter.value) + 1 if counter else 1
                revision = counter.modified_revision if counter else 0
                result = await store.transact(
                    [Put(COUNTER, str(value).encode()), Put(receipt, str(value).encode())],
                    [Compare(COUNTER, revision), Compare(receipt, 0)],
                )
                if result.succeeded:
                    unsure = False
                    break
            except Unavailable:
                unsure = True
        progress.step(settled=unsure)


async def counted(store: MetaStore) -> tuple[int, list[int]]:
    """The counter, and the values that the receipts say it took, in order."""
    counter = await store.get(COUNTER)
    receipts = await store.range(RECEIPTS)
    return int(counter.value) if counter else 0, sorted(int(pair.value) for pair in receipts)


async def watch_counter(store: MetaStore, until: int) -> list[int]:
    """The values that a watch from the beginning tells."""
    seen: list[int] = []
    async for event in store.watch(COUNTER, 1):
        assert event.value is not None
        seen.append(int(event.value))
        if seen[-1] >= until:
            break
    return seen
