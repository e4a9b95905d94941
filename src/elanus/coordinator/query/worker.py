"""The state of a loaded collection's worker."""

import asyncio
from collections.abc import Sequence

from elanus.coordinator.query.shard import LoadedShard
from elanus.model.types import LoadState
from elanus.runtime.clock import Clock


class LoadedCollection:
    """See the module. ``wanted``: there is something to do."""

    def __init__(self, collection_id: int, shards: Sequence[LoadedShard]) -> None:
        self.collection_id = collection_id
        self.shards = shards
        self.state = LoadState.LOADING
        self.reason = "waiting to be loaded"
        self.restoring = False
        self.wanted = asyncio.Event()
        self.hurry = asyncio.Event()
        """Why the last round failed may be over: try again at once."""

        self.is_failing = False
        self.task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        for shard in self.shards:
            shard.behind = True
        self.wanted.set()

    async def pause(self, clock: Clock, longest_s: float) -> None:
        """Until there is a hurry, or the time is over."""
        over = asyncio.ensure_future(clock.sleep(longest_s))
        hurry = asyncio.ensure_future(self.hurry.wait())
        try:
            await asyncio.wait({over, hurry}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            hurry.cancel()

    @property
    def progress(self) -> int:
        if self.state is LoadState.LOADED:
            return 100
        total = sum(shard.total for shard in self.shards)
        ready = sum(shard.ready for shard in self.shards)
        return 99 * ready // total if total else 0
