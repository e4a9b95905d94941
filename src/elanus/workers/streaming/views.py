"""Switching a shard from one view of its sealed segments to the next, without gap or double count.

Before the switch, segments that are new to the shard get the deletes that their files don't have:
those of the buffer after ``view.delta_ts``, again and again until none came meanwhile; the last
round holds back further deletes. The switch itself is one synchronous step: the new view, the
growing segments that it supersedes, the deletes that nobody needs any more.

A view is refused (Unavailable: make a newer one) if deletes that it lacks are no longer in the
buffer, or if flushed rows that this node no longer holds are not in it.
"""

import structlog

from elanus.errors import Unavailable
from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentLevel
from elanus.runtime.world import World
from elanus.services.interfaces import DataService
from elanus.services.messages import QueryView
from elanus.workers.streaming.apply import Applier, apply_deletes_to
from elanus.workers.streaming.shard import Shard

log = structlog.get_logger(__name__)

_FREE_ROUNDS = 3


class ViewSwitcher:
    """See the module."""

    def __init__(self, world: World, coordinator: DataService, applier: Applier) -> None:
        self._world = world
        self._coordinator = coordinator
        self._applier = applier

    async def switch(self, shard: Shard, view: QueryView) -> None:
        """Make ``view`` the shard's, unless it has a newer one."""
        async with shard.view_lock:
            if shard.closed:
                raise Unavailable(f"shard {shard.vchannel} has just been recovered, try again")
            if shard.view is not None and view.version <= shard.view.version:
                return
            unread_drops = shard.unread_drops
            if shard.needs_coverage_check:
                await self._check_coverage(shard, view)
            fresh = _new_segments(shard, view)
            if fresh:
                self._check_deletes(shard, view)
            sent_ts = view.delta_ts
            for _ in range(_FREE_ROUNDS):
                before, sent_ts = sent_ts, await self._send(shard, view, fresh, sent_ts)
                if sent_ts == before:
                    break
            async with shard.apply_lock:
                await self._send(shard, view, fresh, sent_ts)
                # A flush may have ended meanwhile and let go what no view was reading.
                if fresh:
                    self._check_deletes(shard, view)
                if shard.unread_drops != unread_drops:
                    raise Unavailable(f"{view.vchannel} was flushed while its view was prepared")
                self._take_over(shard, view)

    async def prepare(self, shard: Shard, old: Shard) -> None:
        """Before ``shard`` inherits from ``old``, whose view lock is held: the deletes of the
        recovered buffer go to the view's segments, which have all that ``old`` had applied."""
        if old.view is not None:
            await self._applier.repeat_missed(old)
            if old.lost_nodes:
                raise Unavailable(f"query nodes of {old.vchannel} have missed deletes")
            everything = frozenset(segment.segment_id for segment in old.view.sealed)
            await self._send(shard, old.view, everything, 0)

    def inherit(self, shard: Shard, old: Shard) -> None:
        """Go on with the view of ``old``, this shard's state before the log was recovered.

        Growing segments that are only in ``old`` are flushed, and stay until a view takes over.
        """
        if old.view is None:
            return
        for segment_id, growing in list(old.growing.items()):
            if growing.is_empty or segment_id in shard.growing:
                continue
            del old.growing[segment_id]
            growing.flushed = True
            growing.segment.schema = shard.collection.schema
            shard.growing[segment_id] = growing
        shard.view = old.view
        for entry in shard.deletes.after(0):
            apply_deletes_to(shard.growing.values(), entry.deletes, entry.timestamp)

    async def _send(
        self,
        shard: Shard,
        view: QueryView,
        fresh: frozenset[int],
        after_ts: int,
    ) -> int:
        """Send the buffered deletes after ``after_ts``; the timestamp of the last one."""
        if not fresh:
            return after_ts
        for entry in shard.deletes.after(after_ts):
            await self._applier.send_deletes(shard, view, entry.deletes, entry.timestamp, fresh)
            after_ts = entry.timestamp
        return after_ts

    def _take_over(self, shard: Shard, view: QueryView) -> None:
        shard.view = view
        shard.needs_coverage_check = False
        gone = view.superseded | {segment.segment_id for segment in view.sealed}
        freed = shard.drop_growing([i for i in list(shard.growing) if i in gone])
        freed += shard.forget_deletes(view.delta_ts)
        self._world.memory.release("growing", freed)
        log.debug(
            "view switched",
            vchannel=shard.vchannel,
            version=view.version,
            sealed=len(view.sealed),
            growing=len(shard.growing),
        )

    @staticmethod
    def _check_deletes(shard: Shard, view: QueryView) -> None:
        if view.delta_ts < shard.deletes.forgotten_ts:
            raise Unavailable(
                f"view {view.version} of {shard.vchannel} knows deletes up to {view.delta_ts}, "
                f"those up to {shard.deletes.forgotten_ts} are only in object storage by now"
            )

    async def _check_coverage(self, shard: Shard, view: QueryView) -> None:
        flushed = await self._coordinator.list_segments(shard.collection.collection_id)
        held = {segment.segment_id for segment in view.sealed} | set(shard.growing)
        missing = [
            segment.segment_id
            for segment in flushed
            if _concerns(segment, view) and not _covers(held, segment)
        ]
        if missing:
            raise Unavailable(
                f"view {view.version} of {shard.vchannel} lacks the flushed segments {missing}"
            )


def _concerns(segment: SegmentInfo, view: QueryView) -> bool:
    return (
        segment.vchannel == view.vchannel
        and segment.level is not SegmentLevel.L0
        and segment.row_count > 0
        and (not view.partition_ids or segment.partition_id in view.partition_ids)
    )


def _covers(held: set[int], segment: SegmentInfo) -> bool:
    """Whether its rows are read, from itself or from all that it was made of."""
    sources = segment.compacted_from
    return segment.segment_id in held or (bool(sources) and held.issuperset(sources))


def _new_segments(shard: Shard, view: QueryView) -> frozenset[int]:
    """Ids of the segments of ``view`` that the shard does not read in this form and place yet, or
    whose copies are not those that it has kept up to date."""
    known: set[tuple[int, int, int]] = set()
    if shard.view is not None:
        old = shard.view
        known = {(s.segment_id, s.version, old.placement[s.segment_id]) for s in old.sealed}
    return view.reloaded | frozenset(
        s.segment_id
        for s in view.sealed
        if (s.segment_id, s.version, view.placement[s.segment_id]) not in known
    )
