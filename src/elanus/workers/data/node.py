"""The data node: heavy tasks that the coordinator hands out. It keeps nothing between tasks.

Every task writes under a fresh attempt id and changes no object that exists, so it may be run
twice, in part, or on two nodes at once: only what the coordinator commits counts, the rest is
debris. A file is durable before a record names it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc
import structlog

from elanus.config.settings import Settings
from elanus.errors import InternalError
from elanus.model.catalog import SegmentIndex, SegmentInfo
from elanus.model.schema import CollectionSchema
from elanus.model.types import IndexState
from elanus.runtime.world import World
from elanus.services.interfaces import TimestampOracle
from elanus.services.messages import CompactionTask, DeltaCompactionTask, IndexTask, TaskResult
from elanus.storage.formats.columns import NPY, encode_arrow, encode_numbers
from elanus.storage.formats.deltas import DeltaRows, read_deltas, write_deltas
from elanus.storage.formats.files import checked_path, checksum_of_file
from elanus.storage.formats.keys import SegmentPlace, index_key, manifest_key
from elanus.storage.formats.manifest import (
    ColumnFile,
    DeltaFile,
    SegmentManifest,
    read_manifest,
    write_manifest,
)
from elanus.storage.formats.segment_reader import SegmentFiles, open_segment
from elanus.storage.formats.segment_writer import flushed_segment, write_segment
from elanus.storage.objects.base import ObjectStore
from elanus.workers.data.build_request import BuildRequest
from elanus.workers.data.builder import IndexBuilder
from elanus.workers.data.importing.importer import Importer
from elanus.workers.data.imports import Imports
from elanus.workers.data.rows import MergedRows, deletes_of, last_deletes, living, merge

log = structlog.get_logger(__name__)


class DataNode:
    """Implements ``services.interfaces.DataNodeService``. ``scratch`` is a local directory for
    index files on their way; on the object store's file system moving them costs nothing."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        objects: ObjectStore,
        oracle: TimestampOracle,
        builder: IndexBuilder,
        importer: Importer,
        scratch: Path,
    ) -> None:
        self._world = world
        self._objects = objects
        self._oracle = oracle
        self._builder = builder
        self._scratch = scratch
        self._threads = settings.data_node.index_build_threads
        imports = Imports(
            world, settings, objects=objects, oracle=oracle, importer=importer, scratch=scratch
        )
        self.import_files = imports.import_files
        self.stamp_segments = imports.stamp_segments
        self.import_progress = imports.import_progress

    async def close(self) -> None:
        await self._builder.close()

    # --- compaction -----------------------------------------------------------------------------

    async def compact(self, task: CompactionTask) -> TaskResult:
        """One segment of all living rows of the inputs; nothing if none lives."""
        first = task.inputs[0]
        if any(
            (s.partition_id, s.vchannel) != (first.partition_id, first.vchannel)
            for s in task.inputs
        ):
            raise InternalError(f"task {task.task_id} mixes partitions or shards")
        schema = task.collection.schema
        shared = await self._read_deltas(task.deltas)
        opened, kept, later = [], [], []
        for segment in task.inputs:
            files = await open_segment(self._world, self._objects, segment.manifest_key)
            own = await read_deltas(self._world, self._objects, files.manifest.deltas)
            deletes = deletes_of(segment.partition_id, [*own, *shared])
            offsets = await self._world.executor.run(
                "compute",
                living,
                files,
                schema.primary.name,
                deletes,
                task.read_ts,
                task.expire_before_ts,
            )
            opened.append(files)
            kept.append(offsets)
            # What is assigned to the segment but lies after the read must not get lost.
            later += [file for file in files.manifest.deltas if file.max_ts > task.read_ts]
        if not any(len(offsets) for offsets in kept):
            return TaskResult(task.task_id, ())
        merged = await self._world.executor.run("compute", merge, schema, opened, kept)
        output = await self._write_output(task, first, schema, merged, tuple(later))
        return TaskResult(task.task_id, (output,))

    async def _write_output(
        self,
        task: CompactionTask,
        first: SegmentInfo,
        schema: CollectionSchema,
        merged: MergedRows,
        deltas: tuple[DeltaFile, ...],
    ) -> SegmentInfo:
        place = await self._place(first, task.output_segment_id)
        copied = await self._copy_deltas(place, first.partition_id, deltas)
        self._world.failpoints.hit("compact.before_write")
        key, manifest = await write_segment(
            self._world,
            self._objects,
            merged.rows,
            merged.timestamps,
            place=place,
            schema_version=schema.version,
            deltas=copied,
        )
        self._world.failpoints.hit("compact.after_write")
        inputs = tuple(segment.segment_id for segment in task.inputs)
        return flushed_segment(first.vchannel, key, manifest, compacted_from=inputs)

    async def _copy_deltas(
        self, place: SegmentPlace, partition_id: int, files: Sequence[DeltaFile]
    ) -> tuple[DeltaFile, ...]:
        """The deletes of ``files`` as a file of the segment at ``place``: the old ones go with
        their segments."""
        rows = deletes_of(partition_id, await read_deltas(self._world, self._objects, files))
        if rows is None:
            return ()
        return (await self._write_deltas(place, partition_id, rows),)

    async def _write_deltas(self, place: SegmentPlace, partition_id: int, rows: Any) -> DeltaFile:
        partitions = np.full(rows.num_rows, partition_id, dtype=np.int64)
        keys = rows["pk"].combine_chunks()
        delta_rows = DeltaRows(keys, rows["ts"].to_numpy(), partitions)
        return await write_deltas(self._world, self._objects, place, delta_rows)

    async def compact_deltas(self, task: DeltaCompactionTask) -> TaskResult:
        """New manifests for the segments that have rows of the deleted keys."""
        deltas = await self._read_deltas(task.deltas)
        changed = [await self._assign(task, segment, deltas) for segment in task.segments]
        return TaskResult(task.task_id, tuple(s for s in changed if s is not None))

    async def _assign(
        self, task: DeltaCompactionTask, segment: SegmentInfo, deltas: Sequence[DeltaRows]
    ) -> SegmentInfo | None:
        """Give a segment the deletes that hit rows of it; None if there are none."""
        rows = deletes_of(segment.partition_id, deltas)
        if rows is None:
            return None
        key_field = task.collection.schema.primary.name
        files = await open_segment(self._world, self._objects, segment.manifest_key, {key_field})
        own = await read_deltas(self._world, self._objects, files.manifest.deltas)
        hitting, deleted_rows = await self._world.executor.run(
            "compute", _hitting, files, key_field, rows, deletes_of(segment.partition_id, own)
        )
        if hitting is None:
            return None
        place = await self._place(segment, segment.segment_id)
        self._world.failpoints.hit("compact_deltas.before_write")
        file = await self._write_deltas(place, segment.partition_id, hitting)
        manifest = msgspec.structs.replace(files.manifest, deltas=(*files.manifest.deltas, file))
        key = manifest_key(place)
        await write_manifest(self._objects, key, manifest)
        self._world.failpoints.hit("compact_deltas.after_write")
        return msgspec.structs.replace(
            segment, manifest_key=key, deleted_rows=deleted_rows, size_bytes=manifest.size_bytes
        )

    async def _read_deltas(self, segments: Sequence[SegmentInfo]) -> list[DeltaRows]:
        found: list[DeltaRows] = []
        for segment in segments:
            manifest = await read_manifest(self._objects, segment.manifest_key)
            found += await read_deltas(self._world, self._objects, manifest.deltas)
        return found

    async def _place(self, like: SegmentInfo, segment_id: int) -> SegmentPlace:
        return SegmentPlace(
            collection_id=like.collection_id,
            partition_id=like.partition_id,
            segment_id=segment_id,
            attempt_id=await self._oracle.allocate_ids(),
        )

    # --- index ----------------------------------------------------------------------------------

    async def build_index(self, task: IndexTask) -> TaskResult:
        """The segment's record with its part of the index, which has no file if the segment was
        written before its field was added. Cancelling ends the build."""
        manifest = await read_manifest(self._objects, task.segment.manifest_key)
        column = manifest.column(task.index.field_name)
        if column is None:
            done = SegmentIndex(index_id=task.index.index_id, state=IndexState.FINISHED)
            return TaskResult(task.task_id, (_with_part(task.segment, done),))
        place = await self._place(task.segment, task.segment.segment_id)
        out = self._scratch / f"index-{place.segment_id}-{place.attempt_id}"
        copy = self._scratch / f"column-{place.segment_id}-{place.attempt_id}"
        await self._world.executor.run(
            "io", lambda: self._scratch.mkdir(parents=True, exist_ok=True)
        )

        def note(reason: str) -> None:
            log.warning(
                "index is not what was asked for",
                segment_id=place.segment_id,
                field_name=task.index.field_name,
                index_type=task.index.index_type,
                reason=reason,
            )

        try:
            request = BuildRequest(
                index_type=task.index.index_type,
                metric=task.index.metric_type,
                params=task.index.params,
                column_path=str(await self._column(manifest, column, copy)),
                out_path=str(out),
                threads=self._threads,
            )
            self._world.failpoints.hit("build_index.before_build")
            rows = await self._builder.build(request, note)
            if rows != task.segment.row_count:
                raise InternalError(
                    f"the index of segment {place.segment_id} has {rows} rows, "
                    f"expected {task.segment.row_count}"
                )
            size_bytes, checksum = await self._world.executor.run("io", checksum_of_file, out)
            key = index_key(place, task.index.index_id)
            self._world.failpoints.hit("build_index.before_put")
            await self._objects.put_file(key, out)
            self._world.failpoints.hit("build_index.after_put")
        finally:
            await self._world.executor.run("io", _remove, (out, copy))
        part = SegmentIndex(
            index_id=task.index.index_id,
            state=IndexState.FINISHED,
            key=key,
            checksum=checksum,
            size_bytes=size_bytes,
        )
        return TaskResult(task.task_id, (_with_part(task.segment, part),))

    async def _column(self, manifest: SegmentManifest, column: ColumnFile, copy: Path) -> Path:
        """A verified file of the field's column: ``copy``, or the object itself where it is local.

        A store that keeps copies of remote objects may remove one at any time, and the build opens
        the file later, in another process: a second name keeps it.
        """
        path = await checked_path(self._world, self._objects, column)
        if path is not None and await self._world.executor.run("io", _link, path, copy):
            return copy
        files = SegmentFiles(self._world, self._objects, manifest)
        await files.load({column.field_name})
        if column.encoding == NPY:
            parts = encode_numbers(files.vectors(column.field_name))
        else:
            parts = encode_arrow(files.column(column.field_name))

        def write() -> None:
            with copy.open("wb") as file:
                for part in parts:
                    file.write(part)

        await self._world.executor.run("io", write)
        return copy


def _hitting(files: SegmentFiles, key_field: str, rows: Any, own: Any) -> tuple[Any, int]:
    """(the deletes among ``rows`` whose key and time hit a row of the segment, or None; the number
    of rows that are deleted with them and the segment's own). Runs in a thread."""
    keys = files.column(key_field)
    last = last_deletes(keys, rows)
    hit = last > files.timestamps
    if not hit.any():
        return None, 0
    hit_keys = keys.filter(hit).unique()
    mine = rows.filter(pc.is_in(rows["pk"], value_set=hit_keys))
    deleted = hit | (last_deletes(keys, own) > files.timestamps)
    return mine, int(deleted.sum())


def _with_part(segment: SegmentInfo, part: SegmentIndex) -> SegmentInfo:
    others = tuple(p for p in segment.indexes if p.index_id != part.index_id)
    return msgspec.structs.replace(segment, indexes=(*others, part))


def _link(path: Path, name: Path) -> bool:
    """Give the file a second name. False if it is gone, or its device is another or has no
    links: then its content has to be had in another way."""
    try:
        os.link(path, name)
    except OSError:
        return False
    return True


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
