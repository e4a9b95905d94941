"""What keeps a log on objects short and cheap to read: truncation, merging, clearing away.

Truncation, crash-safe at every step: (1) a mark says that the log begins with a later segment, and
whose that is; (2) the objects of earlier segments go, oldest first; (3) older marks go. The
greatest mark holds, so a late or repeated mark does no harm, and positions never go back. Only
whole segments go. Fences outlast their segment: whoever was fenced long ago and wakes up must
find its next number taken. They go when they are both old and many.

Merging, crash-safe at every step: (1) a copy of several small fragments of a segment that has ended
is put as one object; (2) the fragments that a copy holds go. Readers take either.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import structlog

from elanus.errors import CorruptData
from elanus.storage.objects.base import ObjectExists, ObjectNotFound
from elanus.storage.wal._fragments import INDEX_BITS, MAX_RECORDS, Kind, number_of
from elanus.storage.wal._woodpecker_layout import Layout, Segment, Unit
from elanus.storage.wal._woodpecker_log import LogObjects, Owner
from elanus.storage.wal._woodpecker_recovery import End, find_end

logger = structlog.get_logger(__name__)

KEPT_FENCES = 256
FENCE_RETENTION_MS = 7 * 24 * 3_600 * 1_000
_DELETE_BATCH = 256
_MAX_SCANS = 5


async def truncate(log: LogObjects, upto: int) -> None:
    """Remove segments that hold nothing behind ``upto``."""
    for attempt in range(1, _MAX_SCANS + 1):
        layout = await log.layout()
        try:
            end = await find_end(log, layout)
            start = await _new_start(log, layout, end, upto)
            owner = await _owner_at(log, layout, end, start)
        except ObjectNotFound:
            if attempt == _MAX_SCANS:
                raise CorruptData(f"the log {log.name} has lost the end of a segment") from None
            continue  # another process truncates too
        break
    if owner is not None:
        mark = owner.header(Kind.START, start, start)
        await log.put(log.names.start(start), mark)
    if start == 0:
        return
    ended = [*layout.dead, *(segment for segment in layout.segments if segment.base < start)]
    await _delete(log, _useless(ended, log.world.clock.now_ms()))
    await _delete(log, [log.names.start(number) for number in layout.starts if number < start])


async def _new_start(log: LogObjects, layout: Layout, end: End, upto: int) -> int:
    """The first segment that must stay; the present one unless there are records to remove."""
    start = layout.start
    for base, following in _ended(layout, end):
        last = following - 2  # the number of the last fragment
        if last >= base and number_of(upto) <= last:
            count = MAX_RECORDS
            if number_of(upto) == last:
                count = (await log.header(base, last + 1)).tail_count or MAX_RECORDS
            if upto < (last << INDEX_BITS | (count - 1)):
                break
        if last >= base:
            start = following
    return start


def _ended(layout: Layout, end: End) -> list[tuple[int, int]]:
    """The segments that have ended, each with the number after its end."""
    bases = [segment.base for segment in layout.segments]
    return [each for each in pairwise([*bases, end.segment]) if each[0] != end.segment]


async def _owner_at(log: LogObjects, layout: Layout, end: End, start: int) -> Owner | None:
    """The owner of the segment ``start``; None if the log begins there already."""
    if start == layout.start:
        return None
    if start == end.segment:
        return end.owner
    base = max(segment.base for segment in layout.segments if segment.base < start)
    return Owner.of(await log.header(base, start - 1))


def _useless(segments: Sequence[Segment], now_ms: int) -> list[str]:
    """Objects of truncated segments, oldest first, without the fences that must stay."""
    units = [unit for segment in segments for unit in segment.objects()]
    fences = [unit for unit in units if unit.is_fence]
    kept = {
        unit.key
        for place, unit in enumerate(reversed(fences))
        if place < KEPT_FENCES or unit.modified_ms > now_ms - FENCE_RETENTION_MS
    }
    return [unit.key for unit in units if unit.key not in kept]


async def merge(log: LogObjects) -> None:
    """Merge small fragments of the segments that have ended, and remove what is superfluous."""
    layout = await log.layout()
    try:
        end = await find_end(log, layout)
        for segment, (_, following) in zip(layout.segments, _ended(layout, end), strict=False):
            await _merge_segment(log, segment, following - 1)
    except ObjectNotFound as error:
        # Truncated meanwhile, or lost: whoever reads it will tell.
        logger.info("log not merged", log=log.name, reason=str(error))


async def _merge_segment(log: LogObjects, segment: Segment, end: int) -> None:
    policy = log.settings.logstore.segment_compaction_policy
    reading = asyncio.Semaphore(policy.max_parallel_reads)

    async def read(unit: Unit) -> bytes:
        async with reading:
            data = await log.get(unit.key)
        await log.decode(unit.key, data, unit.first, unit.last)  # a damaged one is not copied
        return data

    async def merge_one(group: list[Unit]) -> list[str]:
        key = log.names.merged(segment.base, group[0].first, group[-1].last)
        try:
            parts = await asyncio.gather(*(read(unit) for unit in group))
            await log.put_parts(key, parts)
            log.counters.merges += 1
        except (CorruptData, ObjectExists) as error:
            logger.error("fragments not merged", key=key, reason=str(error))
            return []
        return [unit.key for unit in group]

    await _delete(log, _superfluous(segment, end))
    for groups in _in_batches(_groups(segment, end, policy.max_size), policy.max_parallel_uploads):
        for copied in await asyncio.gather(*(merge_one(group) for group in groups)):
            await _delete(log, copied)


def _superfluous(segment: Segment, end: int) -> list[str]:
    """Copied fragments, and what lies behind the segment's end."""
    behind = [unit.key for unit in segment.objects() if unit.first > end]
    copied = [
        unit.key
        for number, unit in sorted(segment.fragments.items())
        if number < end and segment.merged_with(number) is not None
    ]
    return [*behind, *copied]


def _groups(segment: Segment, end: int, max_size: int) -> Iterator[list[Unit]]:
    """Runs of at least two fragments that no copy holds, up to ``max_size`` bytes each."""
    group: list[Unit] = []
    size_bytes = 0
    for number in range(segment.base, end + 1):
        unit = segment.fragments.get(number)
        if number == end or segment.merged_with(number) is not None:
            unit = None
        if unit is not None and unit.size_bytes > max_size // 2:
            unit = None
        if unit is not None and size_bytes + unit.size_bytes <= max_size:
            group.append(unit)
            size_bytes += unit.size_bytes
            continue
        if len(group) > 1:
            yield group
        group = [] if unit is None else [unit]
        size_bytes = 0 if unit is None else unit.size_bytes


def _in_batches(groups: Iterable[list[Unit]], size: int) -> Iterator[list[list[Unit]]]:
    batch: list[list[Unit]] = []
    for group in groups:
        batch.append(group)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _delete(log: LogObjects, keys: Sequence[str]) -> None:
    for at in range(0, len(keys), _DELETE_BATCH):
        await log.delete(keys[at : at + _DELETE_BATCH])
