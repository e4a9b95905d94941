"""Finding the end of a log, and taking it over.

A log is taken over by putting a fence at the first number that its last segment lacks. The number
can be taken meanwhile: by a fragment of the owner, which then belongs to the log, or by another
end of the segment, whose writer then owns the next one. Every such loss is looked at, and the
next number is tried. Against an owner that is quicker than that, a fence some numbers ahead
stops it: either it gets there and the fence ends the segment, or it doesn't and is fenced before.

A request that was given up may still take effect later. It can only find its number taken, or
put an object behind the end of a segment, which nobody reads.
"""

from dataclasses import dataclass, replace

from elanus.errors import CorruptData, FencedWriter, Unavailable
from elanus.storage.objects.base import ObjectExists, ObjectNotFound
from elanus.storage.wal._fragments import Header, Kind
from elanus.storage.wal._woodpecker_layout import Layout, Segment
from elanus.storage.wal._woodpecker_log import NOBODY, LogObjects, Owner

_MAX_SCANS = 10
_LOSSES_BEFORE_STOP = 3
_STOP_AHEAD = 64
_MAX_LOSSES = 10 * _STOP_AHEAD


@dataclass(frozen=True, slots=True)
class End:
    """``number``: the first one that the last segment, ``segment``, lacks. ``tail_count``:
    records of the fragment before it in the segment."""

    segment: int
    number: int
    owner: Owner
    tail_count: int = 0

    def behind(self, header: Header) -> "End":
        """The end after the fragment at ``number`` was found to exist."""
        if header.ends_segment:
            following = header.number + 1
            return End(following, following, Owner.of(header))
        return replace(self, number=header.number + 1, tail_count=header.count)


async def find_end(log: LogObjects, layout: Layout) -> End:
    """Where the log ends. Raises ObjectNotFound if the layout is out of date."""
    if not layout.segments:
        return End(layout.start, layout.start, await _owner_of(log, layout, layout.start))
    segment = layout.segments[-1]
    number = segment.first_missing()
    fence = next((n for n in range(segment.base, number) if _is_fence(segment, n)), None)
    if fence is not None:
        # The owner may have ended the segment itself, just before a fence that came too late.
        if fence > segment.base and segment.merged_with(fence - 1) is None:
            before = await log.header(segment.base, fence - 1)
            if before.ends_segment:
                fence -= 1
        number = fence + 1
    else:
        await _check_hole(log, segment, number)
    if number == segment.base:
        owner = await _owner_of(log, layout, segment.base)
        return End(segment.base, number, owner)
    last = await log.header(segment.base, number - 1)
    return End(segment.base, number - 1, Owner.of(last)).behind(last)


async def _check_hole(log: LogObjects, segment: Segment, number: int) -> None:
    """What lies behind the first missing number was in flight together with it, unless it says
    otherwise. Raises CorruptData."""
    behind = max(segment.fragments, default=number)
    if behind <= number:
        return
    if (await log.header(segment.base, behind)).complete_before <= number:
        return
    key = log.names.fragment(segment.base, number)
    try:
        await log.header(segment.base, number)
    except ObjectNotFound:
        if await log.start() <= segment.base:
            raise CorruptData(
                f"{key} is missing: it was there before fragment {behind} was written"
            ) from None
    raise ObjectNotFound(f"{key} in the listing")


def _is_fence(segment: Segment, number: int) -> bool:
    unit = segment.fragments.get(number)
    return unit is not None and unit.is_fence


async def _owner_of(log: LogObjects, layout: Layout, segment: int) -> Owner:
    """Of a segment that has no fragment yet."""
    if segment == 0:
        return NOBODY
    if segment == layout.start:
        return Owner.of(await log.start_header(segment))
    before = [each.base for each in layout.segments if each.base < segment]
    return Owner.of(await log.header(before[-1], segment - 1))


async def take_over(log: LogObjects, owner: Owner) -> int:
    """Fence every former writer; the segment that ``owner`` may write to.
    Raises FencedWriter if a newer term has taken the log."""
    for _ in range(_MAX_SCANS):
        try:
            segment = await _fence(log, await find_end(log, await log.layout()), owner)
        except ObjectNotFound:
            continue  # truncated or merged since the listing
        # If the number was free because its segment had been truncated, the log is elsewhere.
        if await log.start() <= segment:
            return segment
    raise Unavailable(f"the log {log.name} changes too quickly to be taken over")


async def _fence(log: LogObjects, end: End, owner: Owner) -> int:
    for loss in range(_MAX_LOSSES):
        _check_term(log, end.owner, owner)
        if loss == _LOSSES_BEFORE_STOP:
            await _put_stop(log, end, owner)
        key = log.names.fragment(end.segment, end.number)
        fence = owner.header(
            Kind.FENCE,
            end.segment,
            end.number,
            tail_count=end.tail_count,
            complete_before=end.number,
        )
        try:
            await log.put(key, fence)
        except ObjectExists:
            end = end.behind(await log.header(end.segment, end.number))
            if end.owner == owner:
                return end.segment
        else:
            return end.number + 1
    raise Unavailable(f"the log {log.name} grows too quickly to be taken over")


def _check_term(log: LogObjects, found: Owner, mine: Owner) -> None:
    if found.term > mine.term:
        raise FencedWriter(
            f"the log {log.name} was opened at term {found.term}, this is term {mine.term}"
        )


async def _put_stop(log: LogObjects, end: End, owner: Owner) -> None:
    number = end.number + _STOP_AHEAD
    try:
        await log.put(
            log.names.fragment(end.segment, number), owner.header(Kind.FENCE, end.segment, number)
        )
    except ObjectExists:
        return  # the owner is there already: the next losses tell how far it is
