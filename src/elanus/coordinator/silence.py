"""Which workers have been silent for so long that others are to take over from them.

Workers let the coordinator know that they are there, by *beats*. Each answer promises that nobody
takes over for a while; the coordinator waits longer than it has promised, so a worker knows by its
own clock, counted from when it sent the beat, how long it is trusted. Who has never sent a beat to
this coordinator was promised nothing by it and is left to its lease.

Silence may also be the fault of the coordinator, of the network, or of a machine that has too much
to do. Therefore

- time in which this process itself did not run is not counted;
- of a role at most half can be replaced at a time, those replaced of late (``RECENT_S``)
  included, and only while another one that takes work is heard;
- a worker that was only slow is given twice the time when it is back, and so on
  (``FORGIVEN_AFTER_S``): it doesn't flap, its lease decides.

No I/O and no clock: ``now_s`` is the caller's monotonic time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from elanus.services.cluster.sessions import SessionInfo
from elanus.services.messages import BeatAnswer

BEAT_S = 0.5
MAX_BEATS_PER_S = 500.0
"""Of all workers together: beyond that each beats more seldom and is waited for longer."""

BEATS_MISSED = 5
PROMISED = 0.8
"""Part of the patience that is promised: clocks run at different speeds."""

LATE = 0.5
"""Part of the patience after which a worker counts as silent in the comparison with others."""

MAX_STEP_S = 0.5
"""Longest time between two looks that counts as time in which others could be heard."""

RECENT_S = 30.0
FORGIVEN_AFTER_S = 600.0
MAX_DOUBLINGS = 3


@dataclass(frozen=True, slots=True)
class _Heard:
    """``at_s``: in attentive time."""

    at_s: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class _Replaced:
    role: str
    at_s: float


@dataclass(frozen=True, slots=True)
class _Strikes:
    """How often a process was replaced, and when last."""

    number: int
    last_s: float


class Silence:
    """``silence_s``: the patience with a worker, if that is enough for ``BEATS_MISSED`` beats."""

    def __init__(self, silence_s: float, now_s: float) -> None:
        self._silence_s = silence_s
        self._attentive_s = 0.0
        self._looked_s = now_s
        self._heard: dict[int, _Heard] = {}
        self._replaced: dict[int, _Replaced] = {}
        self._strikes: dict[str, _Strikes] = {}

    def heard(self, info: SessionInfo, now_s: float) -> BeatAnswer:
        """A worker that has a session has sent a beat."""
        next_s = max(BEAT_S, len(self._heard) / MAX_BEATS_PER_S)
        if info.node_id in self._replaced:
            return BeatAnswer(0.0, next_s, is_replaced=True)
        strikes = self._strikes.get(_process(info))
        doublings = 0 if strikes is None else min(strikes.number, MAX_DOUBLINGS)
        patience_s = max(self._silence_s, BEATS_MISSED * next_s) * 2**doublings
        self._heard[info.node_id] = _Heard(self._attention_s(now_s), patience_s)
        return BeatAnswer(PROMISED * patience_s, next_s)

    def is_replaced(self, node_id: int) -> bool:
        return node_id in self._replaced

    def look(self, now_s: float, workers: Sequence[SessionInfo]) -> list[SessionInfo]:
        """Those whose sessions are to be deleted, until they are: call it again and again, with all
        workers that have one."""
        self._attentive_s, self._looked_s = self._attention_s(now_s), now_s
        self._forget(now_s, workers)
        by_role: dict[str, list[SessionInfo]] = {}
        for info in workers:
            if info.node_id in self._heard:
                by_role.setdefault(info.role, []).append(info)
        for role, known in by_role.items():
            for info in self._silent(role, known):
                self._replace(info, now_s)
        return [info for info in workers if info.node_id in self._replaced]

    def _attention_s(self, now_s: float) -> float:
        """Attentive time: it never runs faster than the clock, and stands while nobody looks."""
        return self._attentive_s + min(now_s - self._looked_s, MAX_STEP_S)

    def _silent(self, role: str, known: Sequence[SessionInfo]) -> list[SessionInfo]:
        def used_up(info: SessionInfo) -> float:
            """The part of the patience with a worker."""
            heard = self._heard[info.node_id]
            return (self._attentive_s - heard.at_s) / heard.patience_s

        late = [info for info in known if used_up(info) >= LATE]
        taking = [info for info in known if used_up(info) < LATE and not info.stopping]
        lately = sum(replaced.role == role for replaced in self._replaced.values())
        if not taking or 2 * (len(late) + lately) > len(known) + lately:
            return []
        return [info for info in late if used_up(info) >= 1]

    def _replace(self, info: SessionInfo, now_s: float) -> None:
        del self._heard[info.node_id]
        self._replaced[info.node_id] = _Replaced(info.role, now_s)
        former = self._strikes.get(_process(info))
        number = 1 if former is None else former.number + 1
        self._strikes[_process(info)] = _Strikes(number, now_s)

    def _forget(self, now_s: float, workers: Iterable[SessionInfo]) -> None:
        there = {info.node_id for info in workers}
        self._heard = {n: heard for n, heard in self._heard.items() if n in there}
        self._replaced = {
            n: replaced
            for n, replaced in self._replaced.items()
            if n in there or now_s - replaced.at_s < RECENT_S
        }
        self._strikes = {
            process: strikes
            for process, strikes in self._strikes.items()
            if now_s - strikes.last_s < FORGIVEN_AFTER_S
        }


def _process(info: SessionInfo) -> str:
    """The same in all lives of a process."""
    return info.instance or info.address
