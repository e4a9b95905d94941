"""Token buckets against what they promise: never too much in any stretch of time, none starves."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.access.limits.buckets import MAX_BUCKETS, BucketTable, Limit
from elanus.errors import RateLimited

pauses_s = st.floats(0, 5).map(lambda pause: round(pause, 3))
amounts = st.floats(0.001, 20).map(lambda amount: round(amount, 3))
rates = st.floats(0.05, 10).map(lambda rate: round(rate, 2))


def admitted(table: BucketTable, limits: list[Limit], amount: float, now_s: float) -> bool:
    try:
        table.take(limits, amount, 1.0, now_s)
    except RateLimited:
        return False
    return True


@given(st.lists(st.tuples(pauses_s, amounts), max_size=60), rates, st.booleans())
def test_no_stretch_of_time_gets_more_than_its_rate(
    requests: list[tuple[float, float]], rate: float, whole: bool
) -> None:
    table, limit = BucketTable(), Limit(("x",), rate, whole)
    burst = max(rate, 1.0) if whole else rate
    now_s, through = 0.0, []
    for pause_s, amount in requests:
        now_s += pause_s
        if admitted(table, [limit], amount, now_s):
            through.append((now_s, amount))
    for first in range(len(through)):
        total = 0.0
        for last_s, amount in through[first:]:
            lasted_s = last_s - through[first][0]
            # What went before the last one fits; the last one may leave a debt.
            assert total <= rate * lasted_s + burst + 1e-6
            total += amount


@given(amounts, rates, st.booleans(), st.lists(amounts, max_size=5))
def test_no_request_is_too_large_for_ever(
    amount: float, rate: float, whole: bool, others: list[float]
) -> None:
    table, limit = BucketTable(), Limit(("x",), rate, whole)
    for other in others:
        admitted(table, [limit], other, 0.0)
    debt = sum(others)
    assert admitted(table, [limit], amount, (debt + 1.0) / rate + 1.0)


@given(rates, st.integers(1, 20))
def test_unused_time_is_not_saved_up_beyond_a_burst(rate: float, requests: int) -> None:
    table, limit = BucketTable(), Limit(("x",), rate, True)
    assert admitted(table, [limit], 1.0, 0.0)
    through = sum(admitted(table, [limit], 1.0, 1e6) for _ in range(requests))
    assert through == min(requests, math.floor(max(rate, 1.0) + 1e-9))


def test_a_refusal_by_one_limit_takes_nothing_from_the_others() -> None:
    table = BucketTable()
    wide, narrow = Limit(("cluster",), 2.0, True), Limit(("collection", 1), 1.0, True)
    assert admitted(table, [wide, narrow], 1.0, 0.0)
    assert not admitted(table, [wide, narrow], 1.0, 0.0)
    assert admitted(table, [wide], 1.0, 0.0)
    assert not admitted(table, [wide], 1.0, 0.0)


def test_a_share_of_the_rate_is_given_out() -> None:
    table, limit = BucketTable(), Limit(("x",), 100.0, True)
    through = 0
    for tick in range(1_000):  # for 10 s
        for _ in range(5):
            try:
                table.take([limit], 1.0, 0.25, tick / 100)
            except RateLimited:
                continue
            through += 1
    assert 250 <= through <= 250 + 25 + 1


def test_a_rate_of_nothing_lets_nothing_through() -> None:
    table = BucketTable()
    for whole in (True, False):
        with pytest.raises(RateLimited, match=r"rate limit exceeded\[rate=0\]"):
            table.take([Limit(("x", whole), 0.0, whole)], 1.0, 1.0, 1e6)


def test_the_number_of_buckets_is_bounded() -> None:
    table = BucketTable()
    for number in range(MAX_BUCKETS + 10):
        table.take([Limit(("collection", number), 1.0, True)], 1.0, 1.0, 0.0)
    assert len(table._buckets) == MAX_BUCKETS
