"""When a read may see what: idle channels never wait, reads wait for one group only."""

import asyncio

import pytest

from elanus.errors import DeadlineExceeded, InvalidParameter, Unavailable
from elanus.model.timestamp import compose
from elanus.workers.streaming.tsafe import SafeTime


class ManualClock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic_s(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


class Oracle:
    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.last = 0

    async def allocate_timestamps(self, count: int = 1) -> int:
        first = max(self.last + 1, compose(self.clock.now_ms()))
        self.last = first + count - 1
        return first

    async def allocate_ids(self, count: int = 1) -> int:
        raise NotImplementedError


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def oracle(clock: ManualClock) -> Oracle:
    return Oracle(clock)


@pytest.fixture
def safe(clock: ManualClock, oracle: Oracle) -> SafeTime:
    return SafeTime(clock, oracle, max_lag_s=60)


async def test_an_idle_channel_is_safe_at_once(safe: SafeTime, oracle: Oracle) -> None:
    guarantee = await oracle.allocate_timestamps(1)
    assert await safe.wait_until_safe(guarantee) >= guarantee


async def test_a_read_waits_for_the_group_that_had_begun_before_it(
    safe: SafeTime, oracle: Oracle
) -> None:
    safe.begin()
    first = await oracle.allocate_timestamps(3)
    safe.allocated(first, 3)
    guarantee = await oracle.allocate_timestamps(1)
    read = asyncio.ensure_future(safe.wait_until_safe(guarantee))
    await asyncio.sleep(0.01)
    assert not read.done()
    safe.finish()
    # The next group has begun, but its timestamps lie behind the guarantee.
    safe.begin()
    assert await read >= guarantee


async def test_a_group_whose_timestamps_are_still_being_allocated_counts_as_in_flight(
    safe: SafeTime, oracle: Oracle
) -> None:
    safe.begin()
    first = await oracle.allocate_timestamps(1)  # given, but the group does not know it yet
    guarantee = await oracle.allocate_timestamps(1)
    read = asyncio.ensure_future(safe.wait_until_safe(guarantee))
    await asyncio.sleep(0.01)
    assert not read.done()
    safe.allocated(first, 1)
    await asyncio.sleep(0.01)
    assert not read.done()
    safe.finish()
    assert await read >= guarantee


async def test_an_old_guarantee_does_not_wait_for_the_group_in_flight(
    safe: SafeTime, oracle: Oracle
) -> None:
    await safe.wait_until_safe(await oracle.allocate_timestamps(1))
    safe.begin()
    first = await oracle.allocate_timestamps(1)
    safe.allocated(first, 1)
    assert await safe.wait_until_safe(1) == first - 1


async def test_a_guarantee_in_the_near_future_waits_for_the_clock(
    safe: SafeTime, clock: ManualClock
) -> None:
    guarantee = compose(clock.now_ms() + 3_000)
    assert await safe.wait_until_safe(guarantee) >= guarantee
    assert clock.seconds == pytest.approx(1_003.0)


async def test_a_guarantee_in_the_far_future_is_refused(safe: SafeTime, clock: ManualClock) -> None:
    with pytest.raises(InvalidParameter, match="Timestamp lag too large"):
        await safe.wait_until_safe(compose(clock.now_ms() + 61_000))


async def test_the_deadline_ends_the_wait(
    safe: SafeTime, oracle: Oracle, clock: ManualClock
) -> None:
    safe.begin()
    guarantee = await oracle.allocate_timestamps(1)
    with pytest.raises(DeadlineExceeded):
        await safe.wait_until_safe(guarantee, clock.monotonic_s() + 0.01)
    with pytest.raises(DeadlineExceeded):
        await safe.wait_until_safe(compose(clock.now_ms() + 5_000), clock.monotonic_s() + 1)


async def test_reads_of_a_lost_group_are_told_to_try_again(safe: SafeTime, oracle: Oracle) -> None:
    safe.begin()
    read = asyncio.ensure_future(safe.wait_until_safe(await oracle.allocate_timestamps(1)))
    await asyncio.sleep(0.01)
    safe.abandon()
    with pytest.raises(Unavailable):
        await read
    with pytest.raises(Unavailable):
        await safe.wait_until_safe(0, is_strong=True)
    assert await safe.wait_until_safe(0) == safe.safe_ts
