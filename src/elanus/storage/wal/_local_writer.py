"""Appends to a pchannel's local log; see :mod:`elanus.storage.wal.local` for why that is safe."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from elanus.config.settings import WalSettings
from elanus.errors import ElanusError, FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.disk import AppendHandle, Disk
from elanus.storage.objects.base import Buffer
from elanus.storage.uncancelled import run_to_end
from elanus.storage.wal._files import file_path
from elanus.storage.wal._frames import FileHeader, FrameEncoder
from elanus.storage.wal._growth import Growth
from elanus.storage.wal._shared_writes import Finish, Records, SharedWrites, error_of
from elanus.storage.wal._term import TermGuard
from elanus.storage.wal.base import WalWriter


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
        self._guard = TermGuard(disk, directory)
        self._durable_before = header.start
        self._handle: AppendHandle | None = None
        self._refusal: ElanusError | None = None
        self._half_written = Unavailable(f"the log {directory} must be opened again")
        self._is_closing = False
        self._encoder = FrameEncoder()
        self._writes = SharedWrites(self._begin)

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        if self._is_closing:
            raise FencedWriter(f"this writer of the log {self._directory} is closed")
        return await self._writes.append(records)

    def _begin(self, records: Records, sizes: list[int], finish: Finish) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not records:
            finish([])
            return
        write = partial(self._write_blocking, records, sizes)
        written = self._world.executor.start("io", write)
        written.add_done_callback(partial(self._written, finish))

    def _written(self, finish: Finish, written: "asyncio.Future[list[int]]") -> None:
        if (error := error_of(written)) is not None:
            finish(error)
        else:
            finish(written.result())
            self._growth.notify()

    def _write_blocking(self, records: Records, sizes: list[int]) -> list[int]:
        first = self.next_position
        frames = self._encoder.encode(first, self._durable_before, records, sizes)
        handle = self._file_with_room()
        good_size = handle.size
        hit = self._world.failpoints.hit
        # Whatever stops us from here on, a half-written group must not be followed by another.
        self._refusal = self._half_written
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
        return list(range(first, self.next_position))

    def _file_with_room(self) -> AppendHandle:
        if self._handle is not None and self._handle.size >= self._settings.segment_size:
            self._leave_file(self._handle)
        if self._handle is None:
            self._check_term()
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
        newest = self._guard.newest()
        if newest != self.term:
            self._refusal = FencedWriter(
                f"the log {self._directory} was taken over at term {newest}, "
                f"this writer has term {self.term}"
            )
            raise self._refusal

    async def close(self) -> None:
        """Appends are refused from now on."""
        self._is_closing = True
        await run_to_end(self._close())

    async def _close(self) -> None:
        await self._writes.idle()
        handle, self._handle = self._handle, None
        self._guard.close()
        if handle is None:
            return
        try:
            if not self._settings.sync:
                await self._world.executor.run("io", handle.sync)
        finally:
            handle.close()
