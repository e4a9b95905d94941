"""Timestamps and ids: one counter each that never goes back.

The counter follows the clock (``physical_ms << 18 | logical``) but only forwards: when the clock
steps back it goes on counting from where it was. An upper bound a few seconds ahead is stored
before anything beyond it is given out, so a restart begins at the stored bound and can't repeat
anything. Below the bound an allocation touches neither the disk nor the event loop.
"""

import asyncio

from elanus.errors import CorruptData, Unavailable
from elanus.model.timestamp import LOGICAL_BITS
from elanus.runtime.clock import Clock
from elanus.storage.meta.base import Compare, MetaStore, Put
from elanus.storage.uncancelled import run_to_end

SAVE_AHEAD_MS = 3_000
_SAVE_ATTEMPTS = 5


class Allocator:
    """Hands out ranges of consecutive integers, larger than all before, over restarts too."""

    def __init__(self, store: MetaStore, clock: Clock, key: str) -> None:
        self._store = store
        self._clock = clock
        self._key = key
        self._next = 0
        self._bound = 0
        self._revision = 0
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Begin where the last run can't have been. Raises Unavailable or CorruptData."""
        await self._read_bound()

    @property
    def last(self) -> int:
        """The largest integer given out in this run."""
        return self._next - 1

    async def allocate(self, count: int = 1) -> int:
        """The first of ``count`` consecutive integers."""
        now = self._clock.now_ms() << LOGICAL_BITS
        first = now if now > self._next else self._next
        if first + count > self._bound:
            return await run_to_end(self._allocate_beyond_bound(count))
        self._next = first + count
        return first

    async def close(self) -> None:
        """Lower the stored bound to what was used, so that the next run starts at the clock."""
        async with self._lock:
            if self._bound > self._next:
                self._bound = self._next
                await self._save(self._next)

    async def _allocate_beyond_bound(self, count: int) -> int:
        async with self._lock:
            while True:
                now = self._clock.now_ms() << LOGICAL_BITS
                first = max(now, self._next)
                if first + count <= self._bound:
                    self._next = first + count
                    return first
                bound = first + count + (SAVE_AHEAD_MS << LOGICAL_BITS)
                if await self._save(bound):
                    self._bound = bound

    async def _save(self, bound: int) -> bool:
        """Store ``bound``; False if somebody else did, and then everything starts behind that."""
        for _ in range(_SAVE_ATTEMPTS):
            try:
                result = await self._store.transact(
                    [Put(self._key, str(bound).encode())], [Compare(self._key, self._revision)]
                )
            except Unavailable:
                # It may have been stored: the next try would compare with a revision of the past.
                self._revision = -1
                raise
            if result.succeeded:
                self._revision = result.revision
                return True
            if await self._read_bound() != bound:
                return False
        raise Unavailable("the timestamp bound is being changed by another coordinator")

    async def _read_bound(self) -> int:
        pair = await self._store.get(self._key)
        if pair is None:
            self._revision = 0
            return 0
        try:
            stored = int(pair.value)
        except ValueError as error:
            raise CorruptData(f"metadata key {self._key} is not a number") from error
        self._revision = pair.modified_revision
        self._next = max(self._next, stored)
        return stored
