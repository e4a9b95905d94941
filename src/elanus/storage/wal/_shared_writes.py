"""Lets appends that come while a write is under way share the next one.

One write is under way at a time and runs to its end, even if all who wait for it give up: the next
would run beside it otherwise. Appends keep the order of their calls. An error of a write is the
error of all appends in it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from elanus.errors import ParameterTooLarge
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._frames import MAX_PAYLOAD_BYTES, size_of

_MAX_SHARED_BYTES = 16 << 20
"""Appends that together have more than this are not written at once."""

Records: TypeAlias = list[Sequence[Buffer]]
Write: TypeAlias = Callable[[Records, list[int]], Coroutine[Any, Any, list[int]]]
"""Makes records durable, given the bytes of each too, and gives their positions."""


@dataclass(slots=True, eq=False)
class _Append:
    records: Sequence[Sequence[Buffer]]
    sizes: list[int]
    size_bytes: int
    answer: "asyncio.Future[list[int]]"


class SharedWrites:
    def __init__(self, write: Write) -> None:
        self._write = write
        self._queue: deque[_Append] = deque()
        self._under_way: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        """Positions of ``records``. Raises ParameterTooLarge, or what the write raises."""
        sizes = _sizes(records)
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Append(records, sizes, sum(sizes), answer))
        if self._under_way is None:
            self._begin()
        return await answer

    def _begin(self) -> None:
        group: list[_Append] = []
        write = asyncio.get_running_loop().create_task(self._write_group(group))
        write.add_done_callback(partial(self._finish, group))
        self._under_way = write

    async def _write_group(self, group: list[_Append]) -> None:
        # Taken only now: whoever appends in the same turn of the event loop is here already.
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
        positions = await self._write(records, sizes)
        first = 0
        for append in group:
            end = first + len(append.records)
            if not append.answer.done():  # else whoever waited has given up
                append.answer.set_result(positions[first:end])
            first = end

    def _finish(self, group: list[_Append], write: "asyncio.Task[None]") -> None:
        error = asyncio.CancelledError() if write.cancelled() else write.exception()
        if error is not None:
            for append in group:
                if not append.answer.done():
                    append.answer.set_exception(error)
        self._under_way = None
        if self._queue:
            self._begin()

    async def idle(self) -> None:
        """Returns when nothing is under way."""
        while self._under_way is not None:
            await asyncio.wait([self._under_way])


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
