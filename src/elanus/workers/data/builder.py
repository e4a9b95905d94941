"""Who builds an index file: a process of its own, or (in a simulation) this one."""

from typing import Protocol

from elanus.engine.index.base import Note, unheard
from elanus.runtime.world import World
from elanus.workers.data.build_request import BuildRequest, run_build


class IndexBuilder(Protocol):
    async def build(self, request: BuildRequest, note: Note = unheard) -> int:
        """Write the index file; the number of its rows. Cancelling ends the work.

        Raises InvalidParameter for parameters that can't be, InternalError for a failed build.
        """
        ...

    async def close(self) -> None: ...


class InProcessBuilder:
    """Builds in the ``compute`` pool. It slows down everything else: for simulations and tests."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def build(self, request: BuildRequest, note: Note = unheard) -> int:
        return await self._world.executor.run("compute", run_build, request, note)

    async def close(self) -> None:
        pass
