"""Brings sealed segments into a query node: mapped columns, deletes, index files.

Order: manifest and columns (each file verified by its checksum, then mapped) → deletes of the
manifest and of the L0 segments → indexes → token indexes that lack a file. Nothing serves before
its deletes are in. Files of a remote store that are not to be warmed up come when a read needs
them (:mod:`elanus.workers.query.tier`). A newer version of a loaded segment has the same rows in
the same order, so its new deletes and indexes are added to the copy that serves, and the deletes
that this has had from the delegator stay.

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

from elanus.config.tiered import WarmupSettings
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
from elanus.model.schema import CollectionSchema
from elanus.model.types import DataType, IndexState, MetricType
from elanus.runtime.world import World
from elanus.services.messages import LoadSegment
from elanus.storage.formats.deltas import DeltaRows
from elanus.storage.formats.files import checked_path
from elanus.storage.formats.manifest import DeltaFile, FileEntry, SegmentManifest, read_manifest
from elanus.storage.formats.segment_reader import SegmentFiles
from elanus.storage.objects.base import ObjectStore
from elanus.workers.query.delta_cache import DeltaCache
from elanus.workers.query.segment_files import LoadedFiles, Opened
from elanus.workers.query.tier import Tier

log = structlog.get_logger(__name__)

SYNC = "sync"


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
    its index file; ``scalars``: by index id, that of any other index; ``texts``: by key of a token
    index, its field. ``damaged``: keys of index files that can't be used. ``changing``: held by
    whoever marks deletes.
    """

    info: SegmentInfo
    segment: SealedSegment
    files: LoadedFiles
    reserved_bytes: int
    min_ts: int
    change_ts: int
    told_ts: int = 0
    mark: int = 0
    applied: set[str] = field(default_factory=set)
    attached: dict[str, str] = field(default_factory=dict)
    scalars: dict[int, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    def note_change(self, timestamp: int) -> None:
        self.change_ts = max(self.change_ts, timestamp)

    def index_key(self, index: IndexInfo) -> str | None:
        """The key of the file that is used as this index."""
        if index.metric_type is None:
            return self.scalars.get(index.index_id)
        return self.attached.get(index.field_name)

    def note_index(self, index: IndexInfo, key: str) -> None:
        if index.metric_type is not None:
            self.attached[index.field_name] = key
            return
        self.scalars[index.index_id] = key
        if index.index_type == TEXT_INDEX:
            self.texts[key] = index.field_name

    def forget_index(self, key: str) -> None:
        """The segment does without this file from now on."""
        self.files.remove_index(key)
        self.attached = {name: known for name, known in self.attached.items() if known != key}
        self.scalars = {index: known for index, known in self.scalars.items() if known != key}
        self.texts.pop(key, None)


class Loader:
    """See the module."""

    def __init__(
        self,
        world: World,
        objects: ObjectStore,
        filter_cache: BitmapCache,
        tier: Tier,
        warmup: WarmupSettings,
    ) -> None:
        self._world = world
        self._objects = objects
        self._filter_cache = filter_cache
        self._deltas = DeltaCache(world, objects)
        self._tier = tier
        self._warmup = warmup

    async def load(self, request: LoadSegment) -> Loaded:
        """A fresh copy. Raises CorruptData, Unavailable or MemoryLimitExceeded."""
        info, schema = request.segment, request.collection.schema
        manifest = await read_manifest(self._objects, info.manifest_key)
        reserved_bytes = manifest.row_count * resident_bytes_per_row(schema)
        if not self._objects.maps_files:
            reserved_bytes += manifest.size_bytes
        self._world.memory.reserve("sealed", reserved_bytes)
        columns = SegmentFiles(self._world, self._objects, manifest)
        files = LoadedFiles(self._tier, columns, schema.primary.name)
        try:
            await files.open_resident()
            await self._warm_columns(files, schema)
            segment = files.segment = await self._world.executor.run(
                "compute",
                SealedSegment,
                schema,
                info.segment_id,
                info.partition_id,
                MappedColumns(columns),
                self._filter_cache,
            )
            loaded = Loaded(info, segment, files, reserved_bytes, manifest.min_ts, manifest.max_ts)
            await self._add_deletes(loaded, request, manifest)
            await self._attach_indexes(loaded, request)
            await self._build_texts(loaded)
        except BaseException:
            files.release()
            self._world.memory.release("sealed", reserved_bytes)
            raise
        return loaded

    async def _warm_columns(self, files: LoadedFiles, schema: CollectionSchema) -> None:
        for name in files.column_names():
            field, file = schema.by_name.get(name), files.column(name)
            is_vector = field is not None and field.data_type.is_vector
            how = self._warmup.vector_field if is_vector else self._warmup.scalar_field
            if file is not None and self._is_warm(how):
                async with self._tier.pinned([file]):
                    pass

    def _is_warm(self, how: str) -> bool:
        """Local files cost nothing to open, so they are there from the start."""
        return how == SYNC or not self._tier.is_remote

    async def _build_texts(self, loaded: Loaded) -> None:
        segment, files = loaded.segment, loaded.files
        names = [
            field.name
            for field in segment.schema.fields
            if field.enable_match
            and field.name not in loaded.texts.values()
            and files.columns.has_column(field.name)
        ]
        if names:
            async with self._tier.pinned(files.needed((frozenset(names), ()))):
                await self._world.executor.run("compute", segment.build_texts, names)

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
        known_damaged, loaded.damaged = loaded.damaged, ()
        for index_id in loaded.scalars.keys() - by_id.keys():
            loaded.forget_index(loaded.scalars[index_id])
        for part in request.segment.indexes:
            index = by_id.get(part.index_id)
            if index is None or part.state is not IndexState.FINISHED or not part.key:
                continue
            is_vector = index.metric_type is not None
            how = self._warmup.vector_index if is_vector else self._warmup.scalar_index
            if self._is_warm(how):
                await self._attach(loaded, index, part, is_warm=True)
            elif part.key in known_damaged:
                loaded.damaged += (part.key,)  # a read has found out
            else:
                await self._attach(loaded, index, part, is_warm=False)

    async def _attach(
        self, loaded: Loaded, index: IndexInfo, part: SegmentIndex, *, is_warm: bool
    ) -> None:
        former = loaded.index_key(index)
        if former == part.key:
            return

        async def open_index(opened: Opened) -> None:
            await self._open_index(loaded, index, part, opened)

        files, name = loaded.files, index.field_name
        file = files.add_index(part.key, name, part.size_bytes, open_index)
        if is_warm:
            needed = [file]
            column = files.column(name)
            if column is not None and self._is_list(loaded, name):
                needed = [column, file]  # says how many vectors there are
            async with self._tier.pinned(needed):
                pass
            if not files.has_index(part.key):
                return
        if former is not None:
            files.remove_index(former)
        loaded.note_index(index, part.key)

    @staticmethod
    def _is_list(loaded: Loaded, field_name: str) -> bool:
        field = loaded.segment.schema.by_name[field_name]
        return field.data_type is DataType.ARRAY_OF_VECTOR

    async def _open_index(
        self, loaded: Loaded, index: IndexInfo, part: SegmentIndex, opened: Opened
    ) -> None:
        """Without a usable file the segment does without the index."""
        try:
            path = await self._local_file(part)
            if path is None:
                log.warning("index file is not local, scanning instead", key=part.key)
                loaded.forget_index(part.key)
            elif index.metric_type is None:
                await self._open_scalar(loaded.segment, index, path, opened)
            else:
                await self._open_vectors(loaded.segment, index, index.metric_type, path, opened)
        except CorruptData as error:
            log.error(
                "index file not usable, scanning instead",
                segment=loaded.info.segment_id,
                field=index.field_name,
                error=str(error),
            )
            loaded.forget_index(part.key)
            loaded.damaged += (part.key,)

    async def _local_file(self, part: SegmentIndex) -> Path | None:
        """The verified index file. Raises CorruptData."""
        entry = FileEntry(key=part.key, size_bytes=part.size_bytes, crc32=part.checksum)
        path: Path | None = await checked_path(self._world, self._objects, entry)
        return path

    async def _open_scalar(
        self, segment: SealedSegment, index: IndexInfo, path: Path, opened: Opened
    ) -> None:
        run, name, index_id = self._world.executor.run, index.field_name, index.index_id
        if index.index_type == TEXT_INDEX:
            texts = await run("io", open_text_index, str(path), segment.row_count)
            segment.attach_texts(name, texts)
            opened.keep(texts, lambda held: segment.detach_texts(name, held))
        else:
            found = await run("io", open_scalar_index, str(path), segment.row_count)
            segment.attach_scalar(index_id, name, found)
            opened.keep(found, lambda held: segment.detach_scalar(index_id, held))

    async def _open_vectors(
        self,
        segment: SealedSegment,
        index: IndexInfo,
        metric: MetricType,
        path: Path,
        opened: Opened,
    ) -> None:
        name = index.field_name

        def mapped() -> VectorIndex:
            count, dim = segment.vector_count(name), segment.schema.by_name[name].dim
            return open_index(str(path), index.index_type, metric, count, dim, index.params)

        found = await self._world.executor.run("io", mapped)
        segment.attach_index(name, found)
        opened.keep(found, lambda held: segment.detach_index(name, held))

    async def build_interim(self, loaded: Loaded, indexes: Sequence[IndexInfo]) -> None:
        """Interim indexes for the vector fields that have no built one, of the columns that are
        here."""
        segment = loaded.segment
        for index in indexes:
            if index.metric_type is None or not index.has_file:
                continue
            indexed = segment.schema.by_name.get(index.field_name)
            if indexed is None or not indexed.data_type.is_vector:
                continue
            files = loaded.files.needed((frozenset((index.field_name,)), ()))
            if index.field_name in loaded.attached or not self._tier.pin_open(files):
                continue
            try:
                await self._world.executor.run(
                    "compute", segment.build_interim, index.field_name, index.metric_type
                )
            finally:
                self._tier.unpin(files)

    def release(self, loaded: Loaded) -> None:
        """Reads that hold the segment may go on; its files are unmapped after the last one."""
        self._world.memory.release("sealed", loaded.reserved_bytes)
        loaded.files.release()
        loaded.segment.release()


def apply_delta_rows(segment: SealedSegment, deltas: Sequence[DeltaRows]) -> None:
    """The deletes that concern the segment's partition. Runs in a thread."""
    for rows in deltas:
        mine = np.isin(rows.partition_ids, (ALL_PARTITIONS, segment.partition_id))
        if mine.all():
            segment.delete_at(rows.keys, rows.timestamps)
        elif mine.any():
            segment.delete_at(rows.keys.filter(pa.array(mine)), rows.timestamps[mine])
