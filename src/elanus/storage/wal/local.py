"""A write-ahead log in local files, for one process at a time.

Each pchannel has a directory with its log files, named by the position of their first record, and
a file ``term`` with the newest writer's term. A position is the number of the record.

How the promises of :mod:`elanus.storage.wal.base` are kept when the power fails:

- A write has all frames of one or more appends and is synced once; only then are they
  acknowledged. A file is created durably, header included, before anything is appended to it, and
  synced before the next one is created, so only the tail of the last file can be torn. Opening a
  writer cuts it.
- Whole records at the end that no later frame calls durable may be in the system's memory only, and
  after a sync that failed no other one brings them to the disk. Opening a writer copies them to a
  file of their own before anybody acts on them.
- After an error in an append the file is cut back to its last acknowledged length. If that fails,
  the writer refuses until it is opened again. After a failed sync the file is never written again:
  the system may have dropped its pages; the next append starts a new one.
- A writer looks at ``term`` before it begins a file and before it acknowledges. A newer writer
  makes its term durable before it reads the log, and writes to files of its own; so whatever a
  fenced writer still acknowledges was read by the newer one. Frames that an older file holds at
  positions of the next file were never acknowledged and are not read.
"""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

from elanus.config.settings import WalSettings
from elanus.errors import FencedWriter, InternalError
from elanus.runtime.world import World
from elanus.storage.disk import Disk, is_debris
from elanus.storage.wal._files import FileCursor, WalFile, file_path, list_files
from elanus.storage.wal._frames import FileHeader, FrameEncoder, size_of
from elanus.storage.wal._growth import Growth
from elanus.storage.wal._local_writer import LocalWalWriter
from elanus.storage.wal._term import read_term, write_term
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord, WalWriter

_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class LocalWal(Wal):
    """The logs under ``root``. ``cluster_id`` (a UUID's text) is written into every file."""

    def __init__(
        self, world: World, disk: Disk, root: Path, settings: WalSettings, cluster_id: str
    ) -> None:
        self._world = world
        self._disk = disk
        self._root = root
        self._settings = settings
        self._cluster_id = UUID(cluster_id).bytes
        self._writers: dict[str, LocalWalWriter] = {}
        self._growth: dict[str, Growth] = {}

    async def open_writer(self, pchannel: str, term: int) -> WalWriter:
        directory = self._directory(pchannel)
        previous = self._writers.pop(pchannel, None)
        if previous is not None and previous.term <= term:
            await previous.close()
        elif previous is not None:
            self._writers[pchannel] = previous
        next_position = await self._world.executor.run("io", self._recover, directory, term)
        header = FileHeader(next_position, term, self._cluster_id)
        growth = self._growth.setdefault(pchannel, Growth())
        writer = LocalWalWriter(self._world, self._disk, directory, self._settings, header, growth)
        self._writers[pchannel] = writer
        growth.notify()
        return writer

    def _recover(self, directory: Path, term: int) -> int:
        """Fence older terms, cut the torn tail; the position of the next record."""
        disk = self._disk
        disk.make_directories(directory)
        newest = read_term(disk, directory)
        if newest > term:
            raise FencedWriter(f"{directory} was opened at term {newest}, this is term {term}")
        if newest < term:
            write_term(disk, directory, term)
        for name in disk.list_directory(directory):
            if is_debris(name):
                disk.remove(directory / name)
        files = list_files(disk, directory)
        if not files:
            return BEFORE_FIRST + 1
        cursor = FileCursor(disk, files[-1], self._cluster_id, stop=None)
        unsure: list[WalRecord] = []
        while records := cursor.next_records():
            unsure = [r for r in (*unsure, *records) if r.position >= cursor.durable_before]
        if unsure:
            self._copy(directory, term, unsure)
        else:
            self._cut(files[-1].path, cursor.offset)
        return cursor.position

    def _copy(self, directory: Path, term: int, records: Sequence[WalRecord]) -> None:
        """To a file of their own, which takes the place of what stands behind them in the last."""
        first = records[0].position
        header = FileHeader(first, term, self._cluster_id)
        payloads = [(record.payload,) for record in records]
        frames = FrameEncoder().encode(first, first, payloads, list(map(size_of, payloads)))
        self._disk.write_file_durably(file_path(directory, first), [header.encode(), *frames])

    def _cut(self, path: Path, size_bytes: int) -> None:
        handle = self._disk.open_append(path)
        try:
            if handle.size > size_bytes:
                handle.truncate(size_bytes)
                handle.sync()
        finally:
            handle.close()

    async def read(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        run = self._world.executor.run
        writer = self._writers.get(pchannel)
        limit = None if writer is None else writer.next_position
        for file in await run("io", list_files, self._disk, self._directory(pchannel)):
            if file.end is not None and file.end <= after + 1:
                continue
            stop = limit if file.end is None else file.end
            if stop is not None and stop <= file.start:
                break
            cursor = await run("io", FileCursor, self._disk, file, self._cluster_id, stop)
            while records := await run("io", cursor.next_records):
                for record in records:
                    if record.position > after:
                        yield record

    def tail(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        """Sees what this process appends: a local log has no other writers."""
        growth = self._growth.setdefault(pchannel, Growth())
        return growth.follow(lambda seen: self.read(pchannel, seen), after)

    async def truncate(self, pchannel: str, upto: int) -> None:
        """Removes whole files; the last one stays, since it knows the next position."""
        await self._world.executor.run("io", self._truncate, self._directory(pchannel), upto)

    def _truncate(self, directory: Path, upto: int) -> None:
        def superfluous(file: WalFile) -> bool:
            return file.end is not None and file.end - 1 <= upto

        removable = [file for file in list_files(self._disk, directory) if superfluous(file)]
        for file in removable:  # oldest first: a crash in between leaves no hole
            self._disk.remove(file.path)
        if removable:
            self._disk.sync_directory(directory)

    async def list_channels(self) -> list[str]:
        return await self._world.executor.run("io", self._list_channels)

    def _list_channels(self) -> list[str]:
        names = self._disk.list_directory(self._root)
        return [
            name
            for name in names
            if _CHANNEL_NAME.fullmatch(name) and self._disk.list_directory(self._root / name)
        ]

    async def size_bytes(self) -> int:
        return await self._world.executor.run("io", self._size_bytes)

    def _size_bytes(self) -> int:
        total = 0
        for channel in self._list_channels():
            for file in list_files(self._disk, self._root / channel):
                info = self._disk.file_info(file.path)
                total += info.size_bytes if info is not None else 0
        return total

    async def close(self) -> None:
        for pchannel in sorted(self._writers):
            await self._writers[pchannel].close()
        self._writers.clear()
        for growth in self._growth.values():
            growth.end()
        self._growth.clear()

    def _directory(self, pchannel: str) -> Path:
        if not _CHANNEL_NAME.fullmatch(pchannel):
            raise InternalError(f"{pchannel!r} can't name a log")
        return self._root / pchannel
