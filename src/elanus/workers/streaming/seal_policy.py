"""When a growing segment is sealed: pure functions of its figures and the time.

A segment is sealed when it is full, old, or idle with enough data to be worth a file; when growing
data takes too much of the memory, the largest ones are sealed until half of it is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from elanus.config.settings import SegmentSettings

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class GrowingState:
    """Figures of one growing segment that holds rows. Times in ms since the Unix epoch."""

    segment_id: int
    size_bytes: int
    created_ms: int
    last_insert_ms: int


@dataclass(frozen=True, slots=True)
class SealLimits:
    full_bytes: int
    max_life_ms: int
    max_idle_ms: int
    min_idle_bytes: int

    @classmethod
    def of(cls, settings: SegmentSettings) -> "SealLimits":
        return cls(
            full_bytes=max(1, int(settings.max_size * _MIB * settings.seal_proportion)),
            max_life_ms=settings.max_life * 1000,
            max_idle_ms=settings.max_idle_time * 1000,
            min_idle_bytes=settings.min_size_from_idle_to_sealed * _MIB,
        )


def is_full(size_bytes: int, limits: SealLimits) -> bool:
    """Whether a segment of this size takes no further write."""
    return size_bytes >= limits.full_bytes


def due_at_ms(state: GrowingState, limits: SealLimits) -> int:
    """When the segment is to be sealed if nothing is written to it until then."""
    by_age = state.created_ms + limits.max_life_ms
    if state.size_bytes < limits.min_idle_bytes:
        return by_age
    return min(by_age, state.last_insert_ms + limits.max_idle_ms)


def due(states: Sequence[GrowingState], limits: SealLimits, now_ms: int) -> list[int]:
    """Ids of the segments that age or idleness seals now."""
    return [state.segment_id for state in states if due_at_ms(state, limits) <= now_ms]


def next_check_ms(states: Sequence[GrowingState], limits: SealLimits) -> int | None:
    """When ``due`` may change by the passing of time; None when nothing grows."""
    return min((due_at_ms(state, limits) for state in states), default=None)


def relieve_memory(states: Sequence[GrowingState], used_bytes: int, limit_bytes: int) -> list[int]:
    """Ids of the segments to seal because growing data takes more than ``limit_bytes``: the
    largest first, until half of the limit would be left."""
    if used_bytes <= limit_bytes:
        return []
    chosen: list[int] = []
    for state in sorted(states, key=lambda state: (-state.size_bytes, state.segment_id)):
        if used_bytes <= limit_bytes // 2:
            break
        chosen.append(state.segment_id)
        used_bytes -= state.size_bytes
    return chosen
