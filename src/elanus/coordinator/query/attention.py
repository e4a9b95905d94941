"""Whom to wake, without a rush.

What happens to a node or a log may concern thousands of collections. Their workers are woken a few
at a time, and those have planned before the next ones are woken: so the event loop stays free, and
what a plan has put right isn't planned again.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from elanus.coordinator.query.shared import Shared

WAKES_PER_TURN = 16
"""Workers that are woken before they, and the rest of the event loop, have their turn."""

CHECKS_PER_TURN = 256
"""Collections that are looked at before that."""


class Attention:
    """``loaded``: collections by id. ``may_do_better(id)``: whether waking it may help."""

    def __init__(
        self,
        shared: Shared,
        loaded: Mapping[int, object],
        wake: Callable[[int], None],
        may_do_better: Callable[[int], bool],
    ) -> None:
        self._shared = shared
        self._loaded = loaded
        self._wake = wake
        self._may_do_better = may_do_better
        self._due: dict[int, None] = {}
        self._must_look = False
        self._looked_at = -1
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    def wake(self, collection_ids: Iterable[int]) -> None:
        """Soon."""
        self._due.update(dict.fromkeys(collection_ids))
        self._begin()

    def look(self, *, only_if_changed: bool = False) -> None:
        """Wake all that may do better now, or only if plans have changed since the last look."""
        if not only_if_changed or self._looked_at != self._shared.nodes.fullness.changes:
            self._must_look = True
            self._begin()

    async def let_plan(self) -> None:
        """Until those that were woken have planned."""
        await asyncio.sleep(0)
        async with self._shared.turns:
            pass

    def _begin(self) -> None:
        if not self.is_busy:
            tasks = self._shared.context.world.tasks
            self._task = tasks.spawn("wake collections", self._work())

    async def _work(self) -> None:
        while self._due or self._must_look:
            while self._due:
                for _ in range(min(len(self._due), WAKES_PER_TURN)):
                    collection_id = next(iter(self._due))
                    del self._due[collection_id]
                    self._wake(collection_id)
                await self.let_plan()
            if self._must_look:
                self._must_look = False
                await self._look()

    async def _look(self) -> None:
        woken = 0
        for number, collection_id in enumerate(list(self._loaded)):
            if self._may_do_better(collection_id):
                self._wake(collection_id)
                woken += 1
            if woken == WAKES_PER_TURN or number % CHECKS_PER_TURN == 0:
                woken = 0
                await self.let_plan()
            if self._due:
                self._must_look = True  # after those
                return
        self._looked_at = self._shared.nodes.fullness.changes
