"""Who reads the files of an import: a process of its own, or (in a simulation) this one."""

from collections.abc import Awaitable, Callable, Generator
from typing import Protocol

from elanus.errors import ImportFailed, InternalError
from elanus.runtime.world import World
from elanus.workers.data.importing.request import (
    Event,
    Failed,
    Finished,
    ImportRequest,
    NeedIds,
    Progress,
)
from elanus.workers.data.importing.run import run_import

AllocateIds = Callable[[int], Awaitable[int]]
"""The first of so many fresh ids."""
Told = Callable[[int], None]
"""Called with the number of rows that have been read."""


class Importer(Protocol):
    async def run(self, request: ImportRequest, allocate_ids: AllocateIds, told: Told) -> Finished:
        """Write the sorted pieces. Cancelling ends the work.

        Raises ImportFailed for what the files have wrong, InternalError if the work broke off.
        """
        ...


async def follow(event: Event, allocate_ids: AllocateIds, told: Told) -> int:
    """What to answer an event that isn't the last. Raises ImportFailed, InternalError."""
    match event:
        case NeedIds():
            return await allocate_ids(event.count)
        case Progress():
            told(event.rows)
        case Failed():
            raise ImportFailed(event.reason) if event.invalid else InternalError(event.reason)
    return 0


class InProcessImporter:
    """Imports in the ``compute`` pool. It slows down everything else: for simulations and tests."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def run(self, request: ImportRequest, allocate_ids: AllocateIds, told: Told) -> Finished:
        work = run_import(request)
        answer: int | None = None
        while True:
            event = await self._world.executor.run("compute", _next, work, answer)
            if isinstance(event, Finished):
                return event
            answer = await follow(event, allocate_ids, told)


def _next(work: Generator[Event, int, None], answer: int | None) -> Event:
    return next(work) if answer is None else work.send(answer)
