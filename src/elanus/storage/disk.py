"""The disk, as an argument: every durable byte that Elanus writes locally goes through a Disk.

All operations block; callers run them in the ``io`` pool. A simulation replaces the disk with one
that tears writes, loses what was not synced, and runs full.

What "durable" means here: the bytes were written to a file under another name, the file was
synced, renamed into place, and its directory was synced. A crash leaves the old file, the new
file, or a temporary file (:func:`is_debris`) that nobody reads; never a mixture.

Errors: a device without room raises DiskFull, an absent file FileMissing, everything else
Unavailable; each names the path.
"""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from elanus.errors import DiskFull, ElanusError, Unavailable
from elanus.storage.disk_writes import sync_descriptor, write_all
from elanus.storage.objects.base import Buffer

DEBRIS_SUFFIX = ".tmp"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class FileMissing(Unavailable):
    def __init__(self, path: Path) -> None:
        super().__init__(f"file {path} does not exist")


class FileTaken(ElanusError):
    """A create-only write found the name taken."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    size_bytes: int
    modified_ms: int


class AppendHandle(Protocol):
    """A file that grows at its end. ``write`` alone makes nothing durable; ``sync`` does."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    def write(self, parts: Sequence[Buffer]) -> None:
        """Append the concatenation of ``parts``. On an error part of it may be in the file."""
        ...

    def sync(self) -> None:
        """Everything written is durable. After an error nothing is known of it."""
        ...

    def truncate(self, size: int) -> None: ...

    def close(self) -> None: ...


class FileWatch(Protocol):
    """Notices when a name leads to another file, or when the file has changed."""

    def is_unchanged(self) -> bool:
        """Whether the name still leads to the file of the beginning, as it was then."""
        ...

    def close(self) -> None: ...


class DirectoryLock(Protocol):
    def release(self) -> None: ...


class Disk(Protocol):
    """Blocking file operations."""

    def make_directories(self, path: Path) -> None:
        """Make ``path`` and its parents, durably; existing ones are fine."""
        ...

    def list_directory(self, path: Path) -> list[str]:
        """Names in ``path``, sorted; an absent directory is empty."""
        ...

    def file_info(self, path: Path) -> FileInfo | None:
        """None if there is no such file."""
        ...

    def open_append(self, path: Path) -> AppendHandle:
        """Open a file that exists."""
        ...

    def read_file(self, path: Path) -> bytes: ...

    def read_range(self, path: Path, start: int, length: int) -> memoryview:
        """The bytes from ``start``, fewer than ``length`` at the end of the file; the memory is
        aligned to 64 bytes."""
        ...

    def watch_file(self, path: Path) -> FileWatch: ...

    def write_file_durably(
        self,
        path: Path,
        parts: Sequence[Buffer],
        *,
        temporary: Path | None = None,
        create_only: bool = False,
    ) -> None:
        """Write, sync, rename, sync the directory. Raises FileTaken if ``create_only`` and taken.

        ``temporary`` is the name to write under, by default ``<path>.tmp``; concurrent writers of
        one path must give different ones.
        """
        ...

    def adopt_file(self, source: Path, path: Path, *, create_only: bool = False) -> None:
        """Make the existing file ``source`` durable under the name ``path``, on the same device."""
        ...

    def rename(self, source: Path, target: Path) -> None: ...

    def remove(self, path: Path) -> None:
        """An absent file is fine."""
        ...

    def sync_directory(self, path: Path) -> None: ...

    def lock_file(self, path: Path) -> DirectoryLock:
        """An exclusive lock that ends with the process. Raises Unavailable with its holder."""
        ...


def is_debris(name: str) -> bool:
    """Whether a file of this name is what a crash left of an unfinished write."""
    return name.endswith(DEBRIS_SUFFIX)


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Raise OSErrors as the errors that this module promises."""
    try:
        yield
    except OSError as error:
        raise _typed(error, path) from error


def _typed(error: OSError, path: Path) -> ElanusError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return FileMissing(path)
    if error.errno in _NO_ROOM:
        return DiskFull(str(path))
    return Unavailable(f"{path}: {error.strerror or error}")


class _LocalAppendHandle:
    def __init__(self, path: Path) -> None:
        self._path = path
        with translate_os_errors(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._size = os.fstat(self._descriptor).st_size

    @property
    def size(self) -> int:
        return self._size

    # Each append to a log waits for these two, so they do without a context manager.

    def write(self, parts: Sequence[Buffer]) -> None:
        try:
            self._size += write_all(self._descriptor, parts)
        except OSError as error:
            raise _typed(error, self._path) from error

    def sync(self) -> None:
        try:
            sync_descriptor(self._descriptor)
        except OSError as error:
            raise _typed(error, self._path) from error

    def truncate(self, size: int) -> None:
        with translate_os_errors(self._path):
            os.ftruncate(self._descriptor, size)
            self._size = size

    def close(self) -> None:
        with translate_os_errors(self._path):
            os.close(self._descriptor)


class _LocalWatch:
    """Keeps the file open, so that no other one can get its number."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        with translate_os_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._identity = _identity(os.fstat(self._descriptor))

    def is_unchanged(self) -> bool:
        try:
            return _identity(os.stat(self._path)) == self._identity
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        os.close(self._descriptor)


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _LocalLock:
    def __init__(self, path: Path) -> None:
        with translate_os_errors(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise Unavailable(
                    f"{path.parent} is in use by process {holder or 'unknown'}, "
                    f"which holds the lock {path}"
                ) from error
            os.ftruncate(self._descriptor, 0)
            # Without room for the number the lock still holds; only its holder stays unnamed.
            with suppress(OSError):
                os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


class LocalDisk:
    """The machine's file system."""

    def make_directories(self, path: Path) -> None:
        with translate_os_errors(path):
            missing = []
            while not path.is_dir():
                missing.append(path)
                path = path.parent
            for directory in reversed(missing):
                with suppress(FileExistsError):
                    directory.mkdir()
                self.sync_directory(directory.parent)

    def list_directory(self, path: Path) -> list[str]:
        try:
            with translate_os_errors(path):
                return sorted(os.listdir(path))
        except FileMissing:
            return []

    def file_info(self, path: Path) -> FileInfo | None:
        try:
            with translate_os_errors(path):
                status = path.stat()
        except FileMissing:
            return None
        return FileInfo(status.st_size, status.st_mtime_ns // 1_000_000)

    def open_append(self, path: Path) -> AppendHandle:
        return _LocalAppendHandle(path)

    def read_file(self, path: Path) -> bytes:
        with translate_os_errors(path):
            return path.read_bytes()

    def read_range(self, path: Path, start: int, length: int) -> memoryview:
        with translate_os_errors(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                length = max(0, min(length, os.fstat(descriptor).st_size - start))
                buffer: Any = pa.allocate_buffer(length)
                view = memoryview(buffer).cast("B")
                done = 0
                while done < length:
                    count = os.preadv(descriptor, [view[done:]], start + done)
                    if count == 0:
                        break
                    done += count
                return view[:done]
            finally:
                os.close(descriptor)

    def watch_file(self, path: Path) -> FileWatch:
        return _LocalWatch(path)

    def write_file_durably(
        self,
        path: Path,
        parts: Sequence[Buffer],
        *,
        temporary: Path | None = None,
        create_only: bool = False,
    ) -> None:
        temporary = temporary or path.with_name(path.name + DEBRIS_SUFFIX)
        try:
            with translate_os_errors(path):
                descriptor = os.open(
                    temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644
                )
                try:
                    write_all(descriptor, parts)
                    sync_descriptor(descriptor)
                finally:
                    os.close(descriptor)
            self._put_in_place(temporary, path, create_only)
        except ElanusError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def adopt_file(self, source: Path, path: Path, *, create_only: bool = False) -> None:
        with translate_os_errors(source):
            descriptor = os.open(source, os.O_RDWR | os.O_CLOEXEC)
            try:
                sync_descriptor(descriptor)
            finally:
                os.close(descriptor)
        self._put_in_place(source, path, create_only)

    def _put_in_place(self, source: Path, path: Path, create_only: bool) -> None:
        with translate_os_errors(path):
            if create_only:
                try:
                    os.link(source, path)  # unlike rename, fails if the name is taken
                except FileExistsError as error:
                    raise FileTaken(f"{path} exists") from error
                source.unlink()
            else:
                os.replace(source, path)
        self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        with translate_os_errors(source):
            os.replace(source, target)

    def remove(self, path: Path) -> None:
        with translate_os_errors(path):
            path.unlink(missing_ok=True)

    def sync_directory(self, path: Path) -> None:
        with translate_os_errors(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def lock_file(self, path: Path) -> DirectoryLock:
        return _LocalLock(path)
