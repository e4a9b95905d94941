"""Reading a log on objects: what is there now, with fragments fetched ahead; and following it.

A listing tells which objects hold which fragments. They are fetched in order, several at a time,
and decoded one after another. If one is gone meanwhile, because it was merged or truncated, the
log is listed again. A fragment that stays away from the midst of the log is an error.

Following goes on by name: the next fragment's name is known, and so is where the log goes on when
a segment ends. The writer of the same process says when there is something new; for another
process's appends the next name is asked for, less and less often while nothing comes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sized

from elanus.errors import CorruptData
from elanus.storage.objects.base import ObjectNotFound
from elanus.storage.wal._fragments import Fragment, IndexEntry, Kind, number_of
from elanus.storage.wal._growth import Growth
from elanus.storage.wal._woodpecker_layout import Layout, Missing, Unit
from elanus.storage.wal._woodpecker_log import LogObjects
from elanus.storage.wal.base import WalRecord

_MAX_AHEAD_BYTES = 64 << 20
_MAX_LISTINGS_WITHOUT_PROGRESS = 5
_FIRST_POLL_S = 0.02
_LAST_POLL_S = 2.0
_POLL_BESIDE_WRITER_S = 30.0
"""The writer of this process may have been fenced without knowing."""
_POLLS_BETWEEN_LISTINGS = 16


class LogReader:
    """Gives each record at a position > ``after`` once, over any number of calls.

    ``segment`` and ``number``: where the next fragment will be.
    """

    def __init__(self, log: LogObjects, after: int) -> None:
        self._log = log
        self._after = after
        self._max_ahead = log.settings.logstore.segment_read_policy.max_fetch_threads
        self._index: dict[int, IndexEntry] = {}
        self.segment = 0
        self.number = number_of(after)

    async def read(self) -> AsyncIterator[WalRecord]:
        """What is durable now, found by listing. Raises CorruptData."""
        attempts = 0
        while True:
            before = self.number
            layout = await self._log.layout()
            self._place(layout)
            try:
                async for fragment in self._fetch(layout.units_from(self.number)):
                    for record in self._take(fragment):
                        yield record
            except (ObjectNotFound, Missing) as error:
                attempts = 0 if self.number > before else attempts + 1
                if attempts == _MAX_LISTINGS_WITHOUT_PROGRESS:
                    raise CorruptData(f"the log {self._log.name} lacks {error}") from error
                continue
            return

    async def walk(self) -> AsyncIterator[WalRecord]:
        """What has come behind what was read, found by name."""
        while True:
            key = self._log.names.fragment(self.segment, self.number)
            try:
                data = await self._log.get(key)
            except ObjectNotFound:
                return
            for fragment in await self._log.decode(key, data, self.number, self.number):
                for record in self._take(fragment):
                    yield record

    def _place(self, layout: Layout) -> None:
        """The segment that the next number belongs to, as far as the listing knows."""
        self.number = max(self.number, layout.start)
        known = [each.base for each in layout.segments if each.base <= self.number]
        self.segment = max([self.segment, layout.start, *known])

    def _take(self, fragment: Fragment) -> Iterator[WalRecord]:
        header = fragment.header
        if header.number < self.number:
            return  # read before, from another object
        if header.segment != self.segment:
            self.segment = header.segment
            self._index.clear()
        self._check(fragment)
        self.number = header.number + 1
        if header.ends_segment:
            self.segment = self.number
        for record in fragment.records():
            if record.position > self._after:
                self._after = record.position
                yield record

    def _check(self, fragment: Fragment) -> None:
        """What a seal says of the fragments must be what was read."""
        header = fragment.header
        if header.kind is Kind.DATA:
            self._index[header.number] = IndexEntry.of(header)
            return
        if header.kind is Kind.SEAL:
            for number, entry in enumerate(fragment.index(), header.segment):
                found = self._index.get(number, entry)
                if found != entry:
                    raise CorruptData(
                        f"fragment {number} of the log {self._log.name} is not the one that was "
                        f"written: {found} instead of {entry}"
                    )

    async def _fetch(self, units: Iterator[tuple[object, Unit]]) -> AsyncIterator[Fragment]:
        """The fragments of the objects, in order, fetched ahead."""
        ahead: deque[tuple[Unit, asyncio.Task[list[Fragment]]]] = deque()
        ahead_bytes = 0
        plan = _Plan(units)
        try:
            while ahead or plan.unit is not None:
                while plan.unit is not None and self._may_fetch(plan.unit, ahead, ahead_bytes):
                    unit = plan.unit
                    ahead.append((unit, asyncio.ensure_future(self._log.fragments(unit))))
                    ahead_bytes += unit.size_bytes
                    plan.advance()
                unit, task = ahead[0]
                fragments = await task
                ahead.popleft()
                ahead_bytes -= unit.size_bytes
                for fragment in fragments:
                    yield fragment
            if plan.missing is not None:
                raise plan.missing
        finally:
            for _, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)

    def _may_fetch(self, unit: Unit, ahead: Sized, ahead_bytes: int) -> bool:
        if not ahead:
            return True
        return len(ahead) < self._max_ahead and ahead_bytes + unit.size_bytes <= _MAX_AHEAD_BYTES


class _Plan:
    """The objects to be fetched. What is missing counts when all before it was read."""

    def __init__(self, units: Iterator[tuple[object, Unit]]) -> None:
        self._units = units
        self.unit: Unit | None = None
        self.missing: Missing | None = None
        self.advance()

    def advance(self) -> None:
        try:
            _, self.unit = next(self._units, (None, None))
        except Missing as error:
            self.unit, self.missing = None, error


async def follow(
    log: LogObjects, growth: Growth, acknowledged: Callable[[], int | None], after: int
) -> AsyncIterator[WalRecord]:
    """Records behind ``after``, then those of each growth, until the growth ends.
    ``acknowledged``: what this process's writer says, None if it has none."""
    reader = LogReader(log, after)
    idle_polls = 0
    source: Callable[[], AsyncIterator[WalRecord]] = reader.read
    while not growth.ended:
        seen = growth.count
        is_growing = False
        async for record in source():
            is_growing = True
            yield record
        was_listed, source = source == reader.read, reader.walk
        if is_growing:
            idle_polls = 0
            continue
        durable = acknowledged()
        if not was_listed and durable is not None and durable > reader.number:
            source = reader.read  # what had this name was merged meanwhile
            continue
        pause_s = min(_FIRST_POLL_S * 2 ** min(idle_polls, 16), _LAST_POLL_S)
        if durable is not None:
            pause_s = _POLL_BESIDE_WRITER_S
        grown = await growth.wait(seen, log.world.clock, pause_s)
        idle_polls = 0 if grown else idle_polls + 1
        if idle_polls % _POLLS_BETWEEN_LISTINGS == _POLLS_BETWEEN_LISTINGS - 1:
            source = reader.read
