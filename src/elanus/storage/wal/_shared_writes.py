"""Lets appends that come while a write is under way share the next one.

One write is under way at a time and runs to its end, even if all who wait for it give up: the next
would run beside it otherwise. Appends keep the order of their calls. An error of a write is the
error of all appends in it.

Callbacks and no task: a write's own machinery is a good part of what a small append waits for.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from elanus.errors import ParameterTooLarge
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._frames import MAX_PAYLOAD_BYTES, size_of

_MAX_SHARED_BYTES = 16 << 20
"""Appends that together have more than this are not written at once."""

Records: TypeAlias = list[Sequence[Buffer]]
Finish: TypeAlias = "Callable[[list[int] | BaseException], None]"
"""Told once, on the event loop, the positions of the records or what became of them instead."""
Begin: TypeAlias = "Callable[[Records, list[int], Finish], None]"
"""Begins to make records durable, given the bytes of each too. What it raises, appends raise."""


@dataclass(slots=True, eq=False)
class _Append:
    records: Sequence[Sequence[Buffer]]
    sizes: list[int]
    size_bytes: int
    answer: "asyncio.Future[list[int]]"


class SharedWrites:
    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._queue: deque[_Append] = deque()
        self._is_busy = False
        self._idle: list[asyncio.Future[None]] = []

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        """Positions of ``records``. Raises ParameterTooLarge, or what the write raises."""
        sizes = _sizes(records)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[int]] = loop.create_future()
        self._queue.append(_Append(records, sizes, sum(sizes), answer))
        if not self._is_busy:
            self._is_busy = True
            # Only later: whoever appends in the same turn of the event loop shares the write.
            loop.call_soon(self._write_next)
        return await answer

    def _write_next(self) -> None:
        if not self._queue:
            self._is_busy = False
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()
            return
        group, records, sizes = self._take()
        try:
            self._begin(records, sizes, partial(self._finish, group))
        except Exception as error:  # noqa: BLE001 - whoever appended is to hear of it
            self._finish(group, error)

    def _take(self) -> tuple[list[_Append], Records, list[int]]:
        """The appends of the next write, in the order of their calls."""
        group: list[_Append] = []
        records: Records = []
        sizes: list[int] = []
        size_bytes = 0
        while self._queue and (
            not group or size_bytes + self._queue[0].size_bytes <= _MAX_SHARED_BYTES
        ):
            append = self._queue.popleft()
            group.append(append)
            records += append.records
            sizes += append.sizes
            size_bytes += append.size_bytes
        return group, records, sizes

    def _finish(self, group: list[_Append], outcome: list[int] | BaseException) -> None:
        if isinstance(outcome, BaseException):
            _fail(group, outcome)
        else:
            _answer(group, outcome)
        # After those who now have their answers: what they append next shares the next write.
        asyncio.get_running_loop().call_soon(self._write_next)

    async def idle(self) -> None:
        """Returns when nothing is under way."""
        if self._is_busy:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter


def error_of(ended: "asyncio.Future[Any]") -> BaseException | None:
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


def _answer(group: list[_Append], positions: list[int]) -> None:
    first = 0
    for append in group:
        end = first + len(append.records)
        if not append.answer.done():  # else whoever waited has given up
            append.answer.set_result(positions[first:end])
        first = end


def _fail(group: list[_Append], error: BaseException) -> None:
    for append in group:
        if not append.answer.done():
            append.answer.set_exception(error)


def _sizes(records: Sequence[Sequence[Buffer]]) -> list[int]:
    """The bytes of each record. Raises ParameterTooLarge."""
    sizes = [
        len(parts[0]) if len(parts) == 1 and type(parts[0]) is bytes else size_of(parts)
        for parts in records
    ]
    if sizes and (largest := max(sizes)) > MAX_PAYLOAD_BYTES:
        raise ParameterTooLarge(
            f"a write of {largest} bytes exceeds the log's limit of {MAX_PAYLOAD_BYTES}"
        )
    return sizes
