"""A disk that keeps promises only: what was synced survives a crash, all else may be torn or gone."""

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
    """``data`` is what readers see; its first ``durable`` bytes survive for sure."""

    data: bytearray = field(default_factory=bytearray)
    durable: int = 0
    modified_ms: int = 0


class SimulatedDisk:
    """Implements ``elanus.storage.disk.Disk``. Survives the processes that use it.

    ``before_operation`` is called with the name of each operation that changes the disk; it may
    raise to fail the operation, or to kill the process before it.
    """

    def __init__(self, rng: random.Random, now_ms: Callable[[], int]) -> None:
        self._rng = rng
        self._now_ms = now_ms
        self._files: dict[Path, _File] = {}
        self._durable_names: dict[Path, _File] = {}
        self.before_operation: Callable[[str], None] = lambda name: None
        self.full = False

    def crash(self) -> None:
        """Power failure: unsynced bytes are kept, torn or lost, unsynced names appear or not."""
        survivors = dict(self._durable_names)
        for path, file in sorted(self._files.items()):
            if survivors.get(path) is not file and self._rng.random() < 0.5:
                survivors[path] = file
        for file in survivors.values():
            unsynced = len(file.data) - file.durable
            if unsynced > 0:
                kept = self._rng.randint(0, unsynced)
                torn = bytearray(file.data[: file.durable + kept])
                if kept and self._rng.random() < 0.3:
                    torn[file.durable + self._rng.randrange(kept)] ^= 1 << self._rng.randrange(8)
                file.data = torn
            file.durable = len(file.data)
        self._files = dict(survivors)
        self._durable_names = dict(survivors)

    # --- elanus.storage.disk.Disk -----------------------------------------------------------------

    def make_directories(self, path: Path) -> None:
        pass

    def list_directory(self, path: Path) -> list[str]:
        depth = len(path.parts)
        return sorted({file.parts[depth] for file in self._files if path in file.parents})

    def file_info(self, path: Path) -> FileInfo | None:
        file = self._files.get(path)
        return None if file is None else FileInfo(len(file.data), file.modified_ms)

    def open_append(self, path: Path) -> "SimulatedHandle":
        return SimulatedHandle(self, path, self._file(path))

    def read_file(self, path: Path) -> bytes:
        return bytes(self._file(path).data)

    def read_range(self, path: Path, start: int, length: int) -> memoryview:
        piece = bytes(self._file(path).data[start : start + length])
        buffer = pa.allocate_buffer(len(piece))
        view = memoryview(buffer).cast("B")
        view[:] = piece
        return view

    def write_file_durably(
        self,
        path: Path,
        parts: Sequence[Buffer],
        *,
        temporary: Path | None = None,
        create_only: bool = False,
    ) -> None:
        self._start("write file")
        content = bytearray().join(memoryview(part).cast("B") for part in parts)
        if create_only and path in self._files:
            raise FileTaken(f"{path} exists")
        file = _File(content, len(content), self._now_ms())
        debris = temporary or path.with_name(path.name + ".tmp")
        self._files[debris] = file
        self._start("rename file")
        del self._files[debris]
        self._files[path] = file
        self._start("sync directory")
        self._durable_names[path] = file

    def adopt_file(self, source: Path, path: Path, *, create_only: bool = False) -> None:
        raise NotImplementedError("simulated objects live in memory")

    def rename(self, source: Path, target: Path) -> None:
        self._start("rename")
        self._files[target] = self._file(source)
        del self._files[source]

    def remove(self, path: Path) -> None:
        self._start("remove")
        self._files.pop(path, None)
        if self._rng.random() < 0.5:
            self._durable_names.pop(path, None)

    def sync_directory(self, path: Path) -> None:
        self._start("sync directory")
        for name in [name for name in self._durable_names if name.parent == path]:
            if name not in self._files:
                del self._durable_names[name]
        for name, file in self._files.items():
            if name.parent == path:
                self._durable_names[name] = file

    def lock_file(self, path: Path) -> "_Lock":
        return _Lock()

    def _file(self, path: Path) -> _File:
        try:
            return self._files[path]
        except KeyError:
            raise FileMissing(path) from None

    def _start(self, operation: str) -> None:
        self.before_operation(operation)
        if self.full and operation.startswith("write"):
            raise DiskFull("the simulated disk")


class SimulatedHandle:
    """An open file of the simulated disk."""

    def __init__(self, disk: SimulatedDisk, path: Path, file: _File) -> None:
        self._disk = disk
        self._path = path
        self._file = file

    @property
    def size(self) -> int:
        return len(self._file.data)

    def write(self, parts: Sequence[Buffer]) -> None:
        content = b"".join(memoryview(part).cast("B") for part in parts)
        try:
            self._disk._start("write")
        except (DiskFull, Unavailable):
            self._file.data += content[: self._disk._rng.randint(0, len(content))]
            raise
        self._file.data += content

    def sync(self) -> None:
        self._disk._start("sync")
        self._file.durable = len(self._file.data)

    def truncate(self, size: int) -> None:
        self._disk._start("truncate")
        del self._file.data[size:]
        self._file.durable = min(self._file.durable, size)

    def close(self) -> None:
        pass


class _Lock:
    def release(self) -> None:
        pass
