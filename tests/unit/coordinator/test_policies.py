"""Compaction plans and view targets: what holds for every input."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from elanus.coordinator.data.compaction_policy import (
    PlanKind,
    PolicyLimits,
    may_touch,
    plan_compactions,
)
from elanus.coordinator.query.target import shard_target
from elanus.coordinator.streaming.channels import choose_pchannels
from elanus.model.catalog import ChannelCheckpoint, SegmentIndex, SegmentInfo
from elanus.model.types import IndexState, SegmentLevel, SegmentState

LIMITS = PolicyLimits(
    max_size_bytes=1_000, small_bytes=500, min_segments=3, deleted_ratio=0.2, min_deltas=2
)


def segment(segment_id: int, **changes) -> SegmentInfo:
    values = {
        "segment_id": segment_id,
        "collection_id": 1,
        "partition_id": 1,
        "vchannel": "v0",
        "state": SegmentState.FLUSHED,
        "level": SegmentLevel.L1,
        "row_count": 10,
        "min_ts": 1,
        "max_ts": 5,
        "size_bytes": 100,
    }
    return SegmentInfo(**{**values, **changes})


descriptions = st.fixed_dictionaries(
    {
        "partition_id": st.integers(1, 2),
        "vchannel": st.sampled_from(["v0", "v1"]),
        "size_bytes": st.integers(1, 1_200),
        "deleted_rows": st.integers(0, 10),
        "min_ts": st.integers(1, 10),
    }
)


@given(
    st.lists(descriptions, max_size=25),
    st.lists(descriptions, max_size=8),
    st.frozensets(st.integers(0, 32)),
    st.booleans(),
    st.integers(0, 12),
)
def test_plans_never_overlap_and_keep_to_their_bounds(rows, l0, busy, forced, checkpoint) -> None:
    segments = [segment(n, **{**d, "max_ts": d["min_ts"] + 2}) for n, d in enumerate(rows)]
    deltas = [
        segment(100 + n, level=SegmentLevel.L0, **{**d, "partition_id": -1, "max_ts": d["min_ts"]})
        for n, d in enumerate(l0)
    ]
    checkpoints = {
        v: ChannelCheckpoint(vchannel=v, position=1, timestamp=checkpoint) for v in ("v0", "v1")
    }
    limits = LIMITS.forced() if forced else LIMITS
    plans = plan_compactions(segments, deltas, checkpoints, busy, limits, forced=forced)
    by_id = {s.segment_id: s for s in [*segments, *deltas]}
    used = [i for plan in plans for i in (*plan.inputs, *plan.deltas)]
    assert len(used) == len(set(used))
    assert not set(used) & busy
    for plan in plans:
        inputs = [by_id[i] for i in plan.inputs]
        assert {s.vchannel for s in inputs} <= {plan.vchannel}
        if plan.kind is PlanKind.DELTAS:
            moved = [by_id[i] for i in plan.deltas]
            assert all(d.max_ts <= checkpoint for d in moved)
            mine = [s for s in segments if s.vchannel == plan.vchannel]
            assert not {s.segment_id for s in mine} & busy
            touched = {s.segment_id for s in mine if any(may_touch(d, s) for d in moved)}
            assert touched == set(plan.inputs)
            others = [p for p in plans if p is not plan and p.vchannel == plan.vchannel]
            assert others == []
        else:
            assert len({s.partition_id for s in inputs}) == 1
        if plan.kind is PlanKind.MERGE:
            assert len(inputs) >= limits.min_segments
            assert sum(s.size_bytes for s in inputs) <= limits.max_size_bytes


def test_a_trickle_of_flushes_rewrites_each_row_a_logarithmic_number_of_times() -> None:
    segments, next_id, written = [], 0, 0
    for _ in range(400):
        segments.append(segment(next_id, size_bytes=1))
        next_id += 1
        while plans := plan_compactions(segments, [], {}, frozenset(), LIMITS):
            for plan in plans:
                inputs = [s for s in segments if s.segment_id in plan.inputs]
                size = sum(s.size_bytes for s in inputs)
                written += size
                segments = [s for s in segments if s not in inputs]
                segments.append(segment(next_id, size_bytes=size))
                next_id += 1
    assert sum(s.size_bytes for s in segments) == 400
    assert written <= 400 * 10
    assert len(segments) <= 20


@given(st.lists(st.integers(0, 15), max_size=40), st.integers(1, 16))
def test_new_shards_go_to_the_emptiest_pchannels(used: list[int], shards: int) -> None:
    names = [f"here-rootcoord-dml_{n}" for n in used]
    chosen = choose_pchannels(Counter(names), "here", 16, shards)
    assert len(set(chosen)) == shards
    rest = {f"here-rootcoord-dml_{n}" for n in range(16)} - set(chosen)
    assert max(map(names.count, chosen)) <= min(map(names.count, rest), default=99)


def test_a_compaction_replaces_indexed_segments_only_when_it_is_indexed() -> None:
    done = (SegmentIndex(index_id=9, state=IndexState.FINISHED, key="k"),)
    dropped = {"state": SegmentState.DROPPED, "indexes": done}
    one, two = segment(1, **dropped), segment(2, **dropped)
    merged = segment(3, compacted_from=(1, 2))
    checkpoint = ChannelCheckpoint(vchannel="v0", position=1, timestamp=50)

    def ids(segments, in_view) -> list[int]:
        view = {s.segment_id: s for s in in_view}
        target = shard_target(segments, checkpoint, (), {9}, view)
        return [s.segment_id for s in target.segments]

    assert ids([one, two, merged], [one, two]) == [1, 2]
    assert ids([one, two, merged], [one]) == [3]
    assert ids([one, two, merged], []) == [3]
    indexed = segment(3, compacted_from=(1, 2), indexes=done)
    assert ids([one, two, indexed], [one, two]) == [3]
