"""Marking segments as dropped, in bounded transactions; garbage collection does the rest."""

from collections.abc import Iterable, Sequence

import msgspec

from elanus.coordinator.catalog import Change, in_batches
from elanus.coordinator.context import Context
from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentState


async def drop_segments(context: Context, segments: Iterable[SegmentInfo]) -> None:
    """Those that are gone or dropped by then are left alone."""
    for batch in in_batches(segments):
        await _drop_batch(context, batch)


async def _drop_batch(context: Context, batch: Sequence[SegmentInfo]) -> None:
    now_ms = context.world.clock.now_ms()

    def decide() -> Change:
        puts = []
        for segment in batch:
            now = context.catalog.segment(segment.collection_id, segment.segment_id)
            if now is not None and now.state is not SegmentState.DROPPED:
                puts.append(as_dropped(now, now_ms))
        return Change(put=puts)

    await context.catalog.commit(decide)


def as_dropped(segment: SegmentInfo, now_ms: int) -> SegmentInfo:
    return msgspec.structs.replace(segment, state=SegmentState.DROPPED, dropped_at_ms=now_ms)
