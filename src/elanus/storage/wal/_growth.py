"""Tells readers in the same process that a log has grown, so that following it needs no polling."""

import asyncio
from collections.abc import AsyncIterator, Callable

from elanus.storage.wal.base import WalRecord


class Growth:
    """``notify`` after records became durable, ``end`` when nobody should wait any longer."""

    def __init__(self) -> None:
        self._count = 0
        self._ended = False
        self._changed = asyncio.Event()

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
