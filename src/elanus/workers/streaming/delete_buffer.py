"""The deletes of a shard that are not yet known to be part of every loaded sealed segment.

Entries are in timestamp order, which is WAL order. An entry goes when both hold: it is in object
storage (an L0 segment of a committed flush), and the loaded view was made from files that contain
it. A sealed segment that is loaded meanwhile gets the later entries from here.
"""

from bisect import bisect_right
from dataclasses import dataclass

from elanus.services.messages import PrimaryKeys


@dataclass(frozen=True, slots=True)
class BufferedDelete:
    """The deletes of one write: its timestamp and its position in the pchannel's WAL."""

    timestamp: int
    position: int
    deletes: tuple[PrimaryKeys, ...]

    @property
    def row_count(self) -> int:
        return sum(len(part.keys) for part in self.deletes)

    @property
    def size_bytes(self) -> int:
        return sum(int(part.keys.nbytes) for part in self.deletes)


class DeleteBuffer:
    """Deletes in timestamp order; see the module. ``flushed_ts``: those up to it are in objects."""

    def __init__(self) -> None:
        self._entries: list[BufferedDelete] = []
        self.flushed_ts = 0
        self.forgotten_ts = 0
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, entry: BufferedDelete) -> None:
        assert not self._entries or self._entries[-1].timestamp < entry.timestamp
        self._entries.append(entry)
        self.size_bytes += entry.size_bytes

    def after(self, timestamp: int) -> list[BufferedDelete]:
        """Entries with a larger timestamp."""
        start = bisect_right(self._entries, timestamp, key=lambda entry: entry.timestamp)
        return self._entries[start:]

    def unflushed(self) -> list[BufferedDelete]:
        return self.after(self.flushed_ts)

    def mark_flushed(self, timestamp: int) -> None:
        self.flushed_ts = max(self.flushed_ts, timestamp)

    def forget(self, upto_ts: int) -> int:
        """Drop the flushed entries up to ``upto_ts``; gives the bytes that this freed."""
        upto_ts = min(upto_ts, self.flushed_ts)
        end = bisect_right(self._entries, upto_ts, key=lambda entry: entry.timestamp)
        freed = sum(entry.size_bytes for entry in self._entries[:end])
        if end:
            self.forgotten_ts = max(self.forgotten_ts, self._entries[end - 1].timestamp)
            del self._entries[:end]
        self.size_bytes -= freed
        return freed
