"""Which segments to compact: pure functions from metadata to plans.

Three kinds of plans, all within one shard (vchannel):

- **merge**: small segments of one partition into one of at most ``max_size_bytes``;
- **rewrite**: one segment, without its deleted and expired rows;
- **deltas**: L0 segments (deletes) into the manifests of the segments that they may touch.

Invariants. No segment is in two plans, nor in a plan and in ``busy``. A merge's or rewrite's
segments share partition and shard, and a merge's sizes add up to at most ``max_size_bytes``.

Why deletes are never lost: *every flushed L0 segment applies to every flushed segment of its shard
(and partition)*. An L0 leaves only in the transaction that stores its deletes in the manifests of
all of them; it is eligible only once the channel's checkpoint has passed its last delete, so that
no growing data with older rows can appear later; and delta plans exclude all other plans of their
shard while they run, so that no merge can carry rows past them. A merge leaves the L0s alone and
keeps the rows' insert timestamps, so that applying old deletes to its output again is harmless.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Any, TypeVar

from elanus.model.catalog import ALL_PARTITIONS, ChannelCheckpoint, SegmentInfo

K = TypeVar("K", bound=Any)


MAX_MERGE_INPUTS = 30
MAX_PLAN_DELTAS = 60


class PlanKind(StrEnum):
    MERGE = "merge"
    REWRITE = "rewrite"
    DELTAS = "deltas"


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """``inputs`` are rewritten; the L0 segments ``deltas`` are moved (kind DELTAS only)."""

    kind: PlanKind
    collection_id: int
    vchannel: str
    inputs: tuple[int, ...]
    deltas: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """small_bytes: below this a segment is merged; min_segments: fewest that are worth it;
    deleted_ratio: part of deleted rows from which a segment is rewritten; min_deltas: number of
    L0 segments of a shard that are then applied."""

    max_size_bytes: int
    small_bytes: int
    min_segments: int
    deleted_ratio: float
    min_deltas: int

    def forced(self) -> "PolicyLimits":
        """What a user's request to compact goes by: whatever makes things smaller."""
        return PolicyLimits(self.max_size_bytes, self.max_size_bytes, 2, 1e-9, 1)


def plan_compactions(
    segments: Sequence[SegmentInfo],
    deltas: Sequence[SegmentInfo],
    checkpoints: dict[str, ChannelCheckpoint],
    busy: Container[int],
    limits: PolicyLimits,
    *,
    expire_before_ts: int = 0,
    forced: bool = False,
) -> list[CompactionPlan]:
    """Plans for one collection. ``segments``: flushed ones with rows; ``deltas``: flushed L0s.

    A shard that gets a delta plan gets no other now; more may follow when it is done.
    """
    plans = plan_deltas(segments, deltas, checkpoints, busy, limits)
    taken = {plan.vchannel for plan in plans}
    free = [s for s in segments if s.segment_id not in busy and s.vchannel not in taken]
    merges = plan_merges(free, limits, forced=forced)
    merged = {segment_id for plan in merges for segment_id in plan.inputs}
    rest = [s for s in free if s.segment_id not in merged]
    return [*plans, *merges, *plan_rewrites(rest, limits, expire_before_ts)]


def plan_deltas(
    segments: Sequence[SegmentInfo],
    deltas: Sequence[SegmentInfo],
    checkpoints: dict[str, ChannelCheckpoint],
    busy: Container[int],
    limits: PolicyLimits,
) -> list[CompactionPlan]:
    """Shards with enough L0s behind their checkpoint, while nothing else runs on them."""
    plans = []
    for vchannel, group in _grouped(deltas, lambda s: s.vchannel):
        checkpoint = checkpoints.get(vchannel)
        ready = [
            delta
            for delta in group
            if checkpoint is not None
            and delta.max_ts <= checkpoint.timestamp
            and delta.segment_id not in busy
        ]
        mine = [segment for segment in segments if segment.vchannel == vchannel]
        ready = sorted(ready, key=lambda s: (s.max_ts, s.segment_id))[:MAX_PLAN_DELTAS]
        if len(ready) < limits.min_deltas or any(s.segment_id in busy for s in mine):
            continue
        touched = [segment for segment in mine if any(may_touch(d, segment) for d in ready)]
        plans.append(
            CompactionPlan(
                PlanKind.DELTAS,
                ready[0].collection_id,
                vchannel,
                tuple(segment.segment_id for segment in touched),
                tuple(delta.segment_id for delta in ready),
            )
        )
    return plans


def plan_rewrites(
    segments: Sequence[SegmentInfo], limits: PolicyLimits, expire_before_ts: int
) -> list[CompactionPlan]:
    """Segments with many deleted rows, or with expired rows only."""
    return [
        CompactionPlan(
            PlanKind.REWRITE, segment.collection_id, segment.vchannel, (segment.segment_id,)
        )
        for segment in segments
        if segment.row_count > 0
        and (
            (
                segment.deleted_rows >= limits.deleted_ratio * segment.row_count
                and segment.deleted_rows > 0
            )
            or segment.max_ts <= expire_before_ts
        )
    ]


def plan_merges(
    segments: Sequence[SegmentInfo], limits: PolicyLimits, *, forced: bool = False
) -> list[CompactionPlan]:
    """Small segments, packed from the smallest on.

    A segment that outweighs all smaller ones of its group together is left out (unless forced):
    so every row is rewritten a logarithmic number of times only, however it trickles in.
    """
    small = [s for s in segments if s.size_bytes < limits.small_bytes]
    plans = []
    for _, group in _grouped(small, lambda s: (s.vchannel, s.partition_id)):
        for packed in _pack(group, limits.max_size_bytes):
            chosen = packed if forced else _balanced(packed)
            if len(chosen) >= limits.min_segments:
                first = chosen[0]
                inputs = tuple(sorted(segment.segment_id for segment in chosen))
                plans.append(
                    CompactionPlan(PlanKind.MERGE, first.collection_id, first.vchannel, inputs)
                )
    return plans


def may_touch(delta: SegmentInfo, segment: SegmentInfo) -> bool:
    """Whether a delete of the L0 ``delta`` can be for a row of ``segment``."""
    return (
        delta.vchannel == segment.vchannel
        and delta.partition_id in (ALL_PARTITIONS, segment.partition_id)
        and delta.max_ts > segment.min_ts
    )


def _pack(segments: Iterable[SegmentInfo], max_size_bytes: int) -> list[list[SegmentInfo]]:
    bins: list[list[SegmentInfo]] = []
    room = 0
    for segment in sorted(segments, key=lambda s: (s.size_bytes, s.segment_id)):
        if not bins or segment.size_bytes > room or len(bins[-1]) == MAX_MERGE_INPUTS:
            bins.append([])
            room = max_size_bytes
        bins[-1].append(segment)
        room -= segment.size_bytes
    return bins


def _balanced(ascending: list[SegmentInfo]) -> list[SegmentInfo]:
    chosen = list(ascending)
    while len(chosen) > 1:
        if chosen[-1].size_bytes <= sum(segment.size_bytes for segment in chosen[:-1]):
            break
        chosen.pop()
    return chosen


def _grouped(
    segments: Iterable[SegmentInfo], key: Callable[[SegmentInfo], K]
) -> list[tuple[K, list[SegmentInfo]]]:
    ordered = sorted(segments, key=lambda segment: (key(segment), segment.segment_id))
    return [(name, list(group)) for name, group in groupby(ordered, key=key)]
