"""The one writer of a log on objects: uploads fragments, acknowledges in order, ends segments.

``segment`` is its own: it has put the object that ended the one before. Every fragment is put
create-only under the next number, several at a time; an append is acknowledged when its fragments
and all before them are there. So a number that somebody else has taken (a fence) stops this
writer: nothing at or behind it is ever acknowledged.

After a failed upload its outcome is unknown: the writer refuses until the log is opened again,
which decides by a fence. A segment ends when nothing is in flight, by a seal with its index.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from elanus.errors import ElanusError, FencedWriter, ParameterTooLarge, TooManyRequests, Unavailable
from elanus.storage.objects.base import Buffer, ObjectExists, ObjectNotFound
from elanus.storage.uncancelled import run_to_end
from elanus.storage.wal._fragments import (
    MAX_PAYLOAD_BYTES,
    Header,
    IndexEntry,
    Kind,
    encode_index,
    encode_records,
)
from elanus.storage.wal._group_commit import Append, GroupCommit, Outgoing
from elanus.storage.wal._growth import Growth
from elanus.storage.wal._woodpecker_log import MAX_INLINE_BYTES, LogObjects, Owner
from elanus.storage.wal.base import WalWriter

TRUSTED_S = 600.0
"""A fence of this age is certainly still there: truncation keeps fences for days."""


class WoodpeckerWriter(WalWriter):
    """``on_sealed``: told when a segment has ended because it was full."""

    def __init__(
        self,
        log: LogObjects,
        owner: Owner,
        segment: int,
        growth: Growth,
        on_sealed: Callable[[], None],
    ) -> None:
        self.owner = owner
        self._log = log
        self._growth = growth
        self._on_sealed = on_sealed
        self._clock = log.world.clock
        self._threads = log.settings.logstore.segment_sync_policy.max_flush_threads
        self._commit = GroupCommit(log.settings, segment, self._clock.monotonic_s())
        self._confirmed = self._instant()
        self._refusal: ElanusError | None = None
        self._uploads: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.Task[None] | None = None
        self._is_pump_due = False
        self._hurries = False
        self._roll_wanted = False
        self._is_sealing = False
        self._is_over = False
        self._changed = asyncio.Event()

    @property
    def acknowledged(self) -> int | None:
        """Numbers below are durable; None if this writer doesn't take appends any more."""
        return self._commit.acknowledged if self._refusal is None else None

    # --- what callers ask -------------------------------------------------------------------------

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        if self._refusal is not None:
            raise self._refusal
        if not records:
            return []
        sizes = [sum(memoryview(part).nbytes for part in parts) for parts in records]
        if max(sizes) > MAX_PAYLOAD_BYTES:
            raise ParameterTooLarge(
                f"a write of {max(sizes)} bytes exceeds the log's limit of {MAX_PAYLOAD_BYTES}"
            )
        if not self._commit.has_room_for(sum(sizes)):
            raise TooManyRequests(
                f"{self._commit.pending_bytes} bytes wait for their upload to the log "
                f"{self._log.name}, {sum(sizes)} more are too many, send again later"
            )
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._commit.add(Append(records, sizes, self._clock.monotonic_s(), answer))
        self._log.counters.appends += 1
        self._log.counters.records += len(records)
        self._pump_soon()
        return await answer

    async def roll_if_covered(self, upto: int) -> None:
        """End the segment if it has records and all of them are at positions up to ``upto``."""
        segment = self._commit.segment
        if not self._commit.is_idle or not 0 <= self._commit.last_position <= upto:
            return
        self._roll_wanted = True
        self._pump_soon()
        while self._refusal is None and self._commit.segment == segment:
            await self._changed.wait()

    async def close(self) -> None:
        """Appends are refused from now on; those in flight come to their end."""
        await run_to_end(self._close())

    async def _close(self) -> None:
        closed = FencedWriter(f"this writer of the log {self._log.name} is closed")
        self._hurries = True
        if self._refusal is None:
            self._refusal = closed
            self._pump_soon()
            while not self._commit.is_idle or self._is_sealing:
                await self._changed.wait()
        self._stop(closed)
        if self._uploads:
            await asyncio.wait(self._uploads)

    # --- uploads ----------------------------------------------------------------------------------

    def _pump_soon(self) -> None:
        """Let the appends of this turn of the loop gather."""
        if not self._is_pump_due:
            self._is_pump_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        """Begin the uploads that may begin."""
        self._is_pump_due = False
        if self._is_over:
            return
        while len(self._uploads) < self._threads and not self._is_sealing:
            now_s = self._clock.monotonic_s()
            linger_s = self._commit.linger_s(now_s)
            if self._roll_wanted or (linger_s is not None and self._commit.segment_is_full(now_s)):
                self._seal_when_drained()
                return
            if linger_s is None:
                return
            if linger_s > 0 and not self._hurries:
                self._pump_after(linger_s)
                return
            fragment = self._commit.take()
            self._spawn(f"upload {fragment.number}", partial(self._upload, fragment))

    def _pump_after(self, seconds: float) -> None:
        async def wait() -> None:
            await self._clock.sleep(seconds)
            self._alarm = None
            self._pump()

        if self._alarm is None:
            self._alarm = self._log.world.tasks.spawn(f"linger {self._log.name}", wait())

    def _spawn(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await step()
            except ObjectExists:
                await self._lose()
            except ElanusError as error:
                self._break(f"{what} failed: {error}")

        task = self._log.world.tasks.spawn(f"{self._log.name}: {what}", run())
        self._uploads.add(task)
        task.add_done_callback(self._uploaded)

    def _uploaded(self, task: asyncio.Task[None]) -> None:
        self._uploads.discard(task)
        if task.cancelled() or task.exception() is not None:
            self._break(f"{task.get_name()} was cut off")
        self._note_change()
        self._pump()

    async def _upload(self, fragment: Outgoing) -> None:
        begun = self._instant()
        commit = self._commit
        blank = self.owner.header(
            Kind.DATA, commit.segment, fragment.number, complete_before=commit.acknowledged
        )
        if fragment.size_bytes <= MAX_INLINE_BYTES:
            header, body = encode_records(blank, fragment.records)
        else:
            run = self._log.world.executor.run
            header, body = await run("compute", encode_records, blank, fragment.records)
        fragment.entry = IndexEntry.of(header)
        self._log.world.failpoints.hit("wal.append.before_write")
        await self._log.put(self._log.names.fragment(header.segment, header.number), header, body)
        self._log.world.failpoints.hit("wal.append.after_sync")
        await self._confirm(header)
        if self._is_over:
            return
        self._log.counters.fragments += 1
        acknowledged = commit.finish(fragment)
        if commit.acknowledged > fragment.number:
            self._confirmed = begun
        for append in acknowledged:
            if not append.answer.done():
                append.answer.set_result(append.positions)
        self._growth.notify()

    async def _confirm(self, header: Header) -> None:
        """The put of a number was success. Was it free because a fence had been cleared away?"""
        waited_s = max(
            after - before for before, after in zip(self._confirmed, self._instant(), strict=True)
        )
        if waited_s > TRUSTED_S and await self._log.start() > header.segment:
            raise ObjectExists(self._log.names.fragment(header.segment, header.number))

    def _instant(self) -> tuple[float, float]:
        """On both clocks: one stands still while a machine is suspended, the other may step."""
        return self._clock.monotonic_s(), self._clock.now_ms() / 1_000

    # --- the end of a segment, and of the writer --------------------------------------------------

    def _seal_when_drained(self) -> None:
        if self._commit.is_drained and not self._uploads:
            self._is_sealing = True
            is_full = not self._roll_wanted
            self._roll_wanted = False
            self._spawn(f"seal of {self._commit.segment}", partial(self._seal, is_full))

    async def _seal(self, is_full: bool) -> None:
        commit = self._commit
        try:
            number = commit.next_number
            blank = self.owner.header(
                Kind.SEAL,
                commit.segment,
                number,
                tail_count=commit.index[-1].count,
                complete_before=number,
            )
            header, body = encode_index(blank, commit.index)
            begun = self._instant()
            await self._log.put(self._log.names.fragment(commit.segment, number), header, body)
            await self._confirm(header)
            self._confirmed = begun
            commit.begin_segment(number + 1, self._clock.monotonic_s())
        finally:
            self._is_sealing = False
        if is_full:
            self._on_sealed()

    async def _lose(self) -> None:
        """A number was taken by somebody else."""
        by = "another writer"
        try:
            end = await self._log.header(self._commit.segment, self._commit.acknowledged)
            by = f"a writer of term {end.term}"
        except (ElanusError, ObjectNotFound):
            pass  # it is about the message only
        self._stop(
            FencedWriter(
                f"the log {self._log.name} was taken over by {by}, "
                f"this writer has term {self.owner.term}"
            )
        )

    def _break(self, reason: str) -> None:
        if not self._is_over:
            self._stop(Unavailable(f"the log {self._log.name} must be opened again: {reason}"))

    def _stop(self, refusal: ElanusError) -> None:
        """Refuse from now on. What is not acknowledged has an unknown outcome."""
        if not self._is_over or isinstance(refusal, FencedWriter):
            self._refusal = refusal
        self._is_over = True
        for append in self._commit.abandon():
            if not append.answer.done():
                append.answer.set_exception(self._refusal or refusal)
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._uploads:
            if task is not asyncio.current_task():
                task.cancel()
        self._note_change()

    def _note_change(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
