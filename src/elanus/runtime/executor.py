"""Where heavy work runs: in threads, in code that releases the GIL, never on the event loop.

A simulation replaces the threads with calls on its own loop, so that one seed gives one trace.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Literal, ParamSpec, Protocol, TypeVar

from elanus.runtime.threads import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")

Pool = Literal["search", "compute", "io"]


class Executor(Protocol):
    async def run(
        self, pool: Pool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call ``function`` in the given pool and give what it returns or raises.

        ``search`` has one thread per core and is for reads that users wait for, ``compute`` is
        for other work on the processor, ``io`` for calls that wait for a disk.
        """
        ...

    def start(self, pool: Pool, function: Callable[[], T]) -> "asyncio.Future[T]":
        """As ``run``, without waiting: whoever has the future is called back."""
        ...

    def close(self) -> None: ...


class ThreadExecutor:
    """One pool of threads for each kind of work."""

    def __init__(
        self, *, cores: int | None = None, initializer: Callable[[], None] | None = None
    ) -> None:
        cores = cores or os.cpu_count() or 1
        self._pools: dict[Pool, ThreadPool] = {
            "search": ThreadPool("elanus-search", cores, initializer),
            "compute": ThreadPool("elanus-compute", cores, initializer),
            "io": ThreadPool("elanus-io", max(8, cores), initializer),
        }

    async def run(
        self, pool: Pool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._pools[pool].submit(lambda: function(*args, **kwargs))

    def start(self, pool: Pool, function: Callable[[], T]) -> "asyncio.Future[T]":
        return self._pools[pool].submit(function)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()
