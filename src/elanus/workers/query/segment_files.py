"""The files of one loaded segment, by what a read needs: columns, and the indexes over them.

A predicate or a search on a field needs its column and all its indexes, whichever of them will be
asked; an output field only its column. Primary keys and timestamps are open as long as the segment
is loaded: each delete and each hit needs them, and they are small. Deletes are in memory.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from elanus.engine.segment.sealed import SealedSegment
from elanus.storage.formats.manifest import SegmentManifest
from elanus.storage.formats.segment_reader import SegmentFiles
from elanus.workers.query.tier import Tier, TieredFile

KEPT_NEEDS = 64
"""Kinds of reads of a segment whose files are known without looking them up."""


Need = tuple[frozenset[str], tuple[str, ...]]
"""Fields that a read searches or filters by, and fields whose values it gives out."""


class Opened:
    """What came of an index file: the index, and how its segment forgets it."""

    __slots__ = ("_forget", "_index")

    def __init__(self) -> None:
        self._index: Any = None
        self._forget: Callable[[Any], None] | None = None

    def keep(self, index: Any, forget: Callable[[Any], None]) -> None:
        self._index, self._forget = index, forget

    def drop(self) -> list[Any]:
        if self._forget is None:
            return []
        index = self._index
        self._forget(index)
        self._index = self._forget = None
        return [index]


class LoadedFiles:
    """See the module. ``resident``: the primary key's name."""

    def __init__(self, tier: Tier, files: SegmentFiles, resident: str) -> None:
        self.tier = tier
        self.columns = files
        self.segment: SealedSegment | None = None
        self._by_field: dict[str, TieredFile] = {}
        self._indexes: dict[str, tuple[str, TieredFile]] = {}  # by key: field, file
        self._resident: list[TieredFile] = []
        self._needs: dict[Need, tuple[TieredFile, ...]] = {}
        self._resident_name = resident
        manifest = files.manifest
        for column in manifest.columns:
            name = column.field_name
            file = TieredFile(
                column.key, column.size_bytes, self._open_column(name), self._close_column(name)
            )
            tier.add(file)
            self._by_field[name] = file

    async def open_resident(self) -> None:
        """Timestamps and primary keys. Raises as opening a file does."""
        for file in self._resident_files(self.columns.manifest):
            await self.tier.open_for_good(file)
            self._resident.append(file)

    def _resident_files(self, manifest: SegmentManifest) -> Iterator[TieredFile]:
        if manifest.timestamps is not None:
            entry = manifest.timestamps
            file = TieredFile(entry.key, entry.size_bytes, self._open_timestamps, list)
            self.tier.add(file)
            yield file
        if self._resident_name in self._by_field:
            yield self._by_field.pop(self._resident_name)

    async def _open_timestamps(self) -> None:
        await self.columns.load(())

    def _open_column(self, name: str) -> Callable[[], Awaitable[None]]:
        async def open_file() -> None:
            if self.segment is not None:
                # The thread of a read that was given up may have made one of the former mapping.
                self.segment.forget_vectors(name)
            await self.columns.load({name})

        return open_file

    def _close_column(self, name: str) -> Callable[[], list[Any]]:
        def close_file() -> list[Any]:
            made = None if self.segment is None else self.segment.forget_vectors(name)
            return [*self.columns.drop(name), made]

        return close_file

    def add_index(
        self,
        key: str,
        field_name: str,
        size_bytes: int,
        open_index: Callable[[Opened], Awaitable[None]],
    ) -> TieredFile:
        """A cold file of an index over the field. ``open_index`` gives the segment what is in it
        and says so to its argument."""
        opened = Opened()

        async def open_file() -> None:
            await open_index(opened)
            if file.is_released:
                opened.drop()

        file = TieredFile(key, size_bytes, open_file, opened.drop, rank=1)
        self.tier.add(file)
        self._indexes[key] = (field_name, file)
        self._needs.clear()
        return file

    def remove_index(self, key: str) -> None:
        """The segment does without it from now on."""
        found = self._indexes.pop(key, None)
        if found is None:
            return
        file = found[1]
        self._needs.clear()
        if file.is_open:
            file.is_open = False
            file.close_file()
        self.tier.remove(file)

    def has_index(self, key: str) -> bool:
        return key in self._indexes

    def column(self, name: str) -> TieredFile | None:
        """None: of the primary key, or the segment was written without the field."""
        return self._by_field.get(name)

    def column_names(self) -> list[str]:
        return list(self._by_field)

    def needed(self, need: Need) -> tuple[TieredFile, ...]:
        files = self._needs.get(need)
        if files is None:
            files = self._needed(*need)
            if len(self._needs) >= KEPT_NEEDS:
                self._needs.clear()
            self._needs[need] = files
        return files

    def _needed(self, read: frozenset[str], taken: tuple[str, ...]) -> tuple[TieredFile, ...]:
        columns = [self._by_field.get(name) for name in sorted(read.union(taken))]
        indexes = [file for name, file in self._indexes.values() if name in read]
        return (*(file for file in columns if file is not None), *indexes)

    def release(self) -> None:
        """Reads that have files pinned may go on; cold ones are not opened any more."""
        for file in self._resident:
            self.tier.end_for_good(file)
        every = [*self._by_field.values(), *self._resident]
        for file in [*every, *(file for _, file in self._indexes.values())]:
            self.tier.remove(file)
        self._resident = []
        self._needs.clear()
