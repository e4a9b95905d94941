"""Steps that must run to their end even when whoever waits for them gives up.

A call in the ``io`` pool can't be stopped half-way. If its caller is cancelled and lets go of the
lock that keeps calls apart, the next call would run beside it. So such steps run in a task of
their own, lock included, and a cancelled caller leaves the task behind.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def run_to_end(step: Coroutine[Any, Any, T]) -> T:
    """What ``step`` returns or raises. Cancelling the caller doesn't cancel ``step``."""
    task = asyncio.get_running_loop().create_task(step)
    task.add_done_callback(_notice)
    return await asyncio.shield(task)


def _notice(task: asyncio.Task[Any]) -> None:
    # A step whose caller is gone has nobody to tell of its error.
    if not task.cancelled():
        task.exception()
