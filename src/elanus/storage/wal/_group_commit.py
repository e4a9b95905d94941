"""Which appends share an object, and in which order they are acknowledged. Decisions only.

Appends queue up. Whenever an upload may begin, ``take`` makes a fragment of what has gathered, up
to a size; records of one append may go to several fragments, each record to one. ``finish`` takes
uploads in any order and gives the appends that are durable together with all before them.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from elanus.config.storage import WoodpeckerSettings
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._fragments import INDEX_BITS, MAX_RECORDS, IndexEntry


@dataclass(slots=True, eq=False)
class Append:
    """``positions`` fills as its records are put into fragments."""

    records: Sequence[Sequence[Buffer]]
    sizes: list[int]
    since_s: float
    answer: "asyncio.Future[list[int]]"
    positions: list[int] = field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        return len(self.positions) == len(self.records)


@dataclass(slots=True, eq=False)
class Outgoing:
    """A fragment to be uploaded. ``ending``: appends whose last record it holds."""

    number: int
    size_bytes: int = 0
    records: list[Sequence[Buffer]] = field(default_factory=list)
    ending: list[Append] = field(default_factory=list)
    entry: IndexEntry | None = None


class GroupCommit:
    """The fragments of one segment after the other. ``acknowledged``: numbers below are durable.
    ``last_position``: of what is acknowledged in this segment, -1 if nothing is."""

    def __init__(self, settings: WoodpeckerSettings, segment: int, now_s: float) -> None:
        self._sync = settings.logstore.segment_sync_policy
        self._rolling = settings.client.segment_rolling_policy
        self._queue: deque[Append] = deque()
        self._unacknowledged: dict[int, Outgoing] = {}
        self._finished: set[int] = set()
        self.waiting_bytes = 0
        self.pending_bytes = 0
        self.begin_segment(segment, now_s)

    def begin_segment(self, segment: int, now_s: float) -> None:
        """The segment before has ended; its end had the number before ``segment``."""
        self.segment = self.next_number = self.acknowledged = segment
        self.last_position = -1
        self.index: list[IndexEntry] = []
        self._segment_bytes = 0
        self._segment_since_s = now_s

    # --- in ---------------------------------------------------------------------------------------

    def has_room_for(self, size_bytes: int) -> bool:
        return not self.pending_bytes or self.pending_bytes + size_bytes <= self._sync.max_bytes

    def add(self, append: Append) -> None:
        size_bytes = sum(append.sizes)
        self._queue.append(append)
        self.waiting_bytes += size_bytes
        self.pending_bytes += size_bytes

    # --- out --------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._unacknowledged

    @property
    def is_drained(self) -> bool:
        """Nothing is in flight; something may wait."""
        return not self._unacknowledged

    def segment_is_full(self, now_s: float) -> bool:
        count = self.next_number - self.segment
        return count > 0 and (
            count >= self._rolling.max_blocks
            or self._segment_bytes >= self._rolling.max_size
            or now_s - self._segment_since_s >= self._rolling.max_interval
        )

    def linger_s(self, now_s: float) -> float | None:
        """How long what waits may still gather; None if nothing waits."""
        if not self._queue:
            return None
        if self.waiting_bytes >= self._sync.max_flush_size:
            return 0.0
        return max(0.0, self._queue[0].since_s + self._sync.max_interval / 1_000 - now_s)

    def take(self) -> Outgoing:
        """The next fragment. Something must wait."""
        fragment = Outgoing(self.next_number)
        while self._queue and len(fragment.records) < MAX_RECORDS:
            append = self._queue[0]
            size_bytes = append.sizes[len(append.positions)]
            if fragment.records and fragment.size_bytes + size_bytes > self._sync.max_flush_size:
                break
            fragment.records.append(append.records[len(append.positions)])
            fragment.size_bytes += size_bytes
            append.positions.append(fragment.number << INDEX_BITS | (len(fragment.records) - 1))
            if append.is_taken:
                fragment.ending.append(self._queue.popleft())
        self.waiting_bytes -= fragment.size_bytes
        self.next_number += 1
        self._segment_bytes += fragment.size_bytes
        self._unacknowledged[fragment.number] = fragment
        return fragment

    def finish(self, fragment: Outgoing) -> list[Append]:
        """The upload has succeeded. Gives the appends to be acknowledged now, in order."""
        self._finished.add(fragment.number)
        ready: list[Append] = []
        while self.acknowledged in self._finished:
            self._finished.remove(self.acknowledged)
            done = self._unacknowledged.pop(self.acknowledged)
            assert done.entry is not None
            self.index.append(done.entry)
            self.pending_bytes -= done.size_bytes
            self.last_position = done.number << INDEX_BITS | (len(done.records) - 1)
            self.acknowledged += 1
            ready += done.ending
        return ready

    def abandon(self) -> list[Append]:
        """All that is not acknowledged, in order."""
        lost = [
            append
            for number in sorted(self._unacknowledged)
            for append in self._unacknowledged[number].ending
        ]
        lost += self._queue
        self._queue.clear()
        self._unacknowledged.clear()
        self._finished.clear()
        self.waiting_bytes = self.pending_bytes = 0
        return lost
