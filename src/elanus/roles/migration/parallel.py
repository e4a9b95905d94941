"""Bounded concurrency: a few workers take items from one list."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

MAX_PARALLEL = 8
"""Objects in flight. Each holds at most one chunk in memory."""


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Call ``work`` for every item; the first failure ends all of it and is raised."""
    waiting = iter(items)

    async def take() -> None:
        for item in waiting:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(MAX_PARALLEL):
                group.create_task(take())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
