"""The files of one pchannel's local WAL: listing them, and reading them piece by piece.

All functions block. See :mod:`elanus.storage.wal._frames` for the layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from elanus.errors import CorruptData
from elanus.storage.disk import Disk
from elanus.storage.wal._frames import (
    FRAME_SIZE,
    HEADER_SIZE,
    MAGIC_WORD,
    claimed_end,
    decode_frame,
    decode_header,
)
from elanus.storage.wal.base import WalRecord

FILE_SUFFIX = ".wal"
PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class WalFile:
    """Records from position ``start`` up to, not including, ``end``; None for the last file."""

    path: Path
    start: int
    end: int | None


def file_path(directory: Path, start: int) -> Path:
    return directory / f"{start:020}{FILE_SUFFIX}"


def list_files(disk: Disk, directory: Path) -> list[WalFile]:
    """The pchannel's files by position. A file ends where the next one starts."""
    names = [name for name in disk.list_directory(directory) if name.endswith(FILE_SUFFIX)]
    starts = [int(name.removesuffix(FILE_SUFFIX)) for name in names]
    ends: Sequence[int | None] = [*starts[1:], None]
    return [
        WalFile(directory / name, start, end)
        for name, start, end in zip(names, starts, ends, strict=False)
    ]


class FileCursor:
    """Reads one file from its first record on.

    ``offset`` and ``position`` are those of the record that comes next, ``durable_before`` what the
    frames so far say of which positions are on the disk for sure. ``stop``: the position
    before which every record must be whole; None if it is not known, as for the last file after a
    crash, whose tail may be torn.
    """

    def __init__(self, disk: Disk, file: WalFile, cluster_id: bytes, stop: int | None) -> None:
        self._disk = disk
        self._file = file
        self._stop = stop
        self._finished = False
        self.offset = HEADER_SIZE
        self.position = self.durable_before = file.start
        header = decode_header(disk.read_range(file.path, 0, HEADER_SIZE))
        if header is None or header.start != file.start:
            raise CorruptData(f"{file.path}: offset 0 holds no header of a log file we can read")
        if header.cluster_id != cluster_id:
            raise CorruptData(
                f"{file.path} belongs to the cluster {header.cluster_id.hex()}, "
                f"this is {cluster_id.hex()}"
            )

    def next_records(self) -> list[WalRecord]:
        """Some more records; none at the end. Raises CorruptData with file and offset."""
        if self._finished or self._at_stop():
            return []
        data = self._disk.read_range(self._file.path, self.offset, PIECE_BYTES)
        end = claimed_end(data, 0)
        if end is not None and end > len(data):
            data = self._disk.read_range(self._file.path, self.offset, end)
        records: list[WalRecord] = []
        consumed = 0
        while not self._at_stop():
            frame = decode_frame(data, consumed)
            if frame is None or frame.position != self.position:
                break
            records += map(WalRecord, count(frame.position), frame.payloads)
            consumed = frame.end
            self.position += len(frame.payloads)
            self.durable_before = max(self.durable_before, frame.durable_before)
        self.offset += consumed
        if not records:
            self._judge_damage()
            self._finished = True
        return records

    def _at_stop(self) -> bool:
        return self._stop is not None and self.position >= self._stop

    def _judge_damage(self) -> None:
        """Return if what is at ``offset`` is the end of the file or a torn tail."""
        if self._stop is None:
            rest = self._disk.read_range(self._file.path, self.offset, 1 << 40)
            if not _holds_later_durable_frame(rest, self.position):
                return
        raise CorruptData(
            f"{self._file.path}: the record at offset {self.offset} "
            f"(position {self.position}) is damaged"
        )


def _holds_later_durable_frame(data: memoryview, position: int) -> bool:
    """Whether a whole frame in ``data`` says that the record at ``position`` was durable."""
    words = np.frombuffer(data[: len(data) // FRAME_SIZE * FRAME_SIZE], dtype="<u4")
    candidates = np.flatnonzero(words[:: FRAME_SIZE // 4] == MAGIC_WORD) * FRAME_SIZE
    frames = (decode_frame(data, int(offset)) for offset in candidates)
    return any(frame is not None and frame.durable_before > position for frame in frames)
