"""Writes a sealed segment: one file per column, the insert timestamps, and last the manifest.

Without its manifest nobody finds the files, so a crash on the way leaves debris and no segment.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.errors import InternalError
from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentLevel, SegmentState
from elanus.runtime.world import World
from elanus.storage.formats.columns import (
    NPY,
    encode_arrow,
    encode_numbers,
    encode_vectors,
    encoding_of,
    statistics_of,
)
from elanus.storage.formats.files import write_file
from elanus.storage.formats.keys import (
    SegmentPlace,
    column_key,
    manifest_key,
    timestamps_key,
)
from elanus.storage.formats.manifest import (
    ColumnFile,
    DeltaFile,
    SegmentManifest,
    Statistic,
    write_manifest,
)
from elanus.storage.objects.base import Buffer, ObjectStore


async def write_segment(
    world: World,
    objects: ObjectStore,
    rows: Any,
    timestamps: npt.NDArray[np.uint64],
    *,
    place: SegmentPlace,
    schema_version: int,
    deltas: tuple[DeltaFile, ...] = (),
) -> tuple[str, SegmentManifest]:
    """Write ``rows`` durably; returns the manifest's key and the manifest.

    rows: RecordBatch or Table, at least one row, columns named by field, sorted by (pk, ts).
    timestamps: uint64 (rows,), the insert timestamp of each row. ``deltas``: files of deletes
    that belong to the segment from the start. ``place`` must be new.
    """
    if len(timestamps) != rows.num_rows or rows.num_rows == 0:
        raise InternalError(
            f"segment {place.segment_id}: {len(timestamps)} timestamps for {rows.num_rows} rows"
        )
    columns = []
    for number, name in enumerate(rows.schema.names):
        columns.append(await _write_column(world, objects, place, number, name, rows[name]))
    stamps = encode_numbers(np.ascontiguousarray(timestamps, dtype="<u8"))
    manifest = SegmentManifest(
        collection_id=place.collection_id,
        partition_id=place.partition_id,
        segment_id=place.segment_id,
        schema_version=schema_version,
        row_count=rows.num_rows,
        min_ts=int(timestamps.min()),
        max_ts=int(timestamps.max()),
        timestamps=await write_file(world, objects, timestamps_key(place), stamps),
        columns=tuple(columns),
        deltas=deltas,
    )
    key = manifest_key(place)
    world.failpoints.hit("segment.write.before_manifest")
    await write_manifest(objects, key, manifest)
    world.failpoints.hit("segment.write.after_manifest")
    return key, manifest


def flushed_segment(
    vchannel: str, key: str, manifest: SegmentManifest, *, compacted_from: tuple[int, ...] = ()
) -> SegmentInfo:
    """The metadata of a segment that was written, with ``key`` the one of its manifest."""
    return SegmentInfo(
        segment_id=manifest.segment_id,
        collection_id=manifest.collection_id,
        partition_id=manifest.partition_id,
        vchannel=vchannel,
        state=SegmentState.FLUSHED,
        level=SegmentLevel.L1,
        row_count=manifest.row_count,
        min_ts=manifest.min_ts,
        max_ts=manifest.max_ts,
        manifest_key=key,
        size_bytes=manifest.size_bytes,
        compacted_from=compacted_from,
    )


async def _write_column(
    world: World, objects: ObjectStore, place: SegmentPlace, number: int, name: str, column: Any
) -> ColumnFile:
    encoding = encoding_of(column)

    def encode() -> tuple[list[Buffer], tuple[Statistic, Statistic]]:
        if encoding == NPY:
            return encode_vectors(column), (None, None)
        return encode_arrow(column), statistics_of(column)

    parts, (minimum, maximum) = await world.executor.run("compute", encode)
    entry = await write_file(world, objects, column_key(place, number, encoding), parts)
    return ColumnFile(
        key=entry.key,
        size_bytes=entry.size_bytes,
        crc32=entry.crc32,
        field_name=name,
        encoding=encoding,
        null_count=column.null_count,
        minimum=minimum,
        maximum=maximum,
    )
