"""The judge of the chaos: what it takes for an outage, and for wrong."""

import pytest

from tests.cluster.history import History, shard_of

FINAL = {"start": 90.0, "end": 91.0, "rows": [], "count": 0}


def call(kind: str, start: float, end: float, **more: object) -> dict[str, object]:
    return {"client": 0, "kind": kind, "start": start, "end": end, **more}


def wrote(start: float, end: float, *pairs: tuple[int, int | None], **more: object) -> dict:
    return call("upsert", start, end, writes=[list(pair) for pair in pairs], **more)


def read(start: float, end: float, *pairs: tuple[int, int | None]) -> dict:
    keys = [key for key, _ in pairs]
    return call("query", start, end, keys=keys, reads=[list(pair) for pair in pairs])


def of(*lines: dict) -> History:
    history = History()
    for line in lines:
        history.add(line)
    return history


def test_an_outage_is_from_the_first_try_to_the_next_success() -> None:
    history = of(
        wrote(0, 1, (1, 1)),
        wrote(5, 6, (1, 2), error=2),
        wrote(7, 9, (1, 3)),
        wrote(20, 21, (1, 4)),
    )
    assert history.longest_outage_s("writes", "client", 2, 15) == 4
    assert history.longest_outage_s("writes", "client", 6.5, 15) == 2
    assert history.longest_outage_s("writes", "client", 10, 30) == 1
    assert history.longest_outage_s("writes", "shard", 2, 15) == 4
    assert history.longest_outage_s("reads", "client", 0, 30) == 0


def test_a_shard_is_served_if_it_answers_anybody() -> None:
    key = next(key for key in range(100) if shard_of(key) == 0)
    mine, theirs = wrote(0, 9, (key, 1)), {**wrote(1, 3, (key, 2)), "client": 1}
    history = of(theirs, mine)
    assert history.longest_outage_s("writes", "shard", 0, 20) == 6
    assert history.longest_outage_s("writes", "client", 0, 20) == 9


def test_a_right_history_has_nothing_wrong() -> None:
    history = of(wrote(0, 1, (1, 5)), read(2, 3, (1, 5)), wrote(4, 5, (1, None), error=2))
    assert history.judge({**FINAL, "rows": [[1, 5]], "count": 1}) == []
    assert history.judge(FINAL) == []


@pytest.mark.parametrize(
    ("lines", "final", "word"),
    [
        ([wrote(0, 1, (1, 5))], FINAL, "linearizable"),
        ([wrote(0, 1, (1, 5)), read(2, 3, (1, None))], {"rows": [[1, 5]], "count": 1}, "lineariz"),
        ([wrote(0, 1, (1, 5))], {"rows": [[1, 5]], "count": 2}, "counted"),
        ([wrote(0, 1, (1, 5))], {"rows": [[1, 5], [1, 5]], "count": 2}, "twice"),
        (
            [wrote(0, 1, (1, 5)), read(2, 3, (1, 5), (1, 5))],
            {"rows": [[1, 5]], "count": 1},
            "twice",
        ),
        ([call("count", 0, 1, count=3, expected=[1, 2])], FINAL, "counts"),
        ([wrote(0, 1, (1, 5), error=5)], FINAL, "try again"),
    ],
)
def test_what_is_wrong_is_found(lines: list, final: dict, word: str) -> None:
    wrong = of(*lines).judge({**FINAL, **final})
    assert any(word in each for each in wrong), wrong
