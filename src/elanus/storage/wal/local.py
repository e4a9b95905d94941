"""A write-ahead log in local files, for one process at a time.

Each pchannel has a directory with its log files, named by the position of their first record, and
a file ``term`` with the newest writer's term. A position is the number of the record.

How the promises of :mod:`elanus.storage.wal.base` are kept when the power fails:

- An append writes all its frames and syncs once; only then is it acknowledged. A file is created
  durably, header included, before anything is appended to it, and synced before the next one is
  created, so only the tail of the last file can be torn. Opening a writer cuts it.
- After an error in an append the file is cut back to its last acknowledged length. If that fails,
  the writer refuses until it is opened again. After a failed sync the file is never written again:
  the system may have dropped its pages; the next append starts a new one.
- A writer looks at ``term`` before it writes and again before it acknowledges. A newer writer
  makes its term durable before it reads the log, and writes to files of its own; so whatever a
  fenced writer still acknowledges was read by the newer one. Frames that an older file holds at
  positions of the next file were never acknowledged and are not read.
"""

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

from elanus.config.settings import WalSettings
from elanus.errors import (
    CorruptData,
    ElanusError,
    FencedWriter,
    InternalError,
    ParameterTooLarge,
    Unavailable,
)
from elanus.runtime.world import World
from elanus.storage.disk import AppendHandle, Disk, FileMissing, is_debris
from elanus.storage.objects.base import Buffer
from elanus.storage.uncancelled import run_to_end
from elanus.storage.wal._files import FileCursor, WalFile, file_path, list_files
from elanus.storage.wal._frames import MAX_PAYLOAD_BYTES, FileHeader, encode_frame
from elanus.storage.wal._growth import Growth
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord, WalWriter

_TERM_FILE = "term"
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
            _write_term(disk, directory, term)
        for name in disk.list_directory(directory):
            if is_debris(name):
                disk.remove(directory / name)
        files = list_files(disk, directory)
        if not files:
            return BEFORE_FIRST + 1
        cursor = FileCursor(disk, files[-1], self._cluster_id, stop=None)
        while cursor.next_records():
            pass
        handle = disk.open_append(files[-1].path)
        try:
            if handle.size > cursor.offset:
                handle.truncate(cursor.offset)
            # A process that died left whole records that may be in the system's memory only.
            handle.sync()
        finally:
            handle.close()
        return cursor.position

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


class LocalWalWriter(WalWriter):
    """The one writer of a pchannel. ``next_position``: every smaller one is acknowledged."""

    def __init__(
        self,
        world: World,
        disk: Disk,
        directory: Path,
        settings: WalSettings,
        header: FileHeader,
        growth: Growth,
    ) -> None:
        self.term = header.term
        self.next_position = header.start
        self._world = world
        self._disk = disk
        self._directory = directory
        self._settings = settings
        self._cluster_id = header.cluster_id
        self._growth = growth
        self._durable_before = header.start
        self._handle: AppendHandle | None = None
        self._refusal: ElanusError | None = None
        self._one_at_a_time = asyncio.Lock()

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        return await run_to_end(self._append(records))

    async def _append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        async with self._one_at_a_time:
            if self._refusal is not None:
                raise self._refusal
            if not records:
                return []
            first = self.next_position
            await self._world.executor.run("io", self._append_blocking, records)
            self._growth.notify()
            return list(range(first, self.next_position))

    def _append_blocking(self, records: Sequence[Sequence[Buffer]]) -> None:
        self._check_term()
        frames = self._encode(records)
        handle = self._file_with_room()
        good_size = handle.size
        hit = self._world.failpoints.hit
        # Whatever stops us from here on, a half-written group must not be followed by another.
        self._refusal = Unavailable(f"the log {self._directory} must be opened again")
        try:
            hit("wal.append.before_write")
            handle.write(frames)
            hit("wal.append.before_sync")
            if self._settings.sync:
                self._sync(handle)
            hit("wal.append.after_sync")
        except Unavailable:
            self._cut_back(handle, good_size)
            self._refusal = None
            raise
        self._check_term()
        self.next_position += len(records)
        if self._settings.sync:
            self._durable_before = self.next_position
        self._refusal = None

    def _encode(self, records: Sequence[Sequence[Buffer]]) -> list[Buffer]:
        frames: list[Buffer] = []
        for position, parts in enumerate(records, self.next_position):
            size = sum(memoryview(part).nbytes for part in parts)
            if size > MAX_PAYLOAD_BYTES:
                raise ParameterTooLarge(
                    f"a write of {size} bytes exceeds the log's limit of {MAX_PAYLOAD_BYTES}"
                )
            frames += encode_frame(position, self._durable_before, parts)
        return frames

    def _file_with_room(self) -> AppendHandle:
        if self._handle is not None and self._handle.size >= self._settings.segment_size:
            self._leave_file(self._handle)
        if self._handle is None:
            # A file that is there under this name has no acknowledged record and is replaced.
            path = file_path(self._directory, self.next_position)
            header = FileHeader(self.next_position, self.term, self._cluster_id)
            self._disk.write_file_durably(path, [header.encode()])
            self._handle = self._disk.open_append(path)
        return self._handle

    def _leave_file(self, handle: AppendHandle) -> None:
        if not self._settings.sync:
            handle.sync()
            self._durable_before = self.next_position
        handle.close()
        self._handle = None

    def _sync(self, handle: AppendHandle) -> None:
        try:
            handle.sync()
        except Unavailable:
            self._handle = None
            raise

    def _cut_back(self, handle: AppendHandle, good_size: int) -> None:
        """Take back what a failed append wrote. Raises if that can't be made sure of."""
        handle.truncate(good_size)
        handle.sync()
        if self._handle is None:
            handle.close()

    def _check_term(self) -> None:
        newest = read_term(self._disk, self._directory)
        if newest != self.term:
            self._refusal = FencedWriter(
                f"the log {self._directory} was taken over at term {newest}, "
                f"this writer has term {self.term}"
            )
            raise self._refusal

    async def close(self) -> None:
        """Appends are refused from now on."""
        await run_to_end(self._close())

    async def _close(self) -> None:
        async with self._one_at_a_time:
            self._refusal = FencedWriter(f"this writer of the log {self._directory} is closed")
            handle, self._handle = self._handle, None
            if handle is None:
                return
            try:
                if not self._settings.sync:
                    await self._world.executor.run("io", handle.sync)
            finally:
                handle.close()


def read_term(disk: Disk, directory: Path) -> int:
    """The newest term that opened a writer; 0 before the first."""
    path = directory / _TERM_FILE
    try:
        text = disk.read_file(path)
    except FileMissing:
        return 0
    term, _, checksum = text.strip().partition(b" ")
    if checksum != b"%08x" % zlib.crc32(term):
        raise CorruptData(f"{path} is damaged: {text[:64]!r}")
    return int(term)


def _write_term(disk: Disk, directory: Path, term: int) -> None:
    digits = b"%d" % term
    disk.write_file_durably(directory / _TERM_FILE, [digits, b" %08x\n" % zlib.crc32(digits)])
