"""Where heavy work runs: in threads, in code that releases the GIL, never on the event loop.

A simulation replaces the threads with calls on its own loop, so that one seed gives one trace.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, ParamSpec, Protocol, TypeVar

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

    def close(self) -> None: ...


class ThreadExecutor:
    """One pool of threads for each kind of work."""

    def __init__(
        self, *, cores: int | None = None, initializer: Callable[[], None] | None = None
    ) -> None:
        cores = cores or os.cpu_count() or 1

        def make(kind: str, threads: int) -> ThreadPoolExecutor:
            return ThreadPoolExecutor(
                threads, thread_name_prefix=f"elanus-{kind}", initializer=initializer
            )

        self._pools: dict[Pool, ThreadPoolExecutor] = {
            "search": make("search", cores),
            "compute": make("compute", cores),
            "io": make("io", max(8, cores)),
        }

    async def run(
        self, pool: Pool, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pools[pool], lambda: function(*args, **kwargs))

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
