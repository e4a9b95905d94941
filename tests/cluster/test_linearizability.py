"""The checker itself, by histories whose answer is known, and against all orders by brute force."""

import itertools
import math
import random

import pytest

from tests.cluster import linearizability
from tests.cluster.linearizability import ABSENT, Call, TooHard, is_linearizable


def wrote(start_s: float, end_s: float, value: int | None, *, sure: bool = True) -> Call:
    return Call(start_s, end_s, True, value, sure)


def read(start_s: float, end_s: float, value: int | None) -> Call:
    return Call(start_s, end_s, False, value)


RIGHT = {
    "nothing happened": [],
    "absent at first": [read(0, 1, ABSENT)],
    "one after another": [
        *(wrote(0, 1, 1), read(2, 3, 1), wrote(4, 5, 2), read(6, 7, 2)),
        *(wrote(8, 9, ABSENT), read(10, 11, ABSENT)),
    ],
    "a read during a write sees the old": [wrote(0, 1, 1), wrote(2, 9, 2), read(3, 4, 1)],
    "a read during a write sees the new": [wrote(0, 1, 1), wrote(2, 9, 2), read(3, 4, 2)],
    "two writes at once, the earlier one last": [wrote(0, 9, 1), wrote(1, 8, 2), read(10, 11, 1)],
    "a failed write never happened": [wrote(0, 1, 1, sure=False), read(2, 3, ABSENT)],
    "a failed write happened": [wrote(0, 1, 1, sure=False), read(2, 3, 1)],
    "a failed write happened later": [
        *(wrote(0, 1, 1, sure=False), read(2, 3, ABSENT), wrote(4, 5, 2)),
        *(read(6, 7, 2), read(8, 9, 1)),
    ],
    "a failed delete happened later": [
        *(wrote(0, 1, 1), wrote(2, 3, ABSENT, sure=False), read(4, 5, 1), read(6, 7, ABSENT)),
    ],
}

WRONG = {
    "a lost write": [wrote(0, 1, 1), read(2, 3, ABSENT)],
    "a stale read": [wrote(0, 1, 1), wrote(2, 3, 2), read(4, 5, 1)],
    "a row that rose again": [wrote(0, 1, 1), wrote(2, 3, ABSENT), read(4, 5, 1)],
    "back and forth during one write": [
        *(wrote(0, 1, 1), wrote(2, 9, 2), read(3, 4, 2), read(5, 6, 1)),
    ],
    "a version nobody wrote": [wrote(0, 1, 1), read(2, 3, 7)],
    "read before it was written": [read(0, 1, 1), wrote(2, 3, 1)],
    "a failed write that happened twice": [
        *(wrote(0, 1, 1, sure=False), read(2, 3, 1), wrote(4, 5, 2), read(6, 7, 2)),
        read(8, 9, 1),
    ],
    "a failed delete that happened twice": [
        *(wrote(0, 1, 1), wrote(2, 3, ABSENT, sure=False), read(4, 5, ABSENT)),
        *(wrote(6, 7, 2), read(8, 9, ABSENT)),
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_linearizable(name: str) -> None:
    assert is_linearizable(RIGHT[name])


@pytest.mark.parametrize("name", WRONG)
def test_not_linearizable(name: str) -> None:
    assert not is_linearizable(WRONG[name])


def by_brute_force(calls: list[Call]) -> bool:
    """Every choice of unsure writes in every order."""
    sure = [call for call in calls if call.is_sure]
    unsure = [call for call in calls if not call.is_sure]
    for number in range(len(unsure) + 1):
        for chosen in itertools.combinations(unsure, number):
            for order in itertools.permutations([*sure, *chosen]):
                if fits(order):
                    return True
    return False


def fits(order: tuple[Call, ...]) -> bool:
    value, latest_start_s = ABSENT, -math.inf
    for call in order:
        if call.is_sure and call.end_s < latest_start_s:
            return False
        latest_start_s = max(latest_start_s, call.start_s)
        if call.is_write:
            value = call.value
        elif call.value != value:
            return False
    return True


def test_it_agrees_with_brute_force() -> None:
    chosen = random.Random(7)
    verdicts = []
    for _ in range(300):
        calls = []
        for version in range(chosen.randint(1, 5)):
            start_s = chosen.randint(0, 8)
            end_s = start_s + chosen.randint(1, 4)
            if chosen.random() < 0.5:
                value = chosen.choice([version, ABSENT])
                calls.append(wrote(start_s, end_s, value, sure=chosen.random() < 0.7))
            else:
                calls.append(read(start_s, end_s, chosen.choice([ABSENT, *range(version + 1)])))
        verdicts.append(is_linearizable(calls))
        assert verdicts[-1] == by_brute_force(calls), calls
    assert 30 < sum(verdicts) < 270


def test_a_long_history_is_decided() -> None:
    """Eight clients at once, for long, as a register under a lock would answer them."""
    chosen = random.Random(3)
    calls, value, now_s = [], ABSENT, 0.0
    for version in range(1_000):
        now_s += chosen.expovariate(1)
        start_s, end_s = now_s - chosen.expovariate(0.25), now_s + chosen.expovariate(0.25)
        kind = chosen.random()
        if kind < 0.4:
            value = version if kind < 0.3 else ABSENT
            calls.append(wrote(start_s, end_s, value, sure=kind > 0.02))
        else:
            calls.append(read(start_s, end_s, value))
    assert is_linearizable(calls)
    last = max(call.end_s for call in calls)
    assert not is_linearizable(
        [*calls, wrote(last + 1, last + 2, 9_999), read(last + 3, last + 4, 5)]
    )


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linearizability, "MAX_STATES", 100)
    calls = [wrote(0, 9, version) for version in range(12)]
    with pytest.raises(TooHard):
        is_linearizable([*calls, read(10, 11, 99)])
