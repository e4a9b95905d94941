"""The recent changes of a metadata store, kept in memory for watches.

Bounded: a watch that asks for older changes than are kept is told so, and reads again instead.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence

from elanus.storage.meta.base import RevisionCompacted, WatchEvent

MAX_EVENTS = 8_192


class EventLog:
    """Events of all revisions > ``compacted_revision``, oldest first."""

    def __init__(self, revision: int, max_events: int = MAX_EVENTS) -> None:
        self.compacted_revision = revision
        self._events: deque[WatchEvent] = deque()
        self._dropped = 0
        self._max_events = max_events
        self._changed = asyncio.Event()
        self._closed = False

    def publish(self, events: Sequence[WatchEvent]) -> None:
        """Add the events of one revision; watches see them when they next run."""
        self._events.extend(events)
        while len(self._events) > self._max_events:
            # The rest of that revision is useless too: a watch delivers whole revisions or none.
            self.compacted_revision = self._events[0].revision
            while self._events and self._events[0].revision <= self.compacted_revision:
                self._events.popleft()
                self._dropped += 1
        self._wake()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        if from_revision <= self.compacted_revision:
            raise RevisionCompacted(from_revision, self.compacted_revision)
        cursor = self._first_at(from_revision)
        while not self._closed:
            if cursor < self._dropped:
                raise RevisionCompacted(from_revision, self.compacted_revision)
            index = cursor - self._dropped
            if index == len(self._events):
                await self._changed.wait()
                continue
            event = self._events[index]
            cursor += 1
            if event.revision >= from_revision and event.key.startswith(prefix):
                yield event

    def _first_at(self, revision: int) -> int:
        """Number of the first event at or after ``revision``, counted from the first ever."""
        for index, event in enumerate(self._events):
            if event.revision >= revision:
                return self._dropped + index
        return self._dropped + len(self._events)
