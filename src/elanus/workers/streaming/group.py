"""What queues for a log: writes that are committed in groups, and steps between two groups.

A group's parts are assigned to growing segments before its records are made, since a record names
them; a group that fails gives its room in them back.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from elanus.engine.segment.growing import GrowingSegment
from elanus.errors import ElanusError, PartitionNotFound, SchemaMismatch
from elanus.services.interfaces import TimestampOracle
from elanus.services.messages import WriteRequest
from elanus.storage.objects.base import Buffer
from elanus.workers.streaming.records import EncodedWrite, encode_write
from elanus.workers.streaming.seal_policy import SealLimits, is_full
from elanus.workers.streaming.shard import Growing, Shard

_IDS_AT_ONCE = 64


@dataclass
class PendingWrite:
    request: WriteRequest
    shard: Shard
    encoded: EncodedWrite
    size_bytes: int
    answer: asyncio.Future[int]
    segments: tuple[Growing, ...] = ()


@dataclass
class Step:
    """Something that runs alone, between two groups."""

    run: Callable[[], Awaitable[None]]
    abandon: Callable[[ElanusError], None]


@dataclass
class SegmentIds:
    """Segment ids taken from the coordinator ahead of their use."""

    oracle: TimestampOracle
    free: deque[int] = field(default_factory=deque)

    async def ensure(self, count: int) -> None:
        if len(self.free) < count:
            wanted = count + _IDS_AT_ONCE
            first = await self.oracle.allocate_ids(wanted)
            self.free.extend(range(first, first + wanted))


def shard_of(shards: Mapping[str, Shard], request: WriteRequest) -> Shard:
    """The shard that takes a write now. Raises SchemaMismatch, PartitionNotFound."""
    shard = shards.get(request.vchannel)
    if shard is None:
        raise SchemaMismatch(str(request.collection_id))
    collection = shard.collection
    if (
        collection.collection_id != request.collection_id
        or collection.schema.version != request.schema_version
    ):
        raise SchemaMismatch(collection.name)
    for part in request.inserts:
        if part.partition_id not in shard.partition_ids:
            raise PartitionNotFound(part.partition_id)
    return shard


def assign(group: list[PendingWrite], limits: SealLimits, ids: SegmentIds) -> None:
    """Give each part of each write its growing segment, a new one where that is full."""
    for write in group:
        shard = write.shard
        segments: list[Growing] = []
        for part in write.request.inserts:
            growing = shard.current.get(part.partition_id)
            if growing is not None and is_full(growing.assigned_bytes, limits):
                shard.retire(growing)
                growing = None
            if growing is None:
                schema = shard.collection.schema
                segment_id = ids.free.popleft()
                growing = Growing(GrowingSegment(schema, segment_id, part.partition_id))
                shard.add_growing(growing)
            growing.assigned_bytes += int(part.rows.nbytes)
            segments.append(growing)
        write.segments = tuple(segments)


def unassign(group: list[PendingWrite]) -> None:
    """Take back what a group that failed was given."""
    for write in group:
        for growing, part in zip(write.segments, write.request.inserts, strict=False):
            growing.assigned_bytes -= int(part.rows.nbytes)


def encode_group(group: Sequence[PendingWrite], first_ts: int) -> list[list[Buffer]]:
    """The records of the writes, which have consecutive timestamps from ``first_ts`` on."""
    return [
        encode_write(
            write.request,
            write.encoded,
            first_ts + n,
            [growing.segment_id for growing in write.segments],
        )
        for n, write in enumerate(group)
    ]


def request_bytes(request: WriteRequest) -> int:
    """Bytes of the columns of a write."""
    inserts = sum(int(part.rows.nbytes) for part in request.inserts)
    return inserts + sum(int(part.keys.nbytes) for part in request.deletes)
