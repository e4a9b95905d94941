"""Brings sealed segments into a query node: mapped columns, deletes, index files.

Order: manifest and columns (each file verified by its checksum, then mapped) → deletes of the
manifest and of the L0 segments → indexes → token indexes that lack a file. Nothing serves before
its deletes are in. A newer version of a loaded segment has the same rows in the same order, so its
new deletes and indexes are added to the copy that serves, and the deletes that this has had from
the delegator stay.

A damaged index file is reported by name and not used: the segment answers by scanning, and the
coordinator is told, which has the index built anew. Damaged columns or deletes are an error.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from elanus.engine.index.base import VectorIndex
from elanus.engine.index.files import open_index
from elanus.engine.index.scalar.files import open_scalar_index
from elanus.engine.segment.cache import BitmapCache
from elanus.engine.segment.footprint import resident_bytes_per_row
from elanus.engine.segment.sealed import SealedSegment
from elanus.engine.text.index import open_text_index
from elanus.errors import CorruptData
from elanus.model.catalog import (
    ALL_PARTITIONS,
    TEXT_INDEX,
    IndexInfo,
    SegmentIndex,
    SegmentInfo,
)
from elanus.model.types import IndexState, MetricType
from elanus.runtime.world import World
from elanus.services.messages import LoadSegment
from elanus.storage.formats.deltas import DeltaRows
from elanus.storage.formats.files import checked_path
from elanus.storage.formats.manifest import DeltaFile, FileEntry, SegmentManifest, read_manifest
from elanus.storage.formats.segment_reader import SegmentFiles
from elanus.storage.objects.base import ObjectStore
from elanus.workers.query.delta_cache import DeltaCache

log = structlog.get_logger(__name__)


class MappedColumns:
    """The engine's view of a segment's files."""

    def __init__(self, files: SegmentFiles) -> None:
        self._files = files
        self._names = frozenset(files.field_names)
        self._bounds = {
            column.field_name: (column.minimum, column.maximum)
            for column in files.manifest.columns
            if column.minimum is not None and column.maximum is not None
        }

    @property
    def row_count(self) -> int:
        return self._files.manifest.row_count

    @property
    def timestamps(self) -> npt.NDArray[np.uint64]:
        return self._files.timestamps

    def has_column(self, name: str) -> bool:
        return name in self._names

    def column(self, name: str) -> pa.Array:
        return self._files.column(name)

    def bounds(self, name: str) -> tuple[Any, Any] | None:
        return self._bounds.get(name)

    def vectors(self, name: str) -> Any:
        return self._files.vectors(name)


@dataclass
class Loaded:
    """A segment of this node. ``change_ts``: no insert or delete that it knows is later.

    ``told_ts``: the last delete that the delegator told it. ``mark``: see ``mark_segments`` of the
    interface; 0 is none.

    ``applied``: keys of the delta files that are in. ``attached``: by field of vectors, the key of
    its index file; ``scalars``: by index id, that of any other index. ``damaged``: keys of index
    files that can't be used. ``changing``: held by whoever marks deletes.
    """

    info: SegmentInfo
    segment: SealedSegment
    reserved_bytes: int
    min_ts: int
    change_ts: int
    told_ts: int = 0
    mark: int = 0
    applied: set[str] = field(default_factory=set)
    attached: dict[str, str] = field(default_factory=dict)
    scalars: dict[int, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note_change(self, timestamp: int) -> None:
        self.change_ts = max(self.change_ts, timestamp)


class Loader:
    """See the module."""

    def __init__(self, world: World, objects: ObjectStore, filter_cache: BitmapCache) -> None:
        self._world = world
        self._objects = objects
        self._filter_cache = filter_cache
        self._deltas = DeltaCache(world, objects)

    async def load(self, request: LoadSegment) -> Loaded:
        """A fresh copy. Raises CorruptData, Unavailable or MemoryLimitExceeded."""
        info = request.segment
        manifest = await read_manifest(self._objects, info.manifest_key)
        reserved_bytes = manifest.row_count * resident_bytes_per_row(request.collection.schema)
        if not self._objects.maps_files:
            reserved_bytes += manifest.size_bytes
        self._world.memory.reserve("sealed", reserved_bytes)
        try:
            files = SegmentFiles(self._world, self._objects, manifest)
            await files.load()
            segment = await self._world.executor.run(
                "compute",
                SealedSegment,
                request.collection.schema,
                info.segment_id,
                info.partition_id,
                MappedColumns(files),
                self._filter_cache,
            )
            loaded = Loaded(info, segment, reserved_bytes, manifest.min_ts, manifest.max_ts)
            await self._add_deletes(loaded, request, manifest)
            await self._attach_indexes(loaded, request)
            if any(field.enable_match for field in segment.schema.fields):
                await self._world.executor.run("compute", segment.build_texts)
        except BaseException:
            self._world.memory.release("sealed", reserved_bytes)
            raise
        return loaded

    async def refresh(self, loaded: Loaded, request: LoadSegment) -> None:
        """Make the copy that serves the version of ``request``."""
        if request.collection.schema.version > loaded.segment.schema.version:
            loaded.segment.schema = request.collection.schema
        if request.segment.manifest_key != loaded.info.manifest_key:
            manifest = await read_manifest(self._objects, request.segment.manifest_key)
            if manifest.row_count != loaded.segment.row_count:
                raise CorruptData(
                    f"manifest {request.segment.manifest_key} has {manifest.row_count} rows, "
                    f"segment {loaded.info.segment_id} has {loaded.segment.row_count}"
                )
            await self._add_deletes(loaded, request, manifest)
        else:
            await self._add_deletes(loaded, request, None)
        await self._attach_indexes(loaded, request)
        loaded.info = request.segment

    # --- deletes ------------------------------------------------------------------------------

    async def _add_deletes(
        self, loaded: Loaded, request: LoadSegment, manifest: SegmentManifest | None
    ) -> None:
        """Those of the manifest, and of the L0 segments that name this partition or all."""
        files = [] if manifest is None else list(manifest.deltas)
        for delta in request.deltas:
            files += await self._deltas.files_of(delta.manifest_key)
        fresh: dict[str, DeltaFile] = {
            file.key: file for file in files if file.key not in loaded.applied
        }
        if not fresh:
            return
        rows = await self._deltas.rows_of(list(fresh.values()))
        async with loaded.changing:
            await self._world.executor.run("compute", apply_delta_rows, loaded.segment, rows)
        loaded.note_change(max(file.max_ts for file in fresh.values()))
        loaded.applied.update(fresh)

    # --- indexes ------------------------------------------------------------------------------

    async def _attach_indexes(self, loaded: Loaded, request: LoadSegment) -> None:
        by_id = {index.index_id: index for index in request.indexes}
        loaded.damaged = ()
        for index_id in loaded.scalars.keys() - by_id.keys():
            loaded.segment.detach_scalar(index_id)
            del loaded.scalars[index_id]
        for part in request.segment.indexes:
            index = by_id.get(part.index_id)
            if index is None or part.state is not IndexState.FINISHED or not part.key:
                continue
            try:
                if index.metric_type is None:
                    await self._attach_scalar(loaded, index, part)
                else:
                    await self._attach_vectors(loaded, index, index.metric_type, part)
            except CorruptData as error:
                log.error(
                    "index file not usable, scanning instead",
                    segment=loaded.info.segment_id,
                    field=index.field_name,
                    error=str(error),
                )
                loaded.damaged += (part.key,)

    async def _attach_scalar(self, loaded: Loaded, index: IndexInfo, part: SegmentIndex) -> None:
        if loaded.scalars.get(index.index_id) == part.key:
            return
        path = await self._local_file(part)
        if path is None:
            return
        segment, run = loaded.segment, self._world.executor.run
        if index.index_type == TEXT_INDEX:
            texts = await run("io", open_text_index, str(path), segment.row_count)
            segment.attach_texts(index.field_name, texts)
        else:
            opened = await run("io", open_scalar_index, str(path), segment.row_count)
            segment.attach_scalar(index.index_id, index.field_name, opened)
        loaded.scalars[index.index_id] = part.key

    async def _attach_vectors(
        self, loaded: Loaded, index: IndexInfo, metric: MetricType, part: SegmentIndex
    ) -> None:
        if loaded.attached.get(index.field_name) == part.key:
            return
        opened = await self._open_index(loaded.segment, index, metric, part)
        if opened is not None:
            loaded.segment.attach_index(index.field_name, opened)
            loaded.attached[index.field_name] = part.key

    async def _local_file(self, part: SegmentIndex) -> Path | None:
        """The verified index file. Raises CorruptData."""
        entry = FileEntry(key=part.key, size_bytes=part.size_bytes, crc32=part.checksum)
        path: Path | None = await checked_path(self._world, self._objects, entry)
        if path is None:
            log.warning("index file is not local, scanning instead", key=part.key)
        return path

    async def _open_index(
        self, segment: SealedSegment, index: IndexInfo, metric: MetricType, part: SegmentIndex
    ) -> VectorIndex | None:
        path = await self._local_file(part)
        if path is None:
            return None

        def mapped() -> VectorIndex:
            name = index.field_name
            count, dim = segment.vector_count(name), segment.schema.by_name[name].dim
            return open_index(str(path), index.index_type, metric, count, dim, index.params)

        return await self._world.executor.run("io", mapped)

    async def build_interim(self, loaded: Loaded, indexes: Sequence[IndexInfo]) -> None:
        """Interim indexes for the vector fields that have no built one."""
        for index in indexes:
            if index.metric_type is None or not index.has_file:
                continue
            indexed = loaded.segment.schema.by_name.get(index.field_name)
            if indexed is None or not indexed.data_type.is_vector:
                continue
            if index.field_name not in loaded.attached:
                await self._world.executor.run(
                    "compute", loaded.segment.build_interim, index.field_name, index.metric_type
                )

    def release(self, loaded: Loaded) -> None:
        """Reads that hold the segment may go on; its files are unmapped after the last one."""
        self._world.memory.release("sealed", loaded.reserved_bytes)
        loaded.segment.release()


def apply_delta_rows(segment: SealedSegment, deltas: Sequence[DeltaRows]) -> None:
    """The deletes that concern the segment's partition. Runs in a thread."""
    for rows in deltas:
        mine = np.isin(rows.partition_ids, (ALL_PARTITIONS, segment.partition_id))
        if mine.all():
            segment.delete_at(rows.keys, rows.timestamps)
        elif mine.any():
            segment.delete_at(rows.keys.filter(pa.array(mine)), rows.timestamps[mine])
