"""Silent workers are replaced, but not by a coordinator that may itself be at fault."""

import random

import pytest

from elanus.coordinator.silence import (
    BEAT_S,
    BEATS_MISSED,
    FORGIVEN_AFTER_S,
    MAX_BEATS_PER_S,
    MAX_STEP_S,
    RECENT_S,
    Silence,
)
from elanus.services.cluster.sessions import SessionInfo

SILENCE_S = 2.5
LOOK_S = 0.25


def worker(node_id: int, role: str = "streaming", **more: object) -> SessionInfo:
    return SessionInfo(
        node_id=node_id,
        role=role,
        address=f"a:{node_id}",
        version="1",
        started_ms=0,
        **more,  # type: ignore[arg-type]
    )


class Cluster:
    """Workers that beat, and looks at them, on a clock that stands until ``pass_``."""

    def __init__(self, *workers: SessionInfo, start_s: float = 100.0) -> None:
        self.workers = list(workers)
        self.now_s = start_s
        self.silence = Silence(SILENCE_S, start_s)
        self.trusted_until_s: dict[int, float] = {}
        self.replaced: list[tuple[int, float]] = []

    def beat(self, info: SessionInfo) -> None:
        answer = self.silence.heard(info, self.now_s)
        if not answer.is_replaced:
            self.trusted_until_s[info.node_id] = self.now_s + answer.trusted_s

    def look(self) -> None:
        for info in self.silence.look(self.now_s, self.workers):
            self.workers.remove(info)
            self.replaced.append((info.node_id, self.now_s))

    def pass_(self, seconds: float, silent: tuple[int, ...] = ()) -> None:
        for step in range(round(seconds / LOOK_S)):
            self.now_s += LOOK_S
            if step % round(BEAT_S / LOOK_S) == 0:
                for info in self.workers:
                    if info.node_id not in silent:
                        self.beat(info)
            self.look()

    @property
    def ids(self) -> list[int]:
        return [node_id for node_id, _ in self.replaced]


@pytest.fixture
def pair() -> Cluster:
    cluster = Cluster(worker(1), worker(2))
    cluster.pass_(10.0)
    return cluster


def test_who_is_heard_stays(pair: Cluster) -> None:
    pair.pass_(600.0)
    assert pair.replaced == []


def test_a_silent_one_is_replaced_soon_and_once(pair: Cluster) -> None:
    fell_silent_s = pair.now_s
    pair.pass_(20.0, silent=(1,))
    [(node_id, at_s)] = pair.replaced
    assert node_id == 1
    assert SILENCE_S - BEAT_S <= at_s - fell_silent_s <= SILENCE_S + LOOK_S


def test_a_silence_that_ends_in_time_is_forgotten(pair: Cluster) -> None:
    for _ in range(20):
        pair.pass_(1.5, silent=(1,))
        pair.pass_(1.0)
    assert pair.replaced == []


def test_what_was_promised_has_ended_when_another_takes_over(pair: Cluster) -> None:
    pair.pass_(5.0, silent=(1,))
    [(node_id, at_s)] = pair.replaced
    assert at_s > pair.trusted_until_s[node_id]


@pytest.mark.parametrize("seed", range(20))
def test_promises_hold_whatever_the_timing(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster(*(worker(n, instance=f"p{n}") for n in range(1, rng.randint(3, 8))))
    number = len(cluster.workers)
    for _ in range(1_000):
        cluster.now_s += rng.choice((0.01, 0.1, 0.3, 0.7, 3.0))
        for info in list(cluster.workers):
            if rng.random() < 0.3:
                cluster.beat(info)
        before = set(cluster.ids)
        if rng.random() < 0.7:
            cluster.look()
        for node_id in set(cluster.ids) - before:
            assert cluster.now_s > cluster.trusted_until_s[node_id]
            number += 1
            cluster.workers.append(worker(number, instance=f"p{number % 7}"))


def test_a_beat_of_one_who_is_replaced_promises_nothing(pair: Cluster) -> None:
    lost = pair.workers[0]
    pair.pass_(5.0, silent=(1,))
    answer = pair.silence.heard(lost, pair.now_s)
    assert answer.is_replaced
    assert answer.trusted_s == 0
    assert pair.silence.is_replaced(1)


def test_who_was_never_heard_is_left_to_its_lease(pair: Cluster) -> None:
    pair.workers.append(worker(3))
    pair.pass_(60.0, silent=(3,))
    assert pair.replaced == []


def test_the_coordinators_own_pause_is_nobodys_silence(pair: Cluster) -> None:
    pair.now_s += 30.0
    pair.look()
    pair.look()
    assert pair.replaced == []
    pair.pass_(10.0)
    assert pair.replaced == []


def test_a_coordinator_that_stutters_waits_longer(pair: Cluster) -> None:
    begin_s = pair.now_s
    for _ in range(4):
        pair.now_s += 2.0
        pair.beat(pair.workers[1])
        pair.look()
    assert pair.replaced == []
    assert pair.now_s - begin_s > SILENCE_S
    assert 4 * MAX_STEP_S < SILENCE_S


def test_all_of_a_role_are_never_replaced(pair: Cluster) -> None:
    pair.pass_(60.0, silent=(1, 2))
    assert pair.replaced == []


def test_the_only_one_of_a_role_is_left_to_its_lease() -> None:
    cluster = Cluster(worker(1), worker(2, "query"), worker(3, "query"))
    cluster.pass_(10.0)
    cluster.pass_(60.0, silent=(1,))
    assert cluster.replaced == []


def test_nobody_is_replaced_by_one_that_is_stopping() -> None:
    cluster = Cluster(worker(1), worker(2, stopping=True))
    cluster.pass_(10.0)
    cluster.pass_(60.0, silent=(1,))
    assert cluster.replaced == []


def test_at_most_half_of_a_role_is_replaced() -> None:
    cluster = Cluster(*map(worker, range(1, 6)))
    cluster.pass_(10.0)
    cluster.pass_(20.0, silent=(1, 2, 3))
    assert cluster.replaced == []
    cluster = Cluster(*map(worker, range(1, 6)))
    cluster.pass_(10.0)
    cluster.pass_(20.0, silent=(1, 2))
    assert sorted(cluster.ids) == [1, 2]


def test_those_who_fall_silent_one_after_the_other_are_not_replaced_either() -> None:
    cluster = Cluster(*map(worker, range(1, 5)))
    cluster.pass_(10.0)
    for silent in ((1,), (1, 2), (1, 2, 3)):
        cluster.pass_(5.0, silent=silent)
    assert cluster.ids == [1, 2]
    cluster.pass_(RECENT_S, silent=(3,))
    assert cluster.ids == [1, 2, 3], "after a while the two that are left count as all"


def test_roles_are_looked_at_by_themselves() -> None:
    roles = ("streaming", "query", "data")
    cluster = Cluster(*(worker(n, roles[n % 3]) for n in range(6)))
    cluster.pass_(10.0)
    cluster.pass_(5.0, silent=(0, 1, 2))
    assert sorted(cluster.ids) == [0, 1, 2], "a machine is lost"


def test_one_that_was_only_slow_is_given_more_time_and_is_forgiven_later() -> None:
    cluster = Cluster(worker(1, instance="slow"), worker(2), worker(3))
    cluster.pass_(10.0)
    waited_s = []
    for node_id in (10, 11, 12):
        cluster.pass_(RECENT_S)
        begin_s, slow = cluster.now_s, cluster.workers[-1].node_id if waited_s else 1
        cluster.pass_(25.0, silent=(slow,))
        waited_s.append(round(cluster.replaced[-1][1] - begin_s))
        cluster.workers.append(worker(node_id, instance="slow"))
    assert waited_s[1] >= 2 * waited_s[0] - 1
    assert waited_s[2] >= 2 * waited_s[1] - 1
    cluster.pass_(FORGIVEN_AFTER_S + RECENT_S)
    begin_s = cluster.now_s
    cluster.pass_(25.0, silent=(12,))
    assert round(cluster.replaced[-1][1] - begin_s) == waited_s[0]


def test_very_many_workers_beat_more_seldom() -> None:
    silence, number = Silence(SILENCE_S, 0.0), 2_000
    workers = [worker(n, instance=str(n)) for n in range(number)]
    for info in workers:
        answer = silence.heard(info, 0.0)
    assert number / answer.next_s <= 1.01 * MAX_BEATS_PER_S
    assert answer.trusted_s > (BEATS_MISSED - 2) * answer.next_s
