"""What the coordinator has told this proxy: its share of the cluster's rates, and what may not be
written for want of memory or room.

Silence never loosens a limit: what was heard last stays in force. A proxy that hasn't heard for
MAX_SILENCE collections divides the rates by the number of proxies that it sees itself, if those are
more than it was told; one that has never heard does so from the start.
"""

from collections.abc import Callable

from elanus.runtime.clock import Clock
from elanus.services.messages import QuotaNotice

MAX_SILENCE = 3
"""Number of collections of the coordinator after which its silence is noticed."""


class Shares:
    """``visible_proxies``: how many proxies this one sees, itself included."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._max_silence_s = MAX_SILENCE * interval_s
        self._heard_s: float | None = None
        self.notice = QuotaNotice()
        self.visible_proxies: Callable[[], int] = lambda: 1

    def hear(self, notice: QuotaNotice) -> None:
        self.notice = notice
        self._heard_s = self._clock.monotonic_s()

    @property
    def share(self) -> float:
        """This proxy's part of the cluster's rates, above 0 and at most 1."""
        proxies = self.notice.proxies
        if self._heard_s is None:
            proxies = self.visible_proxies()
        elif self._clock.monotonic_s() - self._heard_s > self._max_silence_s:
            proxies = max(proxies, self.visible_proxies())
        return 1.0 / max(1, proxies)
