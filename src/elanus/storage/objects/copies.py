"""Local copies of remote objects that somebody keeps mapped.

A file that is unlinked while it is mapped goes on taking its room on the disk. So a store of copies
removes a file that is held only if its holder lets go of it.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol


class Holder(Protocol):
    """Who uses the copy of one object through a mapping.

    used: when it did last, on a clock that all holders of a store share.
    """

    used: int

    def let_go(self) -> list[Any] | None:
        """Stop using the copy: what the mapping lives in, to be freed in a thread because that may
        take long. None: it is needed now. Called on the event loop."""
        ...


@dataclass
class CopyStats:
    """What a store did with its copies since the process began."""

    hits: int = 0
    misses: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    evicted: int = 0
    evicted_bytes: int = 0


class LocalCopies(ABC):
    """Local files with a bound on their size in all.

    max_bytes: the bound; high_bytes: size from which files are evicted; low_bytes: down to which.
    """

    max_bytes: int
    high_bytes: int
    low_bytes: int
    stats: CopyStats
    is_short = False
    """Whether somebody waits for room."""

    @abstractmethod
    def hold(self, key: str, holder: Holder) -> None:
        """From now on the copy of ``key``, there already or not, goes only with the consent of
        ``holder``, which takes the place of a former one."""

    @abstractmethod
    def release(self, key: str, holder: Holder) -> None:
        """``holder`` has no use for the copy any more."""

    @abstractmethod
    def note_room(self) -> None:
        """A holder that refused to let go would not refuse now."""

    @property
    @abstractmethod
    def used_bytes(self) -> int:
        """Size of the files, and of the downloads under way as they will be."""

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Size of the files that have a holder."""
