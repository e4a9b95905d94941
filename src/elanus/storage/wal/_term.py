"""The file ``term`` of a pchannel's local log: the newest term that opened a writer.

It is only ever replaced as a whole. A writer asks with each append whether it is still the newest,
so that the answer must be cheap: :class:`TermGuard` reads the file once and from then on only asks
whether its name still leads to the file that was read. That file is kept open, so that no later
one can be mistaken for it.

All functions block.
"""

import zlib
from pathlib import Path

from elanus.errors import CorruptData
from elanus.storage.disk import Disk, FileMissing, FileWatch

_TERM_FILE = "term"


def read_term(disk: Disk, directory: Path) -> int:
    """0 before the first."""
    path = directory / _TERM_FILE
    try:
        text = disk.read_file(path)
    except FileMissing:
        return 0
    term, _, checksum = text.strip().partition(b" ")
    if checksum != b"%08x" % zlib.crc32(term):
        raise CorruptData(f"{path} is damaged: {text[:64]!r}")
    return int(term)


def write_term(disk: Disk, directory: Path, term: int) -> None:
    """Durable on return."""
    digits = b"%d" % term
    disk.write_file_durably(directory / _TERM_FILE, [digits, b" %08x\n" % zlib.crc32(digits)])


class TermGuard:
    """``newest`` is what :func:`read_term` would give, at the price of looking at a name."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk = disk
        self._directory = directory
        self._watch: FileWatch | None = None
        self._term = 0

    def newest(self) -> int:
        if self._watch is None or not self._watch.is_unchanged():
            self.close()
            # In this order: a file that comes after the one read is not the one watched.
            self._watch = self._begin_watch()
            self._term = read_term(self._disk, self._directory)
        return self._term

    def _begin_watch(self) -> FileWatch | None:
        try:
            return self._disk.watch_file(self._directory / _TERM_FILE)
        except FileMissing:
            return None

    def close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()
