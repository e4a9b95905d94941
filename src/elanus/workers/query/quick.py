"""Which searches are over sooner than the way to a thread and back.

That way costs several switches between threads, each of which waits for the interpreter and, on a
machine with little to do, for a core to wake up: 0.3 to 0.5 ms of processor time for each search
of several clients. What takes little more than twice as much is done on the event loop instead,
whatever else is under way: an insert that waits for the disk must not send the searches beside it
to threads, where each then keeps the next one in threads. Only so much of it is done before
everybody else has a turn; what comes in larger crowds goes to threads, where it becomes a few large
calls.

Where several searches mostly come in one turn, their kernels run one after another when all of them
are ready for it. A kernel goes through a megabyte of vectors, and whatever Python runs behind it
finds its caches cold: so all that is done before the kernels is done with warm ones, but for the
first search, and all that is done behind them, too.
"""

import asyncio
from collections.abc import Hashable

from elanus.runtime.calls import Calls

QUICK_S, QUICK_ALONE_S = 0.001, 0.0015
"""Searches that may take so long run on the event loop: always, and if no other call is there."""
FEW_SLOTS, QUICK_OF_FEW_S = 2, 0.002
"""Where so few threads search, the same: cores that others use too gain less by them."""
TURN_S = 0.004
"""Of searches on the event loop before all else there has its turn."""
LONG_S = 0.006
"""What took longer counts as so long: it rarely does again."""
WEIGHT = 1 / 8
"""Of the last time in the mean."""
TOGETHER = 1.5
"""Searches of a turn, in the mean, from which on they wait for each other."""
MAX_KNOWN = 4_096
"""Searches whose times are remembered."""


class QuickSearches:
    """``key``: of searches that ask the same of the same rows with other vectors, as many.

    slots: threads that search.
    """

    def __init__(self, calls: Calls, slots: int) -> None:
        self._calls = calls
        has_few = slots <= FEW_SLOTS
        self._quick_s = QUICK_OF_FEW_S if has_few else QUICK_S
        self._quick_alone_s = QUICK_OF_FEW_S if has_few else QUICK_ALONE_S
        self._seconds: dict[Hashable, float] = {}
        self._taken_s: float | None = None
        """Of the event loop since all else had its turn; None: nothing."""
        self._taken = 0
        """By so many searches."""
        self._usually_taken = 1.0

    @property
    def come_together(self) -> bool:
        """Whether a search that has its turn mostly isn't the only one."""
        return self._usually_taken > TOGETHER

    def take_turn(self, key: Hashable) -> bool:
        """Whether a search may run on the event loop now; then it must."""
        seconds = self._seconds.get(key)
        if seconds is None:
            return False
        is_alone = self._calls.in_flight <= 1
        if seconds > (self._quick_alone_s if is_alone else self._quick_s):
            return False
        if self._taken_s is None:
            self._taken_s, self._taken = 0.0, 0
            asyncio.get_running_loop().call_soon(self._end_turn)
        elif self._taken_s + seconds > TURN_S:
            return False
        self._taken_s += seconds
        self._taken += 1
        return True

    def _end_turn(self) -> None:
        self._usually_taken += (self._taken - self._usually_taken) * WEIGHT
        self._taken_s = None

    def note(self, key: Hashable, seconds: float) -> None:
        seconds = min(seconds, LONG_S)
        known = self._seconds.get(key)
        if known is not None:
            seconds = known + (seconds - known) * WEIGHT
        elif len(self._seconds) >= MAX_KNOWN:
            self._seconds.clear()
        self._seconds[key] = seconds
