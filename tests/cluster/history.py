"""The calls of ``chaos_load.py`` as they end: how long nobody was served, and what is wrong."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from elanus.rows.routing import bucket_of
from tests.cluster.linearizability import Call, is_linearizable

SHARDS = 2
CLIENTS = 8
SHOWN = 5
READS = ("query", "search")
WRITES = ("insert", "upsert", "delete")

RETRIABLE_CODES = {1, 2, 4, 8, 9, 12, 103, 10001}
"""Milvus's codes of errors that say: try again."""

CALL_STATUSES = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "UNEXPECTED_ERROR"}
"""What a client says by itself of a call that its proxy and nginx could not answer. With the last
two it gave up by its own clock."""

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call, as far as it matters for how long nobody was served."""

    start_s: float
    end_s: float
    succeeded: bool


def shard_of(key: int) -> int:
    return int(bucket_of(pa.array([key], pa.int64()), SHARDS)[0])


class History:
    """Lines are added while the load runs; ``judge`` is for its end."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._attempts: dict[tuple[str, str, int], list[Attempt]] = defaultdict(list)
        """By kind, and by client or shard."""

        self._begun: dict[tuple[str, str, int], float] = defaultdict(float)

    def add(self, line: Line) -> None:
        self.lines.append(line)
        kind = "writes" if line["kind"] in WRITES else "reads" if line["kind"] in READS else ""
        if not kind:
            return
        attempt = Attempt(line["start"], line["end"], "error" not in line)
        for what, number in [("client", line["client"]), *_shards(line)]:
            self._attempts[kind, what, number].append(attempt)
            if attempt.succeeded:
                begun_s = self._begun[kind, what, number]
                self._begun[kind, what, number] = max(begun_s, line["start"])

    def is_served_since(self, moment_s: float) -> bool:
        """Whether every client and every shard has had a write and a read that began after it."""
        everybody = [("client", n) for n in range(CLIENTS)] + [("shard", n) for n in range(SHARDS)]
        return all(
            self._begun[kind, *who] > moment_s for kind in ("writes", "reads") for who in everybody
        )

    def longest_outage_s(self, kind: str, what: str, begin_s: float, end_s: float) -> float:
        """The longest time between the two from the first ``reads`` or ``writes`` that anybody
        tries to the next that is answered, of any one ``client``, or of any one ``shard``."""
        longest_s = 0.0
        for (its_kind, its_what, _), attempts in list(self._attempts.items()):
            if (its_kind, its_what) == (kind, what):
                longest_s = max(longest_s, _longest_outage_s(attempts, begin_s, end_s))
        return longest_s

    # --- what is wrong --------------------------------------------------------------------------

    def judge(self, final: Mapping[str, Any]) -> list[str]:
        """What is wrong, if anything is."""
        return [
            *self._errors(),
            *self._counts(),
            *self._doubles(final),
            *self._keys(final),
        ]

    def summary(self) -> dict[str, Any]:
        kinds = Counter(str(line["kind"]) for line in self.lines)
        errors = Counter(str(line["error"]) for line in self.lines if "error" in line)
        return {"calls": dict(kinds), "errors": dict(errors)}

    def _errors(self) -> Iterable[str]:
        allowed = {str(each) for each in (*RETRIABLE_CODES, *CALL_STATUSES)}
        wrong = [line for line in self.lines if "error" in line]
        wrong = [line for line in wrong if str(line["error"]) not in allowed]
        for code, number in Counter(str(line["error"]) for line in wrong).items():
            example = next(line for line in wrong if str(line["error"]) == code)
            yield f"{number} errors {code}, which don't say to try again: {_short(example)}"

    def _counts(self) -> Iterable[str]:
        wrong = [
            line
            for line in self.lines
            if "count" in line and not line["expected"][0] <= line["count"] <= line["expected"][1]
        ]
        if wrong:
            yield f"{len(wrong)} wrong counts, for example {_short(wrong[0])}"

    def _doubles(self, final: Mapping[str, Any]) -> Iterable[str]:
        keys = Counter(key for key, _ in final["rows"])
        if len(keys) != len(final["rows"]) or len(keys) != final["count"]:
            twice = [key for key, number in keys.items() if number > 1]
            yield (
                f"{len(final['rows'])} rows are read, {final['count']} counted, of {len(keys)}"
                f" keys; twice {twice[:SHOWN]}"
            )
        for line in self.lines:
            read = Counter(key for key, _ in line.get("reads", ()))
            if read and max(read.values()) > 1:
                yield f"a key twice in one answer: {_short(line)}"
                return

    def _keys(self, final: Mapping[str, Any]) -> Iterable[str]:
        calls = self._calls_by_key(final)
        wrong = sorted(key for key, each in calls.items() if not is_linearizable(each))
        if wrong:
            yield f"{len(wrong)} of {len(calls)} keys are not linearizable: {wrong[:SHOWN]}"
        for key in wrong[:SHOWN]:
            told = "\n  ".join(map(str, sorted(calls[key], key=lambda call: call.start_s)[-40:]))
            yield f"key {key}:\n  {told}"

    def _calls_by_key(self, final: Mapping[str, Any]) -> dict[int, list[Call]]:
        calls: dict[int, list[Call]] = defaultdict(list)
        for line in self.lines:
            start_s, end_s = line["start"], line["end"]
            for key, version in line.get("writes", ()):
                calls[key].append(Call(start_s, end_s, True, version, "error" not in line))
            for key, version in line.get("reads", ()):
                calls[key].append(Call(start_s, end_s, False, version))
        found = dict(final["rows"])
        for key in calls.keys() | found.keys():
            calls[key].append(Call(final["start"], final["end"], False, found.get(key)))
        return calls


def _longest_outage_s(attempts: Sequence[Attempt], begin_s: float, end_s: float) -> float:
    """An outage begins with the first attempt since a success, or with that if others are open, and
    ends with the next success."""
    within = [each for each in attempts if each.end_s > begin_s]
    begins = [(max(each.start_s, begin_s), 0, each) for each in within]
    ends = [(each.end_s, 1, each) for each in within]
    longest_s, waiting_since_s, open_calls = 0.0, math.inf, 0
    for moment_s, has_ended, each in sorted([*begins, *ends], key=lambda event: event[:2]):
        if moment_s > end_s:
            break
        open_calls += -1 if has_ended else 1
        if has_ended and each.succeeded:
            longest_s = max(longest_s, moment_s - waiting_since_s)
            waiting_since_s = moment_s if open_calls else math.inf
        else:
            waiting_since_s = min(waiting_since_s, moment_s)
    return longest_s


def _shards(line: Line) -> list[tuple[str, int]]:
    keys = line.get("keys") or [key for key, _ in line["writes"]]
    return [("shard", number) for number in {shard_of(key) for key in keys}]


def _short(line: Line) -> str:
    return str({key: line[key] for key in line if key not in ("writes", "reads")})[:400]
