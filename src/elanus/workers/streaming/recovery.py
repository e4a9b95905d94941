"""Rebuilds the shards of a pchannel from metadata and the WAL.

The records after the smallest checkpoint are read in chunks of bounded size. Of each record only
what metadata does not already have counts: records up to the shard's own checkpoint, parts whose
segment is flushed (or was, and is compacted or dropped by now), and shards that no longer exist
are skipped. Parts go to the segments that the record names, so replaying is idempotent: a crash
during recovery, or a second recovery, gives the same state.

What was replayed is sealed and flushed in the background, which also settles every flush that was
asked for before the restart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from elanus.engine.segment.growing import GrowingSegment
from elanus.runtime.world import World
from elanus.services.interfaces import CoordinatorService
from elanus.services.messages import VchannelRecovery, WriteRequest
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord
from elanus.workers.streaming.apply import (
    Apply,
    apply_to_growing,
    buffer_deletes,
    note_applied,
)
from elanus.workers.streaming.records import LoggedCollection, LoggedWrite, decode
from elanus.workers.streaming.shard import Growing, Shard

log = structlog.get_logger(__name__)

_CHUNK_RECORDS = 256
_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Recovered:
    """The shards by vchannel, and the last position in the log."""

    shards: dict[str, Shard]
    last_position: int


async def recover(
    world: World, wal: Wal, coordinator: CoordinatorService, pchannel: str
) -> Recovered:
    """Read what the log holds; the writer must be open already, so that nobody else appends."""
    infos = {info.checkpoint.vchannel: info for info in await coordinator.recovery(pchannel)}
    replay = _Replay(infos)
    after = min((info.checkpoint.position for info in infos.values()), default=BEFORE_FIRST)
    last_position = after
    chunk: list[WalRecord] = []
    chunk_bytes = 0
    async for record in wal.read(pchannel, after):
        last_position = record.position
        chunk.append(record)
        chunk_bytes += len(record.payload)
        if len(chunk) >= _CHUNK_RECORDS or chunk_bytes >= _CHUNK_BYTES:
            await world.executor.run("compute", replay.apply, chunk)
            chunk, chunk_bytes = [], 0
    if chunk:
        await world.executor.run("compute", replay.apply, chunk)
    replay.finish()
    for shard in replay.shards.values():
        world.memory.account(
            "growing",
            sum(g.size_bytes for g in shard.growing.values()) + shard.deletes.size_bytes,
        )
    log.info(
        "log recovered",
        pchannel=pchannel,
        shards=len(replay.shards),
        records=replay.records,
        rows=sum(g.segment.row_count for s in replay.shards.values() for g in s.growing.values()),
    )
    return Recovered(replay.shards, last_position)


class _Replay:
    """Applies records to shards. Its methods run one at a time, in threads."""

    def __init__(self, infos: dict[str, VchannelRecovery]) -> None:
        self.records = 0
        self.shards: dict[str, Shard] = {}
        self._flushed: dict[str, frozenset[int]] = {}
        for vchannel, info in infos.items():
            shard = Shard(
                vchannel,
                info.collection,
                info.indexes,
                checkpoint_position=info.checkpoint.position,
                checkpoint_ts=info.checkpoint.timestamp,
            )
            shard.deletes.mark_flushed(info.checkpoint.timestamp)
            shard.deletes.forgotten_ts = info.checkpoint.timestamp
            self.shards[vchannel] = shard
            self._flushed[vchannel] = info.flushed_segments

    def apply(self, chunk: Sequence[WalRecord]) -> None:
        for record in chunk:
            logged = decode(record.payload)
            shard = self.shards.get(logged.vchannel)
            if shard is None or record.position <= shard.checkpoint_position:
                continue
            self.records += 1
            if isinstance(logged, LoggedCollection):
                if logged.collection.revision > shard.collection.revision:
                    shard.set_collection(logged.collection, logged.indexes)
            else:
                self._write(shard, logged, record.position)

    def _write(self, shard: Shard, logged: LoggedWrite, position: int) -> None:
        flushed = self._flushed[shard.vchannel]
        parts = [
            (part, segment_id)
            for part, segment_id in zip(logged.inserts, logged.segment_ids, strict=True)
            if segment_id not in flushed
        ]
        schema = shard.collection.schema
        segments: list[Growing] = []
        for part, segment_id in parts:
            growing = shard.growing.get(segment_id)
            if growing is None:
                growing = Growing(GrowingSegment(schema, segment_id, part.partition_id))
                shard.growing[segment_id] = growing
                shard.retired.append(growing)
            segments.append(growing)
        request = WriteRequest(
            vchannel=shard.vchannel,
            collection_id=shard.collection.collection_id,
            schema_version=schema.version,
            inserts=tuple(part for part, _ in parts),
            deletes=logged.deletes,
        )
        write = Apply(shard, request, logged.timestamp, position, tuple(segments))
        apply_to_growing([(write, tuple(shard.growing.values()))])
        note_applied(write)
        if logged.deletes:
            buffer_deletes(write)

    def finish(self) -> None:
        """Rows of partitions that are gone go; what is left is sealed."""
        for shard in self.shards.values():
            shard.drop_lost_partitions()
            shard.seal(())
