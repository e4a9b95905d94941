"""The files of a cache of objects: ``<hash of the key>-<end of the key>`` in one flat directory.

A file is written under a name that ends in ``.tmp`` and renamed when it is whole. Nothing is
synced: after a crash of the machine a file may have lost bytes, which its users notice by its
checksum and which is then fetched again. Everything here blocks.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from elanus.storage.disk import DEBRIS_SUFFIX, FileMissing, is_debris, translate_os_errors
from elanus.storage.objects.base import Buffer

_HASH_BYTES = 20
_MAX_END = 80
_OURS = re.compile(rf"[0-9a-f]{{{2 * _HASH_BYTES}}}-")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class CachedFile:
    name: str
    size_bytes: int
    used_ns: int


class CacheFiles:
    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._unfinished = 0

    @staticmethod
    def name_of(key: str) -> str:
        digest = hashlib.blake2b(key.encode(), digest_size=_HASH_BYTES).hexdigest()
        return f"{digest}-{_UNSAFE.sub('_', key)[-_MAX_END:]}"

    def path_of(self, name: str) -> Path:
        return self._directory / name

    def size_of(self, path: Path) -> int:
        with translate_os_errors(path):
            return path.stat().st_size

    def adopt(self) -> list[CachedFile]:
        """Remove unfinished files; the others, those used longest ago first."""
        found = []
        with translate_os_errors(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            for entry in os.scandir(self._directory):
                if is_debris(entry.name):
                    Path(entry.path).unlink(missing_ok=True)
                elif _OURS.match(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat()
                    used_ns = max(status.st_mtime_ns, status.st_atime_ns)
                    found.append(CachedFile(entry.name, status.st_size, used_ns))
        return sorted(found, key=lambda file: (file.used_ns, file.name))

    def unfinished(self) -> Path:
        """A new name to write under."""
        self._unfinished += 1
        return self._directory / f"{self._unfinished}{DEBRIS_SUFFIX}"

    def append(self, path: Path, data: Buffer) -> None:
        """Add ``data`` as a whole, or leave the file as it was."""
        with translate_os_errors(path), path.open("ab", buffering=0) as file:
            size = file.tell()
            view = memoryview(data).cast("B")
            try:
                while view.nbytes:
                    view = view[file.write(view) :]
            except OSError:
                file.truncate(size)
                raise

    def publish(self, path: Path, name: str) -> Path:
        target = self.path_of(name)
        with translate_os_errors(target):
            path.touch()
            os.replace(path, target)
        return target

    def touch(self, name: str) -> bool:
        """Note that the file is used, for the next start; False if it is gone."""
        path = self.path_of(name)
        try:
            with translate_os_errors(path):
                os.utime(path)
        except FileMissing:
            return False
        return True

    def remove(self, paths: list[Path]) -> None:
        for path in paths:
            with translate_os_errors(path):
                path.unlink(missing_ok=True)
