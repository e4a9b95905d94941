"""Moves sealed growing segments and deletes of a shard into object storage.

Order, and what a crash leaves: write segments and deletes under fresh keys (debris that nothing
names) → ``coordinator.commit_flush``: one metadata transaction makes the segments FLUSHED, the
deletes an L0 segment, and advances the shard's checkpoint (from here on a restart skips these
records) → the growing copies go when a view with the sealed ones took over, at once if the shard
is not loaded → the WAL is truncated behind what every shard of the pchannel has flushed.

Nothing is forgotten before the commit has succeeded: a full disk or an unreachable coordinator
only delays, and a commit whose answer was lost is sent again as it was.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from elanus.errors import CollectionNotFound, ElanusError, FencedWriter
from elanus.model.catalog import ChannelCheckpoint
from elanus.runtime.world import World
from elanus.services.interfaces import CoordinatorService
from elanus.services.messages import FlushCommit
from elanus.storage.objects.base import ObjectStore
from elanus.storage.wal.base import Wal
from elanus.workers.streaming.delete_buffer import BufferedDelete
from elanus.workers.streaming.flush_files import write_deletes, write_growing
from elanus.workers.streaming.pchannel import Pchannel
from elanus.workers.streaming.shard import NOTHING, Growing, Shard

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class _Work:
    """What one flush moves, fixed in one step, and the checkpoint that holds once it is done."""

    segments: tuple[Growing, ...]
    deletes: tuple[BufferedDelete, ...]
    checkpoint: ChannelCheckpoint


class Flusher:
    """Runs at most one flush of each shard at a time."""

    def __init__(
        self, world: World, coordinator: CoordinatorService, objects: ObjectStore, wal: Wal
    ) -> None:
        self._world = world
        self._coordinator = coordinator
        self._objects = objects
        self._wal = wal
        self._truncated: dict[str, int] = {}

    def request(self, pchannel: Pchannel, shard: Shard) -> None:
        """See that what is sealed in ``shard`` gets flushed."""
        if shard.flush_task is not None or not _has_work(pchannel, shard):
            return
        shard.flush_task = self._world.tasks.spawn(
            f"flush {shard.vchannel}", self._run(pchannel, shard)
        )

    async def wait_idle(self, pchannel: Pchannel) -> None:
        """Return when no flush of this pchannel runs. It must be broken or closed."""
        for shard in list(pchannel.shards.values()):
            if shard.flush_task is not None:
                await asyncio.wait([shard.flush_task])

    async def _run(self, pchannel: Pchannel, shard: Shard) -> None:
        failures = 0
        try:
            while _has_work(pchannel, shard):
                try:
                    await self._flush(pchannel, shard)
                    failures = 0
                except (FencedWriter, CollectionNotFound) as error:
                    log.warning("flush given up", vchannel=shard.vchannel, error=str(error))
                    return
                except ElanusError as error:
                    failures += 1
                    await self._pause(pchannel, shard, failures, error)
        finally:
            shard.flush_task = None

    async def _pause(
        self, pchannel: Pchannel, shard: Shard, failures: int, error: ElanusError
    ) -> None:
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
        pause_s *= 0.5 + self._world.random.random()
        log.warning(
            "flush failed, will be tried again",
            vchannel=shard.vchannel,
            failures=failures,
            pause_s=round(pause_s, 3),
            error=str(error),
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(pchannel.ended.wait(), pause_s)

    async def _flush(self, pchannel: Pchannel, shard: Shard) -> None:
        hit = self._world.failpoints.hit
        work = plan_flush(pchannel, shard)
        hit("flush.before_write")
        segments = [
            await write_growing(self._world, self._coordinator, self._objects, shard, growing)
            for growing in work.segments
        ]
        deltas = await write_deletes(
            self._world, self._coordinator, self._objects, shard, work.deletes
        )
        hit("flush.after_write")
        commit = FlushCommit(
            segments=tuple(segments),
            deltas=deltas,
            checkpoint=work.checkpoint,
            term=pchannel.term,
        )
        await self._commit(pchannel, shard, commit)
        self._committed(shard, work)
        await self._truncate(pchannel)

    async def _commit(self, pchannel: Pchannel, shard: Shard, commit: FlushCommit) -> None:
        """Send ``commit`` until it is answered: it may have taken effect the first time."""
        hit = self._world.failpoints.hit
        failures = 0
        while True:
            hit("flush.before_commit")
            try:
                await self._coordinator.commit_flush(commit)
            except (FencedWriter, CollectionNotFound):
                raise
            except ElanusError as error:
                if shard.closed or pchannel.broken is not None:
                    raise
                failures += 1
                await self._pause(pchannel, shard, failures, error)
            else:
                hit("flush.after_commit")
                return

    def _committed(self, shard: Shard, work: _Work) -> None:
        """What is durable need not be kept for recovery; what nobody reads goes."""
        previous_checkpoint_ts = shard.checkpoint_ts
        shard.mark_flushed(growing.segment_id for growing in work.segments)
        if work.deletes:
            shard.deletes.mark_flushed(work.deletes[-1].timestamp)
        shard.checkpoint_position = work.checkpoint.position
        shard.checkpoint_ts = max(shard.checkpoint_ts, work.checkpoint.timestamp)
        unread = [g for g in work.segments if not shard.is_loaded(g.partition_id)]
        freed = shard.drop_growing([growing.segment_id for growing in unread])
        if unread:
            shard.needs_coverage_check = True
            shard.unread_drops += 1
        # A shard that is just being loaded needs the deletes since the checkpoint before.
        forget_ts = shard.view.delta_ts if shard.view is not None else previous_checkpoint_ts
        freed += shard.forget_deletes(forget_ts)
        self._world.memory.release("growing", freed)
        log.info(
            "flushed",
            vchannel=shard.vchannel,
            segments=[growing.segment_id for growing in work.segments],
            rows=sum(growing.segment.row_count for growing in work.segments),
            deletes=sum(entry.row_count for entry in work.deletes),
            position=work.checkpoint.position,
        )

    async def _truncate(self, pchannel: Pchannel) -> None:
        if pchannel.broken is not None or any(s.closed for s in pchannel.shards.values()):
            return  # shards that end may not hold all of what is not flushed yet
        position = safe_to_truncate(pchannel)
        if position <= self._truncated.get(pchannel.name, NOTHING):
            return
        try:
            await self._wal.truncate(pchannel.name, position)
        except ElanusError as error:
            # The next flush tries again; until then the log is only longer than it need be.
            log.warning("log not truncated", pchannel=pchannel.name, error=str(error))
        else:
            self._truncated[pchannel.name] = position


def _has_work(pchannel: Pchannel, shard: Shard) -> bool:
    if shard.closed or pchannel.broken is not None:
        return False
    return bool(shard.sealed) or shard.flush_requested_ts > shard.checkpoint_ts


def plan_flush(pchannel: Pchannel, shard: Shard) -> _Work:
    """What to move now: every sealed segment and every delete that is applied."""
    segments = tuple(shard.sealed.values())
    deletes = tuple(shard.deletes.unflushed())
    upto_ts = deletes[-1].timestamp if deletes else 0
    first = shard.unflushed_bounds(frozenset(g.segment_id for g in segments), upto_ts)
    position, timestamp = pchannel.last_position, pchannel.safe_time.safe_ts
    if first is not None:
        position, timestamp = min(position, first[0] - 1), min(timestamp, first[1] - 1)
    return _Work(
        segments=segments,
        deletes=deletes,
        checkpoint=ChannelCheckpoint(
            vchannel=shard.vchannel,
            position=max(position, shard.checkpoint_position),
            timestamp=max(timestamp, shard.checkpoint_ts),
        ),
    )


def safe_to_truncate(pchannel: Pchannel) -> int:
    """Every record up to this position is in objects, for every shard of the pchannel."""
    position = pchannel.last_position
    for shard in pchannel.shards.values():
        first = shard.unflushed_bounds(frozenset(), 0)
        if first is not None:
            position = min(position, first[0] - 1)
    return position
