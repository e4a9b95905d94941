"""Is the history of a key linearizable: could one register, changed and read by one call at a time,
have given these answers in an order that fits the times of the calls?

The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the
remembered states of Lowe ("Testing for Linearizability", 2017): take a call that no other one has
ended before, see whether the register allows its answer, go on with the rest, and turn back at a
pair of (calls taken, register) that was met before.

A write whose outcome is unknown may take effect at any time after its start, or never. Versions are
unique, which decides most of them beforehand, and exactly: one whose version nobody has read may as
well never have happened, one that was read took effect before the end of the first such read.
Deletes with an unknown outcome stay open.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

ABSENT = None
MAX_STATES = 2_000_000
"""A history that needs more is not decided, which is an error."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call on one key. ``value``: the version written or read, ABSENT for none. ``is_sure``: a
    write that was acknowledged; reads are always sure."""

    start_s: float
    end_s: float
    is_write: bool
    value: int | None
    is_sure: bool = True


class TooHard(Exception):
    """More than MAX_STATES states were met without an answer."""


def is_linearizable(calls: Iterable[Call]) -> bool:
    """Whether a register that is ABSENT at first can have answered so. Raises TooHard."""
    settled = _settle(list(calls))
    settled.sort(key=lambda call: (call.start_s, call.end_s))
    return _search(settled)


def _settle(calls: Sequence[Call]) -> list[Call]:
    """Without the writes of unknown outcome that can be decided from what was read."""
    first_read_s: dict[int | None, float] = {}
    for call in calls:
        if not call.is_write:
            first_read_s[call.value] = min(call.end_s, first_read_s.get(call.value, math.inf))
    settled: list[Call] = []
    for call in calls:
        if call.is_sure:
            settled.append(call)
        elif call.value is ABSENT:
            settled.append(replace(call, end_s=math.inf))
        elif call.value in first_read_s:
            end_s = max(call.start_s, first_read_s[call.value])
            settled.append(replace(call, end_s=end_s, is_sure=True))
    return settled


def _search(calls: Sequence[Call]) -> bool:
    """``calls`` by their start. A state of the search: all before ``first`` were taken and those
    behind that ``taken`` has a bit for, and the register's value. Writes that never happened are
    taken last of all."""
    last_sure = max((n for n, call in enumerate(calls) if call.is_sure), default=-1)
    met: set[tuple[int, int, int | None]] = set()
    stack: list[tuple[int, int, int | None]] = [(0, 0, ABSENT)]
    while stack:
        first, taken, value = stack.pop()
        while taken & 1:
            first, taken = first + 1, taken >> 1
        if first > last_sure:
            return True
        if (first, taken, value) in met:
            continue
        met.add((first, taken, value))
        if len(met) > MAX_STATES:
            raise TooHard(f"{len(calls)} calls")
        candidates = _candidates(calls, first, taken)
        agreeing = [n for n in candidates if not calls[n].is_write and calls[n].value == value]
        if agreeing:
            # A read that agrees changes nothing, so it can always be taken before others are.
            for n in agreeing:
                taken |= 1 << n - first
            stack.append((first, taken, value))
            continue
        writes = [n for n in candidates if calls[n].is_write]
        stack += [
            (first, taken | 1 << n - first, calls[n].value)
            for n in sorted(writes, key=lambda n: -calls[n].end_s)
        ]
    return False


def _candidates(calls: Sequence[Call], first: int, taken: int) -> list[int]:
    """Calls that may be next: those that began before any other one that is left had ended."""
    found: list[int] = []
    earliest_end_s = math.inf
    for n in range(first, len(calls)):
        call = calls[n]
        if call.start_s > earliest_end_s:
            break
        if not taken >> n - first & 1:
            found.append(n)
            earliest_end_s = min(earliest_end_s, call.end_s)
    return [n for n in found if calls[n].start_s <= earliest_end_s]
