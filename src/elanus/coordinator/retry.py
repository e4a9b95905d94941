"""Calls to other roles are repeated while they are unavailable: every one of them is idempotent."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from elanus.errors import Unavailable
from elanus.runtime.world import World

T = TypeVar("T")
log = structlog.get_logger(__name__)

FIRST_DELAY_S = 0.02
MAX_DELAY_S = 5.0
ATTEMPTS_OF_A_REQUEST = 10
UNBOUNDED = 0


def delay_s(world: World, attempt: int) -> float:
    """Time to wait after the ``attempt``-th failure (1, 2, …): doubling, bounded, with jitter."""
    delay: float = min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(attempt - 1, 16))
    return delay * (0.75 + world.random.random() / 2)


async def retry(
    world: World,
    what: str,
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int = ATTEMPTS_OF_A_REQUEST,
) -> T:
    """Await ``call()`` until it does not raise Unavailable; at most ``attempts`` times.

    With ``UNBOUNDED`` it goes on until it is cancelled: for background work that must be done.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await call()
        except Unavailable as error:
            if attempt == attempts:
                raise
            if attempt & (attempt - 1) == 0:
                log.info("waiting for another role", what=what, attempt=attempt, reason=str(error))
            await world.clock.sleep(delay_s(world, attempt))
