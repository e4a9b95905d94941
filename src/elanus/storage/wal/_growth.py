"""Tells readers in the same process that a log has grown, so that following it needs no polling."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Literal

from elanus.runtime.clock import Clock
from elanus.storage.wal.base import WalRecord


class Growth:
    """``notify`` after records became durable, ``end`` when nobody should wait any longer."""

    def __init__(self) -> None:
        self._count = 0
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def count(self) -> int:
        return self._count

    @property
    def ended(self) -> bool:
        return self._ended

    def notify(self) -> None:
        self._count += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def end(self) -> None:
        self._ended = True
        self.notify()

    async def follow(
        self, read: Callable[[int], AsyncIterator[WalRecord]], after: int
    ) -> AsyncIterator[WalRecord]:
        """Records of ``read(after)``, then of each growth, until the end."""
        while not self._ended:
            seen = self._count
            async for record in read(after):
                after = record.position
                yield record
            while self._count == seen:
                await self._changed.wait()

    async def wait(self, seen: int, clock: Clock, patience_s: float) -> bool:
        """Wait until ``count`` is not ``seen`` any more, or for so long; whether it has changed."""
        if self._count == seen:
            waits = [
                asyncio.ensure_future(self._changed.wait()),
                asyncio.ensure_future(_sleep(clock, patience_s)),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in waits:
                    each.cancel()
        return self._count != seen


async def _sleep(clock: Clock, seconds: float) -> Literal[True]:
    await clock.sleep(seconds)
    return True
