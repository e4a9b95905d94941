"""The files of deletes that were read last: when a shard moves or nodes change, many segments are
loaded at the same time, all with the deletes of the same few files."""

from collections import OrderedDict
from collections.abc import Sequence

from elanus.runtime.world import World
from elanus.storage.formats.deltas import DeltaRows, read_deltas
from elanus.storage.formats.manifest import DeltaFile, read_manifest
from elanus.storage.objects.base import ObjectStore

MAX_MANIFESTS = 1_024
MAX_ROWS = 100_000


class DeltaCache:
    """Files never change, so what was read once stays right."""

    def __init__(self, world: World, objects: ObjectStore) -> None:
        self._world = world
        self._objects = objects
        self._files: OrderedDict[str, tuple[DeltaFile, ...]] = OrderedDict()
        self._rows: OrderedDict[str, DeltaRows] = OrderedDict()
        self._row_count = 0

    async def files_of(self, manifest_key: str) -> tuple[DeltaFile, ...]:
        """The files of an L0 segment. Raises CorruptData or Unavailable."""
        files = self._files.get(manifest_key)
        if files is None:
            files = (await read_manifest(self._objects, manifest_key)).deltas
            self._files[manifest_key] = files
            while len(self._files) > MAX_MANIFESTS:
                self._files.popitem(last=False)
        return files

    async def rows_of(self, files: Sequence[DeltaFile]) -> list[DeltaRows]:
        """The deletes of each file. Raises CorruptData or Unavailable."""
        return [await self._rows_of(file) for file in files]

    async def _rows_of(self, file: DeltaFile) -> DeltaRows:
        rows = self._rows.get(file.key)
        if rows is None:
            (rows,) = await read_deltas(self._world, self._objects, [file])
            self._keep(file.key, rows)
        return rows

    def _keep(self, key: str, rows: DeltaRows) -> None:
        if key in self._rows:
            return
        self._rows[key] = rows
        self._row_count += len(rows)
        while self._row_count > MAX_ROWS:
            _, dropped = self._rows.popitem(last=False)
            self._row_count -= len(dropped)
