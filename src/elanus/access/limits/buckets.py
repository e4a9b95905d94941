"""Token buckets: how much of something may happen per second.

A bucket is full at first, holds what one second brings (or one request, if that is more), and is
filled steadily. A request needs its amount, but at most one unit, and takes all of its amount:
what is larger than the bucket leaves a debt that later requests wait for. So no request is too
large for ever, and in ``t`` seconds at most ``rate · t + burst`` and one request more get through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from elanus.access.lru import LruCache
from elanus.errors import RateLimited

MAX_BUCKETS = 10_000
"""A bucket that wasn't used for the longest time is forgotten beyond this, which fills it."""

_UNIT = 1.0


@dataclass(frozen=True, slots=True)
class Limit:
    """``rate`` units per second, for everything of one ``scope``. ``whole``: amounts are numbers
    of requests, of which at least one must fit."""

    scope: tuple[Any, ...]
    rate: float
    whole: bool


class TokenBucket:
    """Times are seconds of a monotonic clock."""

    def __init__(self, now_s: float, burst: float) -> None:
        self._tokens = burst
        self._filled_s = now_s

    def fill(self, now_s: float, rate: float, burst: float) -> None:
        """Up to now, at this rate from now on."""
        gained = max(0.0, now_s - self._filled_s) * rate
        self._tokens = min(burst, self._tokens + gained)
        self._filled_s = now_s

    def allows(self, amount: float, burst: float) -> bool:
        return self._tokens >= min(amount, _UNIT, burst)

    def take(self, amount: float) -> None:
        self._tokens -= amount


class BucketTable:
    """The buckets of one proxy, by scope."""

    def __init__(self) -> None:
        self._buckets: LruCache[tuple[Any, ...], TokenBucket] = LruCache(MAX_BUCKETS)

    def take(self, limits: Sequence[Limit], amount: float, share: float, now_s: float) -> None:
        """Take ``amount`` from the bucket of each limit, of which this proxy has a part of
        ``share``; or from none. Raises RateLimited."""
        chosen = []
        for limit in limits:
            rate = limit.rate * share
            burst = max(rate, _UNIT) if limit.whole else rate
            bucket = self._buckets.get(limit.scope)
            if bucket is None:
                bucket = TokenBucket(now_s, burst)
                self._buckets.put(limit.scope, bucket)
            bucket.fill(now_s, rate, burst)
            if limit.rate <= 0 or not bucket.allows(amount, burst):
                raise RateLimited(
                    "request is rejected by grpc RateLimiter middleware, please retry later: "
                    f"rate limit exceeded[rate={limit.rate:g}]"
                )
            chosen.append(bucket)
        for bucket in chosen:
            bucket.take(amount)
