"""Which searches are over sooner than the way to a thread and back.

That way costs several switches between threads, each of which waits for the interpreter and, on a
machine with little to do, for a core to wake up: as much as half a millisecond. What takes less or
little more is done on the event loop instead. While other calls are under way only what is shorter
than the loop's own part in handing it over is: else the loop would keep them from other cores.
"""

from collections.abc import Hashable

from elanus.runtime.calls import Calls

QUICK_S, QUICK_ALONE_S = 0.000_25, 0.001
"""Searches that may take so long run on the event loop: always, and if no other call is there."""
LONG_S = 0.004
"""What took longer counts as so long: most of these times were spent waiting for a core."""
WEIGHT = 1 / 8
"""Of the last time in the mean."""
MAX_KNOWN = 4_096
"""Searches whose times are remembered."""


class QuickSearches:
    """``key``: of searches that ask the same of the same rows with other vectors, as many."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._seconds: dict[Hashable, float] = {}

    def has(self, key: Hashable) -> bool:
        seconds = self._seconds.get(key)
        if seconds is None:
            return False
        return seconds <= (QUICK_ALONE_S if self._calls.in_flight <= 1 else QUICK_S)

    def note(self, key: Hashable, seconds: float) -> None:
        seconds = min(seconds, LONG_S)
        known = self._seconds.get(key)
        if known is not None:
            seconds = known + (seconds - known) * WEIGHT
        elif len(self._seconds) >= MAX_KNOWN:
            self._seconds.clear()
        self._seconds[key] = seconds
