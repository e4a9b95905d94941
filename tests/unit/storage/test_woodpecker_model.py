"""Several processes on one log on objects, against a model of the log.

The processes open at terms old and new, append side by side, truncate, merge, read and follow. Any
of them may be paused with its requests on the way, die, or have requests fail that take effect
later. The model is the log as anybody has seen it: it only ever grows at its end.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from tests.unit.storage.objects_in_trouble import CLUSTER, Connection, LateEffects, process_world
from tests.unit.storage.test_woodpecker_crashes import FATES, SETTINGS, contents

from elanus.errors import ElanusError, FencedWriter
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.wal._woodpecker_upkeep import merge
from elanus.storage.wal.base import WalWriter
from elanus.storage.wal.woodpecker import WoodpeckerWal

T = TypeVar("T")
PROCESSES = 3
PROCESS = st.integers(0, PROCESSES - 1)
SETTLING_TURNS = 150


@dataclass
class Process:
    """``fates``: of its next requests that change something. ``era``: the opening it owns."""

    connection: Connection
    wal: WoodpeckerWal
    fates: list[str] = field(default_factory=list)
    writer: WalWriter | None = None
    era: int = -1
    term: int = 0
    tasks: list["asyncio.Task[Any]"] = field(default_factory=list)
    followed: list[tuple[int, bytes]] = field(default_factory=list)
    followed_from: int = -1
    is_following: bool = False


class Woodpecker(RuleBasedStateMachine):
    """``log``: what has been seen, in order; ``era``: the newest opening that has succeeded."""

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.store = MemoryObjectStore(process_world(0))
        self.late = LateEffects(self.store)
        self.seed = 0
        self.counter = 0
        self.term = 1
        self.era = 0
        self.log: dict[int, bytes] = {}
        self.acknowledged: dict[int, bytes] = {}
        self.sent: dict[bytes, int] = {}
        self.truncated = -1
        self.processes = [self.new_process() for _ in range(PROCESSES)]

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        async def with_patience() -> T:
            async with asyncio.timeout(30):
                return await step

        return self.loop.run_until_complete(with_patience())

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(SETTLING_TURNS):
                await asyncio.sleep(0)

        self.run(turns())

    def new_process(self) -> Process:
        self.seed += 1
        fates: list[str] = []

        def before_request(name: str) -> str:
            changes = name.startswith(("put", "delete"))
            return fates.pop(0) if changes and fates else ""

        connection = Connection(self.store, self.late, before_request, seed=self.seed)
        wal = WoodpeckerWal(process_world(self.seed), connection, SETTINGS, CLUSTER)
        return Process(connection, wal, fates)

    def begin(self, process: Process, step: Coroutine[Any, Any, Any]) -> None:
        process.tasks.append(self.loop.create_task(step))
        self.settle()

    # --- writers ----------------------------------------------------------------------------------

    @rule(number=PROCESS, newer=st.sampled_from([0, 0, 1, 1, -1]))
    def open(self, number: int, newer: int) -> None:
        process = self.processes[number]
        term = max(1, self.term + newer)

        async def open_writer() -> None:
            try:
                writer = await process.wal.open_writer("p", term)
            except FencedWriter:
                assert term < self.term, f"term {term} was refused, {self.term} is the newest"
                return
            except ElanusError:
                return
            self.era += 1
            process.writer, process.era, process.term = writer, self.era, term

        self.term = max(self.term, term)
        self.begin(process, open_writer())

    @rule(number=PROCESS, sizes=st.lists(st.integers(1, 4), min_size=1, max_size=5))
    def append(self, number: int, sizes: list[int]) -> None:
        """Some appends side by side."""
        process = self.processes[number]
        if process.writer is None:
            return
        for size in sizes:
            self.counter += 1
            payloads = [b"%d/%d" % (self.counter, n) for n in range(size)]
            self.sent |= dict.fromkeys(payloads, self.counter)
            process.tasks.append(self.loop.create_task(self._append(process, payloads)))
        self.settle()

    async def _append(self, process: Process, payloads: list[bytes]) -> None:
        writer = process.writer
        assert writer is not None
        was_superseded = process.era < self.era
        try:
            positions = await writer.append([[payload] for payload in payloads])
        except ElanusError:
            return
        assert not was_superseded, "an append to a fenced writer was acknowledged"
        assert positions == sorted(set(positions))
        self.acknowledged.update(zip(positions, payloads, strict=True))

    @rule(number=PROCESS)
    def close_writer(self, number: int) -> None:
        process = self.processes[number]
        if process.writer is not None:
            self.begin(process, process.writer.close())
            process.writer = None

    # --- trouble ----------------------------------------------------------------------------------

    @rule(number=PROCESS, fates=st.lists(st.sampled_from(["", *FATES]), min_size=1, max_size=4))
    def requests_fail(self, number: int, fates: list[str]) -> None:
        self.processes[number].fates[:] = fates

    @rule(number=PROCESS)
    def pause(self, number: int) -> None:
        self.processes[number].connection.hold()

    @rule(number=PROCESS)
    def resume(self, number: int) -> None:
        self.processes[number].connection.release()
        self.settle()

    @rule(number=PROCESS)
    def die(self, number: int) -> None:
        process = self.processes[number]

        async def kill() -> None:
            for task in process.tasks:
                task.cancel()
            await process.wal._world.tasks.close()
            await asyncio.gather(*process.tasks, return_exceptions=True)

        self.run(kill())
        self.check_tasks(process)
        self.processes[number] = self.new_process()

    @precondition(lambda self: self.late.waiting)
    @rule(place=st.integers(0, 20))
    def something_lands_late(self, place: int) -> None:
        self.run(self.late.land(place % len(self.late.waiting)))
        self.settle()

    # --- readers, upkeep --------------------------------------------------------------------------

    @rule(number=PROCESS)
    def read(self, number: int) -> None:
        process = self.processes[number]
        found = self.run(contents(process.wal))
        self.grow(found)
        if self.log:
            middle = sorted(self.log)[len(self.log) // 2]
            if middle >= self.truncated:
                behind = self.run(contents(process.wal, middle))
                assert behind == {p: v for p, v in found.items() if p > middle}

    @rule(number=PROCESS)
    def follow(self, number: int) -> None:
        process = self.processes[number]
        if process.is_following:
            return
        process.is_following = True
        process.followed_from = self.truncated

        async def follow() -> None:
            async for record in process.wal.tail("p", process.followed_from):
                process.followed.append((record.position, bytes(record.payload)))

        self.begin(process, follow())

    @rule(number=PROCESS)
    def time_passes(self, number: int) -> None:
        self.processes[number].wal._world.clock.advance(60)  # type: ignore[attr-defined]
        self.settle()

    @rule(number=PROCESS, back=st.integers(0, 8))
    def truncate(self, number: int, back: int) -> None:
        """Somebody knows that what was seen so far is not needed, but for the last few."""
        process = self.processes[number]
        seen = sorted(self.log)
        if len(seen) <= back:
            return
        upto = seen[-1 - back]
        self.truncated = max(self.truncated, upto)

        async def truncate() -> None:
            try:
                await process.wal.truncate("p", upto)
            except ElanusError:
                return

        self.begin(process, truncate())

    @rule(number=PROCESS)
    def merge(self, number: int) -> None:
        process = self.processes[number]

        async def merge_now() -> None:
            try:
                await merge(process.wal._channel("p").objects)
            except ElanusError:
                return

        self.begin(process, merge_now())

    # --- what must hold ---------------------------------------------------------------------------

    def grow(self, found: dict[int, bytes]) -> None:
        """``found`` is the log as it is now: what was seen before is its beginning."""
        last = max(self.log, default=-1)
        for position, payload in found.items():
            if position <= last:
                assert self.log.get(position) == payload, "the log has changed"
            else:
                self.log[position] = payload
        for position, payload in self.log.items():
            if position > self.truncated:
                assert found.get(position) == payload, "the log has lost a record"
        for position, payload in self.acknowledged.items():
            assert self.log.get(position) == payload, "an acknowledged record was not seen"
        seen = list(self.log.values())
        assert len(set(seen)) == len(seen), "a record is there twice"
        for before, after in pairwise(seen):
            if self.sent[before] == self.sent[after]:
                assert int(before.partition(b"/")[2]) < int(after.partition(b"/")[2])

    @invariant()
    def everybody_sees_the_same(self) -> None:
        if not hasattr(self, "loop"):
            return
        observer = WoodpeckerWal(
            process_world(0), Connection(self.store, self.late), SETTINGS, CLUSTER
        )
        self.grow(self.run(contents(observer)))
        for process in self.processes:
            self.check_tasks(process)
            expected = {p: v for p, v in self.log.items() if p > process.followed_from}
            for position, payload in process.followed:
                assert expected[position] == payload
            positions = [position for position, _ in process.followed]
            assert positions == sorted(set(positions))
            if positions:
                skipped = [p for p in expected if p < positions[-1] and p not in set(positions)]
                assert all(p <= self.truncated for p in skipped), "following has skipped a record"

    def check_tasks(self, process: Process) -> None:
        for task in [task for task in process.tasks if task.done()]:
            process.tasks.remove(task)
            if not task.cancelled():
                task.result()
        assert process.wal._world.tasks.failures == []

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            for process in self.processes:
                process.connection.release()
            self.settle()
            self.heal()
        finally:
            while pending := asyncio.all_tasks(self.loop):
                for task in pending:
                    task.cancel()
                self.loop.run_until_complete(asyncio.wait(pending))
            self.loop.close()

    def heal(self) -> None:
        """A last process takes over and appends; everybody who follows gets there."""
        wal = WoodpeckerWal(
            process_world(10_000), Connection(self.store, self.late), SETTINGS, CLUSTER
        )
        writer = self.run(wal.open_writer("p", self.term + 1))
        self.era += 1
        self.sent[b"end/0"] = -1
        positions = self.run(writer.append([[b"end/0"]]))
        assert positions[0] > max(self.log, default=-1)
        self.acknowledged[positions[0]] = b"end/0"
        for process in self.processes:
            for _ in range(40):
                process.wal._world.clock.advance(60)  # type: ignore[attr-defined]
                self.settle()
        self.everybody_sees_the_same()
        for process in self.processes:
            if process.is_following and not process.fates:
                assert process.followed[-1] == (positions[0], b"end/0")


TestWoodpecker = Woodpecker.TestCase
TestWoodpecker.settings = settings(stateful_step_count=40)
