"""Deletes as files: Arrow IPC with the columns pk, ts (uint64) and partition_id (int64).

The deletes of a shard that are not assigned to segments yet form an L0 segment: a manifest without
columns whose ``deltas`` are its files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.runtime.world import World
from elanus.storage.formats.columns import decode_batch, encode_batch
from elanus.storage.formats.files import checked_buffer, write_file
from elanus.storage.formats.keys import SegmentPlace, delta_key, delta_manifest_key
from elanus.storage.formats.manifest import DeltaFile, SegmentManifest, write_manifest
from elanus.storage.objects.base import ObjectStore


@dataclass(frozen=True, slots=True)
class DeltaRows:
    """Deletes. keys: int64 or string Arrow array; timestamps: uint64 (rows,); partition_ids:
    int64 (rows,), -1 = every partition."""

    keys: Any
    timestamps: npt.NDArray[np.uint64]
    partition_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.timestamps)


async def write_deltas(
    world: World, objects: ObjectStore, place: SegmentPlace, rows: DeltaRows
) -> DeltaFile:
    """Write one file of at least one delete; it goes into a manifest's ``deltas``."""
    columns = {"pk": rows.keys, "ts": rows.timestamps, "partition_id": rows.partition_ids}
    parts = await world.executor.run("compute", lambda: encode_batch(pa.record_batch(columns)))
    entry = await write_file(world, objects, delta_key(place), parts)
    return DeltaFile(
        key=entry.key,
        size_bytes=entry.size_bytes,
        crc32=entry.crc32,
        row_count=len(rows),
        max_ts=int(rows.timestamps.max()),
    )


async def write_delta_segment(
    world: World, objects: ObjectStore, place: SegmentPlace, rows: DeltaRows
) -> tuple[str, SegmentManifest]:
    """Write an L0 segment; returns its manifest's key and the manifest."""
    file = await write_deltas(world, objects, place, rows)
    manifest = SegmentManifest(
        collection_id=place.collection_id,
        partition_id=place.partition_id,
        segment_id=place.segment_id,
        min_ts=int(rows.timestamps.min()),
        max_ts=file.max_ts,
        deltas=(file,),
    )
    key = delta_manifest_key(place)
    world.failpoints.hit("deltas.write.before_manifest")
    await write_manifest(objects, key, manifest)
    return key, manifest


async def read_deltas(
    world: World, objects: ObjectStore, files: Sequence[DeltaFile]
) -> list[DeltaRows]:
    """The deletes of each file. Raises CorruptData with the file's name."""
    return [await _read_file(world, objects, file) for file in files]


async def _read_file(world: World, objects: ObjectStore, file: DeltaFile) -> DeltaRows:
    batch = decode_batch(await checked_buffer(world, objects, file), file.key)
    return DeltaRows(
        batch.column("pk"),
        batch.column("ts").to_numpy(zero_copy_only=True),
        batch.column("partition_id").to_numpy(zero_copy_only=True),
    )
