"""Segments' metadata: flushed data becomes known here, in one transaction per flush.

What a flush commit guarantees: its segments, its deletes and the channel's checkpoint appear
together or not at all; sent twice, it changes nothing the second time, whatever has happened to
its segments since; a dropped collection or partition gets nothing back.
"""

import msgspec

from elanus.coordinator.catalog import MAX_CHANGES, Change
from elanus.coordinator.context import Context
from elanus.coordinator.root.names import require_known, resolve_id
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import CollectionNotFound, FencedWriter, InternalError
from elanus.model.catalog import (
    ALL_PARTITIONS,
    ChannelCheckpoint,
    CollectionInfo,
    SegmentInfo,
    pchannel_of,
)
from elanus.model.types import SegmentState
from elanus.services.messages import FlushCommit, FlushTicket, VchannelRecovery


def flush_change(
    commit: FlushCommit,
    collection: CollectionInfo,
    known: dict[int, SegmentInfo],
    checkpoint: ChannelCheckpoint,
    now_ms: int,
) -> Change:
    """What a flush commit has to change, given what is known: nothing if it came before."""
    partitions = {ALL_PARTITIONS, *(p.partition_id for p in collection.partitions)}
    puts: list[SegmentInfo | ChannelCheckpoint] = []
    for segment in (*commit.segments, *commit.deltas):
        # The checkpoint rules out late copies of commits whose segments have come and gone.
        if segment.segment_id in known or segment.max_ts <= checkpoint.timestamp:
            continue
        state = SegmentState.FLUSHED
        dropped_at_ms = 0
        if segment.partition_id not in partitions:
            state, dropped_at_ms = SegmentState.DROPPED, now_ms
        puts.append(
            msgspec.structs.replace(
                segment, state=state, dropped_at_ms=dropped_at_ms, version=max(segment.version, 1)
            )
        )
    advanced = ChannelCheckpoint(
        vchannel=checkpoint.vchannel,
        position=max(commit.checkpoint.position, checkpoint.position),
        timestamp=max(commit.checkpoint.timestamp, checkpoint.timestamp),
    )
    if advanced != checkpoint:
        puts.append(advanced)
    return Change(put=puts)


class Segments:
    def __init__(self, context: Context, channels: Channels) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels

    async def commit_flush(self, commit: FlushCommit) -> None:
        """Raises CollectionNotFound if the collection was dropped, FencedWriter if the pchannel
        has been given to another owner."""
        vchannel = commit.checkpoint.vchannel
        if len(commit.segments) + len(commit.deltas) >= MAX_CHANGES:
            raise InternalError(f"a flush of {vchannel} has too many segments for a transaction")
        failpoints = self._context.world.failpoints
        collection_id = 0

        def decide() -> Change:
            nonlocal collection_id
            collection = self._catalog.owner(vchannel)
            if collection is None:
                raise CollectionNotFound("", vchannel)
            collection_id = collection.collection_id
            owner = self._catalog.tables.pchannels.get(pchannel_of(vchannel))
            if owner is not None and owner.term > commit.term:
                raise FencedWriter(
                    f"a flush of {vchannel} at term {commit.term} comes too late: its log has "
                    f"been opened at term {owner.term}"
                )
            known = self._catalog.tables.segments.get(collection_id, {})
            checkpoint = self._catalog.checkpoint(vchannel)
            now_ms = self._context.world.clock.now_ms()
            return flush_change(commit, collection, known, checkpoint, now_ms)

        failpoints.hit("commit_flush.before")
        await self._catalog.commit(decide)
        failpoints.hit("commit_flush.after")
        self._context.events.segments_changed(collection_id)

    async def recovery(self, pchannel: str) -> list[VchannelRecovery]:
        """Every shard on a pchannel that must live on, in the order of collection ids."""
        return [
            VchannelRecovery(
                collection=info,
                indexes=self._catalog.indexes(info.collection_id),
                checkpoint=self._catalog.checkpoint(vchannel),
                flushed_segments=frozenset(
                    segment.segment_id
                    for segment in self._catalog.segments(info.collection_id)
                    if segment.vchannel == vchannel
                ),
            )
            for vchannel, info in self._catalog.vchannels_on(pchannel)
        ]

    async def list_segments(self, collection_id: int) -> list[SegmentInfo]:
        require_known(self._catalog, collection_id)
        return [
            segment
            for segment in self._catalog.segments(collection_id)
            if segment.state is SegmentState.FLUSHED
        ]

    async def flush(self, collection_id: int) -> list[FlushTicket]:
        return await self._channels.seal(resolve_id(self._catalog, collection_id))

    async def is_flushed(self, collection_id: int, flush_ts: int) -> bool:
        """Everything that was written at or before ``flush_ts`` is in object storage: that is
        what the checkpoints of the shards say."""
        info = resolve_id(self._catalog, collection_id)
        return all(
            self._catalog.checkpoint(vchannel).timestamp >= flush_ts for vchannel in info.vchannels
        )
