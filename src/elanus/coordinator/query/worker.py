"""The state of a loaded collection's worker."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from elanus.coordinator.query.shard import LoadedShard
from elanus.model.catalog import SegmentInfo
from elanus.model.types import LoadState
from elanus.runtime.clock import Clock

T = TypeVar("T")


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

    def shows(self, segments: Iterable[SegmentInfo]) -> bool:
        """Whether every one of them is read in its shard."""
        shards = {shard.vchannel: shard for shard in self.shards}
        return all(shards[segment.vchannel].shows(segment) for segment in segments)

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


async def all_ended(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run all of them to their end, then raise the first error."""
    results: list[T] = []
    for outcome in await asyncio.gather(*steps, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
