"""Reads a sealed segment: its manifest at once, its columns when asked for.

A file is verified before its first use and then mapped (or, from a remote store, held in memory).
"""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.errors import CorruptData, InternalError
from elanus.runtime.world import World
from elanus.storage.formats.columns import ARROW, NPY, decode_arrow, decode_numbers
from elanus.storage.formats.files import checked_buffer
from elanus.storage.formats.manifest import SegmentManifest, read_manifest
from elanus.storage.objects.base import ObjectStore


class SegmentFiles:
    """The columns of one version of a segment; open with :func:`open_segment`."""

    def __init__(self, world: World, objects: ObjectStore, manifest: SegmentManifest) -> None:
        self.manifest = manifest
        self._world = world
        self._objects = objects
        self._arrow: dict[str, Any] = {}
        self._vectors: dict[str, npt.NDArray[Any]] = {}
        self._timestamps: npt.NDArray[np.uint64] | None = None

    @property
    def field_names(self) -> tuple[str, ...]:
        """Fields that the segment has; one that was added to the schema later is not there."""
        return tuple(column.field_name for column in self.manifest.columns)

    def has_column(self, field_name: str) -> bool:
        return field_name in self.field_names

    async def load(self, fields: Collection[str] | None = None) -> None:
        """Verify and map the timestamps and the columns of ``fields`` (None: of all); unknown
        fields and loaded ones are skipped. Raises CorruptData with the damaged file's name."""
        if self._timestamps is None and self.manifest.timestamps is not None:
            entry = self.manifest.timestamps
            buffer = await checked_buffer(self._world, self._objects, entry)
            self._timestamps = decode_numbers(buffer, entry.key)
            self._require_rows(len(self._timestamps), entry.key)
        for column in self.manifest.columns:
            name = column.field_name
            if name in self._arrow or name in self._vectors:
                continue
            if fields is not None and name not in fields:
                continue
            buffer = await checked_buffer(self._world, self._objects, column)
            if column.encoding == NPY:
                self._vectors[name] = decode_numbers(buffer, column.key)
                self._require_rows(len(self._vectors[name]), column.key)
            elif column.encoding == ARROW:
                self._arrow[name] = decode_arrow(buffer, column.key)
                self._require_rows(len(self._arrow[name]), column.key)
            else:
                raise CorruptData(f"file {column.key} has the unknown form {column.encoding}")

    def drop(self, field_name: str) -> list[Any]:
        """Forget a loaded column, which can be loaded again: what it was mapped as."""
        dropped = [self._arrow.pop(field_name, None), self._vectors.pop(field_name, None)]
        return [column for column in dropped if column is not None]

    def _require_rows(self, count: int, key: str) -> None:
        if count != self.manifest.row_count:
            raise CorruptData(
                f"file {key} has {count} rows, its manifest says {self.manifest.row_count}"
            )

    @property
    def timestamps(self) -> npt.NDArray[np.uint64]:
        """uint64 (rows,): the insert timestamp of each row."""
        if self._timestamps is None:
            raise InternalError(f"segment {self.manifest.segment_id} has no timestamps loaded")
        return self._timestamps

    def column(self, field_name: str) -> Any:
        """The ``pyarrow.Array`` of a loaded scalar field (rows,)."""
        return self._loaded(self._arrow, field_name)

    def vectors(self, field_name: str) -> Any:
        """The column of a loaded vector field: a NumPy array (rows, width), read-only,
        C-contiguous, or an Arrow array (rows,) of a sparse field or one with nulls."""
        stored = self._arrow if field_name in self._arrow else self._vectors
        return self._loaded(stored, field_name)

    def _loaded(self, columns: dict[str, Any], field_name: str) -> Any:
        try:
            return columns[field_name]
        except KeyError:
            raise InternalError(
                f"field {field_name} of segment {self.manifest.segment_id} is not loaded"
            ) from None


async def open_segment(
    world: World,
    objects: ObjectStore,
    manifest_key: str,
    fields: Collection[str] | None = None,
) -> SegmentFiles:
    """Open a segment and load its timestamps and the columns of ``fields`` (None: of all)."""
    files = SegmentFiles(world, objects, await read_manifest(objects, manifest_key))
    await files.load(fields)
    return files
