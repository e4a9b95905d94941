"""Loading segments on query nodes: a few at a time on each node, and not too many in all.

A shard that wants hundreds of segments costs an entry in a queue for each, not a task; tasks there
are only for what is being loaded. Nodes take turns, so one that is slow keeps nobody else waiting
as long as the total isn't used up by such nodes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from elanus.errors import ElanusError
from elanus.runtime.world import World

MAX_PARALLEL_LOADS = 4
"""Segments that are being loaded on a query node at the same time."""

Job = tuple[int, Callable[[], Awaitable[None]]]
"""A node's id and what is to be done there."""


class _Batch:
    """Jobs that are waited for together."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.running: set[asyncio.Task[None]] = set()
        self.failure: ElanusError | None = None
        self.fault: BaseException | None = None
        self.is_cancelled = False
        self.ended = asyncio.Event()

    def end_one(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self.left -= 1
        fault = asyncio.CancelledError() if task.cancelled() else task.exception()
        self.fault = self.fault or fault
        self._settle()

    def skip_one(self) -> None:
        self.left -= 1
        self._settle()

    def _settle(self) -> None:
        if self.left == 0 or (self.is_cancelled and not self.running):
            self.ended.set()

    def cancel(self) -> None:
        self.is_cancelled = True
        for task in self.running:
            task.cancel()
        self._settle()


class LoadQueue:
    """See the module. ``max_total``: jobs that run at the same time on all nodes together."""

    def __init__(self, world: World, max_total: int, max_per_node: int = MAX_PARALLEL_LOADS):
        self._world = world
        self._max_total = max_total
        self._max_per_node = max_per_node
        self._waiting: dict[int, deque[tuple[_Batch, Job]]] = {}
        self._running: dict[int, int] = {}
        self._total = 0

    async def run(self, jobs: Sequence[Job]) -> ElanusError | None:
        """All of them, to their end; what the first one raised that failed. Cancelling this ends
        those that run, and the others never begin."""
        if not jobs:
            return None
        batch = _Batch(len(jobs))
        for job in jobs:
            self._waiting.setdefault(job[0], deque()).append((batch, job))
        self._start()
        try:
            await batch.ended.wait()
        except asyncio.CancelledError:
            batch.cancel()
            await batch.ended.wait()
            raise
        if batch.fault is not None:
            raise batch.fault
        return batch.failure

    def _start(self) -> None:
        for node_id in list(self._waiting):
            while self._total < self._max_total and self._start_on(node_id):
                pass
            if self._total >= self._max_total:
                return

    def _start_on(self, node_id: int) -> bool:
        """Begin the node's next job, if there is one and room for it."""
        queue = self._waiting.get(node_id)
        while queue and queue[0][0].is_cancelled:
            queue.popleft()[0].skip_one()
        if not queue:
            self._waiting.pop(node_id, None)
            return False
        if self._running.get(node_id, 0) >= self._max_per_node:
            return False
        batch, (_, work) = queue.popleft()
        self._running[node_id] = self._running.get(node_id, 0) + 1
        self._total += 1

        self._waiting[node_id] = self._waiting.pop(node_id)  # the others' turn comes first

        async def run() -> None:
            try:
                await work()
            except ElanusError as error:
                batch.failure = batch.failure or error

        task = self._world.tasks.spawn(f"load on query node {node_id}", run())
        batch.running.add(task)
        task.add_done_callback(lambda ended: self._ended(node_id, batch, ended))
        return True

    def _ended(self, node_id: int, batch: _Batch, task: asyncio.Task[None]) -> None:
        self._running[node_id] -= 1
        self._total -= 1
        if not self._running[node_id]:
            del self._running[node_id]
        batch.end_one(task)
        if self._total + 1 == self._max_total:
            self._start()  # it was full: another node may be waiting
        else:
            while self._total < self._max_total and self._start_on(node_id):
                pass
