from elanus.config.settings import SegmentSettings
from elanus.workers.streaming.seal_policy import (
    GrowingState,
    SealLimits,
    due,
    is_full,
    next_check_ms,
    relieve_memory,
)

MIB = 1 << 20
LIMITS = SealLimits.of(
    SegmentSettings(
        max_size=100,
        seal_proportion=0.25,
        max_life=3600,
        max_idle_time=60,
        min_size_from_idle_to_sealed=16,
    )
)


def state(segment_id: int, size: int, created_ms: int = 0, last_insert_ms: int = 0) -> GrowingState:
    return GrowingState(segment_id, size, created_ms, last_insert_ms)


def test_a_segment_is_full_at_its_part_of_the_maximal_size() -> None:
    assert not is_full(25 * MIB - 1, LIMITS)
    assert is_full(25 * MIB, LIMITS)


def test_idleness_seals_only_what_is_worth_a_file() -> None:
    states = [state(1, 16 * MIB), state(2, 16 * MIB - 1)]
    assert due(states, LIMITS, 59_999) == []
    assert due(states, LIMITS, 60_000) == [1]
    assert due(states, LIMITS, 3_600_000) == [1, 2]


def test_the_next_check_is_when_the_first_segment_is_due() -> None:
    assert next_check_ms([], LIMITS) is None
    assert next_check_ms([state(1, 1, created_ms=5)], LIMITS) == 3_600_005
    busy = state(2, 20 * MIB, last_insert_ms=1_000)
    assert next_check_ms([state(1, 1), busy], LIMITS) == 61_000


def test_memory_is_relieved_by_the_largest_until_half_of_the_limit() -> None:
    states = [state(1, 10), state(2, 50), state(3, 40)]
    assert relieve_memory(states, 100, 100) == []
    assert relieve_memory(states, 100, 90) == [2, 3]
    assert relieve_memory(states, 100, 99) == [2, 3]
    assert relieve_memory(states, 1_000, 100) == [2, 3, 1]
