"""Time, as an argument. A simulation replaces it with a virtual clock."""

import asyncio
import resource
import time
from typing import Protocol

_THREAD: int | None = getattr(resource, "RUSAGE_THREAD", None)
_DISK_READ_S = 0.001
"""What a page of a file that must be read from a disk counts as."""


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall-clock milliseconds since the Unix epoch. May step."""
        ...

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps."""
        ...

    def busy_s(self) -> float:
        """Seconds that the calling thread has spent on a processor or on reading pages of mapped
        files, however long it waited for a processor or for the interpreter."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def busy_s(self) -> float:
        reads = 0 if _THREAD is None else resource.getrusage(_THREAD).ru_majflt
        return time.thread_time() + reads * _DISK_READ_S

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
