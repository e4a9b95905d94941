"""A disk that keeps promises only: what was synced survives a crash, the rest may be torn."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from elanus.errors import DiskFull, Unavailable
from elanus.storage.disk import FileInfo, FileMissing, FileTaken
from elanus.storage.objects.base import Buffer


@dataclass
class _File:
    """``data`` is what readers see; its first ``durable`` bytes survive for sure.

    ``lost_from``: a sync of the bytes from there on failed. The system has forgotten that they
    are not on the disk: later syncs succeed and don't help.
    """

    data: bytearray = field(default_factory=bytearray)
    durable: int = 0
    modified_ms: int = 0
    lost_from: int | None = None

    def sync(self) -> None:
        self.durable = len(self.data) if self.lost_from is None else self.lost_from

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.durable = min(self.durable, size)
        if self.lost_from is not None and size <= self.lost_from:
            self.lost_from = None


class DiskImage:
    """The device. It outlives the processes that use it, each through a SimulatedDisk."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.files: dict[Path, _File] = {}
        self.durable_names: dict[Path, _File] = {}

    def crash(self) -> None:
        """Power failure: unsynced bytes are kept, torn or lost, unsynced names appear or not."""
        survivors = dict(self.durable_names)
        for path, file in sorted(self.files.items()):
            if survivors.get(path) is not file and self.rng.random() < 0.5:
                survivors[path] = file
        for path in sorted(survivors):
            self._tear(survivors[path])
        self.files = dict(survivors)
        self.durable_names = dict(survivors)

    def exit(self) -> None:
        """The process is gone, the machine is not: everything that was written is there."""

    def _tear(self, file: _File) -> None:
        unsynced = len(file.data) - file.durable
        if unsynced > 0:
            kept = self.rng.randint(0, unsynced)
            del file.data[file.durable + kept :]
            if kept and self.rng.random() < 0.3:
                place = file.durable + self.rng.randrange(kept)
                file.data[place] ^= 1 << self.rng.randrange(8)
        file.durable = len(file.data)
        file.lost_from = None


class SimulatedDisk:
    """Implements ``elanus.storage.disk.Disk`` for one process.

    ``before_operation`` is called with the name of each operation that changes the disk; it may
    raise to fail the operation, or to kill the process before it.
    """

    def __init__(
        self,
        image: DiskImage,
        now_ms: Callable[[], int],
        before_operation: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._image = image
        self._now_ms = now_ms
        self.before_operation = before_operation

    # --- elanus.storage.disk.Disk -----------------------------------------------------------------

    def make_directories(self, path: Path) -> None:
        pass

    def list_directory(self, path: Path) -> list[str]:
        depth = len(path.parts)
        return sorted({file.parts[depth] for file in self._image.files if path in file.parents})

    def file_info(self, path: Path) -> FileInfo | None:
        file = self._image.files.get(path)
        return None if file is None else FileInfo(len(file.data), file.modified_ms)

    def open_append(self, path: Path) -> "SimulatedHandle":
        return SimulatedHandle(self, self._image.rng, self._file(path))

    def read_file(self, path: Path) -> bytes:
        return bytes(self._file(path).data)

    def read_range(self, path: Path, start: int, length: int) -> memoryview:
        piece = bytes(self._file(path).data[start : start + length])
        buffer = pa.allocate_buffer(len(piece))
        view = memoryview(buffer).cast("B")
        view[:] = piece
        return view

    def watch_file(self, path: Path) -> "_Watch":
        return _Watch(self._image, path, self._file(path))

    def write_file_durably(
        self,
        path: Path,
        parts: Sequence[Buffer],
        *,
        temporary: Path | None = None,
        create_only: bool = False,
    ) -> None:
        files = self._image.files
        self.before_operation("write file")
        if create_only and path in files:
            raise FileTaken(f"{path} exists")
        content = bytearray().join(memoryview(part).cast("B") for part in parts)
        file = _File(content, 0, self._now_ms())
        debris = temporary or path.with_name(path.name + ".tmp")
        files[debris] = file
        self.before_operation("sync file")
        file.sync()
        self.before_operation("rename file")
        del files[debris]
        files[path] = file
        self.before_operation("sync directory")
        self._image.durable_names[path] = file

    def adopt_file(self, source: Path, path: Path, *, create_only: bool = False) -> None:
        raise NotImplementedError("simulated objects live in memory")

    def rename(self, source: Path, target: Path) -> None:
        self.before_operation("rename")
        self._image.files[target] = self._file(source)
        del self._image.files[source]

    def remove(self, path: Path) -> None:
        self.before_operation("remove")
        self._image.files.pop(path, None)
        if self._image.rng.random() < 0.5:
            self._image.durable_names.pop(path, None)

    def sync_directory(self, path: Path) -> None:
        self.before_operation("sync directory")
        files, durable_names = self._image.files, self._image.durable_names
        for name in [name for name in durable_names if name.parent == path]:
            if name not in files:
                del durable_names[name]
        for name, file in files.items():
            if name.parent == path:
                durable_names[name] = file

    def lock_file(self, path: Path) -> "_Lock":
        return _Lock()

    def _file(self, path: Path) -> _File:
        try:
            return self._image.files[path]
        except KeyError:
            raise FileMissing(path) from None


class SimulatedHandle:
    """An open file of the simulated disk."""

    def __init__(self, disk: SimulatedDisk, rng: random.Random, file: _File) -> None:
        self._disk = disk
        self._rng = rng
        self._file = file

    @property
    def size(self) -> int:
        return len(self._file.data)

    def write(self, parts: Sequence[Buffer]) -> None:
        content = b"".join(memoryview(part).cast("B") for part in parts)
        try:
            self._disk.before_operation("write")
        except (DiskFull, Unavailable):
            self._file.data += content[: self._rng.randint(0, len(content))]
            raise
        self._file.data += content

    def sync(self) -> None:
        try:
            self._disk.before_operation("sync")
        except Unavailable:
            if self._file.lost_from is None and self._file.durable < len(self._file.data):
                self._file.lost_from = self._file.durable
            raise
        self._file.sync()

    def truncate(self, size: int) -> None:
        self._disk.before_operation("truncate")
        self._file.truncate(size)

    def close(self) -> None:
        pass


class _Watch:
    """Files that are watched are replaced, never changed."""

    def __init__(self, image: DiskImage, path: Path, file: _File) -> None:
        self._image = image
        self._path = path
        self._file = file

    def is_unchanged(self) -> bool:
        return self._image.files.get(self._path) is self._file

    def close(self) -> None:
        pass


class _Lock:
    def release(self) -> None:
        pass
