"""The files of a flush: sealed growing segments sorted by (pk, ts), and deletes as an L0 segment.

Every attempt gets a fresh id from the coordinator, so that two attempts never share a key.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from elanus.model.catalog import ALL_PARTITIONS, SegmentInfo
from elanus.model.types import SegmentLevel, SegmentState
from elanus.runtime.world import World
from elanus.services.interfaces import TimestampOracle
from elanus.storage.formats.deltas import DeltaRows, write_delta_segment
from elanus.storage.formats.keys import SegmentPlace
from elanus.storage.formats.segment_writer import flushed_segment, write_segment
from elanus.storage.objects.base import ObjectStore
from elanus.workers.streaming.delete_buffer import BufferedDelete
from elanus.workers.streaming.shard import Growing, Shard


async def write_growing(
    world: World, oracle: TimestampOracle, objects: ObjectStore, shard: Shard, growing: Growing
) -> SegmentInfo:
    """Write a sealed growing segment; its metadata, as FLUSHED."""
    collection = shard.collection
    flushed = await world.executor.run("compute", growing.segment.rows_for_flush)
    place = SegmentPlace(
        collection_id=collection.collection_id,
        partition_id=growing.partition_id,
        segment_id=growing.segment_id,
        attempt_id=await oracle.allocate_ids(1),
    )
    key, manifest = await write_segment(
        world,
        objects,
        flushed.rows,
        flushed.timestamps,
        place=place,
        schema_version=growing.segment.schema.version,
    )
    return flushed_segment(shard.vchannel, key, manifest)


async def write_deletes(
    world: World,
    oracle: TimestampOracle,
    objects: ObjectStore,
    shard: Shard,
    deletes: Sequence[BufferedDelete],
) -> tuple[SegmentInfo, ...]:
    """Write the deletes as one L0 segment of the shard; nothing for none."""
    if not deletes:
        return ()
    rows = await world.executor.run("compute", delta_rows, deletes)
    if not len(rows):
        return ()
    first_id = await oracle.allocate_ids(2)
    place = SegmentPlace(
        collection_id=shard.collection.collection_id,
        partition_id=ALL_PARTITIONS,
        segment_id=first_id,
        attempt_id=first_id + 1,
    )
    key, manifest = await write_delta_segment(world, objects, place, rows)
    info = SegmentInfo(
        segment_id=place.segment_id,
        collection_id=place.collection_id,
        partition_id=ALL_PARTITIONS,
        vchannel=shard.vchannel,
        state=SegmentState.FLUSHED,
        level=SegmentLevel.L0,
        row_count=len(rows),
        min_ts=manifest.min_ts,
        max_ts=manifest.max_ts,
        manifest_key=key,
        size_bytes=manifest.size_bytes,
    )
    return (info,)


def delta_rows(deletes: Sequence[BufferedDelete]) -> DeltaRows:
    """The deletes in timestamp order, one row per key. Runs in a thread."""
    parts = [
        (entry.timestamp, part.partition_id, part.keys)
        for entry in deletes
        for part in entry.deletes
    ]
    counts = [len(keys) for _, _, keys in parts]
    return DeltaRows(
        keys=pa.concat_arrays([keys for _, _, keys in parts]),
        timestamps=np.repeat(np.array([ts for ts, _, _ in parts], dtype=np.uint64), counts),
        partition_ids=np.repeat(np.array([p for _, p, _ in parts], dtype=np.int64), counts),
    )
