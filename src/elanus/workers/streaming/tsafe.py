"""The safe time of a pchannel: up to which timestamp every write has been applied.

The commit loop of a pchannel has at most one group in flight. Between groups nothing is in flight,
and since every later write asks the timestamp oracle for a larger timestamp, everything that the
oracle has given so far is safe: a Strong read of an idle channel waits for nothing and writes
nothing. While a group is in flight, only what is below its first timestamp is safe; a read that
needs more waits for that one group, never for those that queue behind it.
"""

import asyncio

from elanus.errors import DeadlineExceeded, InvalidParameter, Unavailable
from elanus.model.timestamp import physical_ms
from elanus.runtime.clock import Clock
from elanus.services.interfaces import TimestampOracle

_RECOVERED = "the log is being recovered, try again"


class SafeTime:
    """Tracks the group in flight and lets reads wait for their guarantee."""

    def __init__(
        self, clock: Clock, oracle: TimestampOracle, max_lag_s: int, known_ts: int = 0
    ) -> None:
        self._clock = clock
        self._oracle = oracle
        self._max_lag_ms = max_lag_s * 1000
        self._known_ts = known_ts
        self._floor: int | None = None
        self._done: asyncio.Future[None] | None = None
        self._lost = False

    @property
    def known_ts(self) -> int:
        """The oracle has given timestamps up to this one, as far as is known here."""
        return self._known_ts

    @property
    def safe_ts(self) -> int:
        """Every write with a timestamp up to this one is applied; none will be added."""
        return self._known_ts if self._floor is None else self._floor - 1

    def begin(self) -> None:
        """A group is about to ask for its timestamps."""
        self._floor = self._known_ts + 1
        self._done = asyncio.get_running_loop().create_future()

    def allocated(self, first_ts: int, count: int) -> None:
        """The group in flight got ``count`` timestamps from ``first_ts`` on."""
        self._floor = first_ts
        self._known_ts = max(self._known_ts, first_ts + count - 1)

    def finish(self) -> None:
        """The group in flight is applied, or has failed and will never be seen."""
        self._floor = None
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def abandon(self) -> None:
        """The commit loop has ended. If a group was in flight nothing past it will ever be safe."""
        if self._floor is not None:
            self._lost = True
            if self._done is not None and not self._done.done():
                self._done.set_result(None)

    def note_issued(self, timestamp: int) -> None:
        """The oracle has given ``timestamp`` to somebody: later groups get larger ones, as if it
        had been asked from here. The group in flight may have got a smaller one."""
        self._known_ts = max(self._known_ts, timestamp)

    async def wait_until_safe(
        self, guarantee_ts: int, deadline_s: float | None = None, *, is_strong: bool = False
    ) -> int:
        """A timestamp ≥ ``guarantee_ts`` at which this pchannel can be read now.

        ``deadline_s`` is a reading of the clock's ``monotonic_s``. ``is_strong``: whoever was told
        that a write has failed must be able to see by this read what became of it. Raises
        DeadlineExceeded, InvalidParameter if the guarantee lies too far in the future, or
        Unavailable if the read can't be answered before the log was read again.
        """
        while True:
            if is_strong and self._lost:
                raise Unavailable(_RECOVERED)
            if guarantee_ts > self._known_ts:
                await self._reach(guarantee_ts, deadline_s)
            safe_ts = self.safe_ts
            if safe_ts >= guarantee_ts:
                return safe_ts
            assert self._done is not None
            if self._lost:
                raise Unavailable(_RECOVERED)
            await self._wait(self._done, deadline_s)

    async def _reach(self, guarantee_ts: int, deadline_s: float | None) -> None:
        """Return once the oracle has passed ``guarantee_ts``."""
        while True:
            now_ts = await self._oracle.allocate_timestamps(1)
            self._known_ts = max(self._known_ts, now_ts)
            if now_ts >= guarantee_ts:
                return
            ahead_ms = physical_ms(guarantee_ts) - physical_ms(now_ts)
            if ahead_ms > self._max_lag_ms:
                raise InvalidParameter("Timestamp lag too large")
            pause_s = max(ahead_ms, 1) / 1000
            if deadline_s is not None and self._clock.monotonic_s() + pause_s > deadline_s:
                raise DeadlineExceeded("the guarantee timestamp lies behind the request's deadline")
            await self._clock.sleep(pause_s)

    async def _wait(self, done: asyncio.Future[None], deadline_s: float | None) -> None:
        timeout_s = None if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic_s())
        finished, _ = await asyncio.wait([done], timeout=timeout_s)
        if not finished:
            raise DeadlineExceeded(
                "a write in progress did not end before the request's deadline, try again"
            )
