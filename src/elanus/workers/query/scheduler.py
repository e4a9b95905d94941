"""Runs searches on the ``search`` pool, a bounded number at a time, and batches those that wait.

As long as nothing queues a search starts at once: on the event loop if it is over sooner there
(with those that come in the same turn, see ``quick``), else if a slot is free. Else it queues;
searches in the queue that ask the same of the same segments (field, metric, parameters, filter, and
a snapshot that can't tell them apart) become one kernel call over all their vectors, whose hits are
split again. What is to be made of a search's hits is made in the same thread. A request over
several segments uses the slots that are free when it starts.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from msgspec.structs import replace

from elanus.errors import TooManyRequests
from elanus.model.reads import Hits, VectorQuery
from elanus.model.vectors import concat_vectors
from elanus.runtime.world import World
from elanus.workers.query.quick import QuickSearches

T = TypeVar("T")

SearchCall = Callable[[VectorQuery], Hits]
Finish = Callable[[Hits], Any]

_MAX_BATCH_VECTORS = 1024


def as_found(hits: Hits) -> Hits:
    """For searches that want nothing but the hits."""
    return hits


@dataclass
class _Waiting:
    """``call`` searches for the vectors of ``query``; any other call of the same batch would do.
    ``finish`` makes the answer of its hits."""

    call: SearchCall
    query: VectorQuery
    finish: Finish
    answer: asyncio.Future[Any]


class SearchScheduler:
    """See the module. ``slots``: threads that search; ``max_waiting``: bound of the queue."""

    def __init__(self, world: World, *, slots: int, max_waiting: int) -> None:
        self._world = world
        self._quick = QuickSearches(world.calls, slots)
        self._slots = max(1, slots)
        self._max_waiting = max_waiting
        self._running = 0
        self._waiting = 0
        self._batches: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()
        self._turns: deque[asyncio.Future[None]] = deque()
        self._together: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._batch_is_next = False
        self._serial = 0

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def free_slots(self) -> int:
        return self._slots - self._running

    async def search(
        self,
        key: Hashable | None,
        call: SearchCall,
        query: VectorQuery,
        finish: Finish = as_found,
    ) -> Any:
        """``finish(call(query))`` in a thread, the call maybe for others of the same ``key`` too.

        A key of None is never batched. Raises TooManyRequests when the queue is full.
        """
        if not self._waiting:
            same = None if key is None else (key, len(query.vectors))
            timed = partial(self._timed, same, call, query, finish)
            if same is not None and self._quick.take_turn(same):
                if not self._quick.come_together:
                    return timed()
                return await self._with_others(timed)
            if self._running < self._slots:
                return await self._in_thread(timed)
        self._check_room()
        if key is None:
            self._serial += 1
            key = ("alone", self._serial)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._batches.setdefault(key, deque()).append(_Waiting(call, query, finish, answer))
        self._waiting += 1
        return await answer

    async def _with_others(self, timed: Callable[[], Any]) -> Any:
        """On the event loop, once all that is ready there has come as far as this."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._together:
            loop.call_soon(self._run_together)
        self._together.append((timed, answer))
        return await answer

    def _run_together(self) -> None:
        together, self._together = self._together, []
        for timed, answer in together:
            if answer.done():
                continue  # cancelled
            try:
                answer.set_result(timed())
            except Exception as error:  # noqa: BLE001 - told to the one that it concerns
                answer.set_exception(error)

    async def _in_thread(self, timed: Callable[[], Any]) -> Any:
        self._running += 1
        try:
            return await self._world.executor.run("search", timed)
        finally:
            self._release()

    def _timed(
        self, same: Hashable | None, call: SearchCall, query: VectorQuery, finish: Finish
    ) -> Any:
        started_s = self._world.clock.busy_s()
        found = search_alone(call, query, finish)
        if same is not None:
            self._quick.note(same, self._world.clock.busy_s() - started_s)
        return found

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """``function(*args)`` in a thread, in its turn."""
        if self._running >= self._slots or self._waiting:
            self._check_room()
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._turns.append(turn)
            self._waiting += 1
            await self._wait_for(turn)
        else:
            self._running += 1
        try:
            return await self._world.executor.run("search", function, *args)
        finally:
            self._release()

    async def _wait_for(self, turn: asyncio.Future[None]) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # the slot was already ours
            raise

    def _check_room(self) -> None:
        if self._waiting >= self._max_waiting:
            raise TooManyRequests(
                f"{self._waiting} reads wait on this query node, at most {self._max_waiting} may: "
                f"too many concurrent requests, send again later"
            )

    def _release(self) -> None:
        self._running -= 1
        self._start_next()

    def _start_next(self) -> None:
        """Give free slots to batches and to single calls by turns."""
        while self._running < self._slots and (self._turns or self._batches):
            self._batch_is_next = not self._batch_is_next
            if self._batches and (self._batch_is_next or not self._turns):
                batch = self._next_batch()
                if batch:
                    self._start_batch(batch)
            else:
                turn = self._turns.popleft()
                self._waiting -= 1
                if not turn.done():
                    self._running += 1
                    turn.set_result(None)

    def _next_batch(self) -> list[_Waiting]:
        """The oldest key's searches, as many as a batch may have; cancelled ones are dropped."""
        key, queue = next(iter(self._batches.items()))
        batch: list[_Waiting] = []
        vectors = 0
        while queue and (not batch or vectors + len(queue[0].query.vectors) <= _MAX_BATCH_VECTORS):
            waiting = queue.popleft()
            self._waiting -= 1
            if not waiting.answer.done():
                batch.append(waiting)
                vectors += len(waiting.query.vectors)
        if queue:
            self._batches.move_to_end(key)
        else:
            del self._batches[key]
        return batch

    def _start_batch(self, batch: list[_Waiting]) -> None:
        """Without a task, which would take as long as all else that is done here for a search."""
        call = partial(search_together, batch)
        try:
            answers = self._world.executor.start("search", call)
        except RuntimeError as error:  # the process is ending
            for waiting in batch:
                waiting.answer.set_exception(error)
            return
        self._running += 1
        answers.add_done_callback(partial(self._batch_done, batch))

    def _batch_done(self, batch: list[_Waiting], answers: "asyncio.Future[list[Any]]") -> None:
        try:
            if answers.cancelled():
                for waiting in batch:
                    waiting.answer.cancel()
                return
            error = answers.exception()
            found = [error] * len(batch) if error is not None else answers.result()
            for waiting, answer in zip(batch, found, strict=True):
                if waiting.answer.done():
                    continue
                if isinstance(answer, BaseException):
                    waiting.answer.set_exception(answer)
                else:
                    waiting.answer.set_result(answer)
        finally:
            self._release()


def search_alone(call: SearchCall, query: VectorQuery, finish: Finish) -> Any:
    return finish(call(query))


def search_together(batch: Sequence[_Waiting]) -> list[Any]:
    """One call for all of them; of one that can't be finished, why."""
    first = batch[0]
    if len(batch) == 1:
        return [search_alone(first.call, first.query, first.finish)]
    vectors = concat_vectors([waiting.query.vectors for waiting in batch])
    hits = first.call(replace(first.query, vectors=vectors))
    parts = split_hits(hits, [len(waiting.query.vectors) for waiting in batch])
    return [_finished(waiting.finish, part) for waiting, part in zip(batch, parts, strict=True)]


def _finished(finish: Finish, hits: Hits) -> Any:
    try:
        return finish(hits)
    except Exception as error:  # noqa: BLE001 - told to the one that it concerns
        return error


def split_hits(hits: Hits, sizes: Sequence[int]) -> list[Hits]:
    """The hits of each run of ``sizes`` query vectors, as views."""
    bounds = np.concatenate([[0], np.cumsum(hits.counts)])
    parts: list[Hits] = []
    start = 0
    for size in sizes:
        low, high = int(bounds[start]), int(bounds[start + size])
        parts.append(
            Hits(
                counts=hits.counts[start : start + size],
                scores=hits.scores[low:high],
                keys=hits.keys[low:high],
                timestamps=hits.timestamps[low:high],
                sources=hits.sources[low:high],
                offsets=hits.offsets[low:high],
                groups=None if hits.groups is None else hits.groups[low:high],
                elements=None if hits.elements is None else hits.elements[low:high],
            )
        )
        start += size
    return parts
