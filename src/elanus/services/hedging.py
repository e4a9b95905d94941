"""When a read that is late is asked of a second node, and how often that may happen.

A read whose node takes longer than nearly all others of late is sent to other copies as well, and
the first answer counts (Dean and Barroso, The Tail at Scale, 2013). The delay follows what is
observed; a budget bounds the additional load, so that a cluster in which everything is slow isn't
made slower.
"""

from collections import deque

from elanus.runtime.clock import Clock

LATE_PART = 0.95
"""A read is late if so many of the reads of late were faster."""

OBSERVED_READS = 256
RENEWED_EVERY = 32
FIRST_DELAY_S = 0.1
MIN_DELAY_S = 0.01
MAX_DELAY_S = 1.0

SHARE = 0.05
"""Additional requests for each read…"""

PER_SECOND = 1.0
"""…and for each second, so that rare reads aren't without help…"""

MAX_SAVED = 10.0
"""…of which so many may come at once."""


class Hedging:
    """The observed latencies of the reads of this node, and the budget."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latencies_s: deque[float] = deque(maxlen=OBSERVED_READS)
        self._noted = 0
        self._saved = MAX_SAVED
        self._saved_at_s = clock.monotonic_s()
        self.delay_s = FIRST_DELAY_S
        """A read without an answer is late after this time."""

    def note(self, latency_s: float) -> None:
        """A read was answered."""
        self._latencies_s.append(latency_s)
        self._saved = min(MAX_SAVED, self._saved + SHARE)
        self._noted += 1
        if self._noted % RENEWED_EVERY == 0:
            ordered = sorted(self._latencies_s)
            late_s = ordered[int(LATE_PART * (len(ordered) - 1))]
            self.delay_s = min(MAX_DELAY_S, max(MIN_DELAY_S, late_s))

    def may_hedge(self) -> bool:
        """Takes one additional request from the budget, if there is one."""
        now_s = self._clock.monotonic_s()
        gained = PER_SECOND * (now_s - self._saved_at_s)
        self._saved = min(MAX_SAVED, self._saved + gained)
        self._saved_at_s = now_s
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
