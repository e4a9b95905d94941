"""Marking segments as dropped, in bounded transactions; garbage collection does the rest."""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from elanus.coordinator.catalog import Change, in_batches
from elanus.coordinator.context import Context
from elanus.model.catalog import ALL_PARTITIONS, SegmentInfo
from elanus.model.types import SegmentState

_FLUSHED = SegmentState.FLUSHED


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


async def drop_orphans(context: Context, collection_id: int) -> None:
    """Segments of partitions that are no more become DROPPED; parts of indexes that are no more
    leave their segments. Finds nothing where nothing is left over."""
    info = context.catalog.collection(collection_id)
    if info is None:
        return
    partitions = {ALL_PARTITIONS, *(p.partition_id for p in info.partitions)}
    flushed = [s for s in context.catalog.segments(collection_id) if s.state is _FLUSHED]
    await drop_segments(context, [s for s in flushed if s.partition_id not in partitions])
    index_ids = {index.index_id for index in context.catalog.built_indexes(collection_id)}
    stale = [s for s in flushed if any(part.index_id not in index_ids for part in s.indexes)]
    for batch in in_batches(stale):
        await _strip_batch(context, batch, index_ids)


async def _strip_batch(
    context: Context, batch: Sequence[SegmentInfo], index_ids: Collection[int]
) -> None:
    def decide() -> Change:
        puts = []
        for segment in batch:
            now = context.catalog.segment(segment.collection_id, segment.segment_id)
            if now is not None and now.state is _FLUSHED:
                parts = tuple(part for part in now.indexes if part.index_id in index_ids)
                puts.append(msgspec.structs.replace(now, indexes=parts))
        return Change(put=puts)

    await context.catalog.commit(decide)
