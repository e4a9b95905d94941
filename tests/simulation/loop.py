"""An asyncio event loop on virtual time: when nothing is ready, time jumps to the next timer."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Stuck(Exception):
    """Nothing is ready and no timer is set: the simulated program waits for ever."""


class Died(SystemExit):
    """The simulated process was killed at this very instruction."""


class _Jump:
    """Stands for the selector: waiting is free, and there are no files."""

    def __init__(self, loop: "SimulatedLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck("every task waits for another one")
        self._loop.now_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.BaseEventLoop):
    """``now_s`` is the virtual time in seconds; it goes on from one life to the next."""

    def __init__(self, now_s: float) -> None:
        super().__init__()
        self.now_s = now_s
        self.killed = ""
        self.iterations = 0
        self._selector = _Jump(self)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now_s

    def kill(self, reason: str) -> None:
        """The process dies: whatever catches the Died that is raised now, nothing runs after."""
        self.killed = self.killed or reason

    def _run_once(self) -> None:
        if self.killed:
            raise Died(self.killed)
        self.iterations += 1
        super()._run_once()  # type: ignore[misc]

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors that nobody asked for are those of calls whose caller has gone."""

    def abandon(self) -> None:
        """The process is gone: its tasks never run again.

        Python runs their ``finally`` blocks, in any order: what a life uses to reach the storage
        must be dead by now, so that they have no effect.
        """
        self.killed = self.killed or "abandoned"
        self._ready.clear()
        self._scheduled.clear()
        task = coroutine = None
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        for task in tasks:
            coroutine = task.get_coro()
            if coroutine is not None:
                with suppress(BaseException):
                    coroutine.close()
        self._ready.clear()
        self._scheduled.clear()
        self.close()
        del tasks, task, coroutine
        gc.collect()  # now, and not in the midst of another life
