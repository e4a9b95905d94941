"""The owner of one pchannel: its WAL writer, its queue and its commit loop.

Order of one group commit: take what is queued → drop what is no longer valid → one range of
timestamps → each part gets its growing segment → one append, one fsync → apply in order → the safe
time passes the group → answers. While an append is in flight the next group queues up, its bodies
already encoded. Exactly one group is in flight, so WAL order is timestamp order, and between two
groups the state of every shard is that of a whole prefix of the WAL: seals and control records run
there, alone.

If an append fails nothing of its group is applied and its writers get the error. After any error
but a full disk the writer is not trusted any more: the pchannel is ``broken``, refuses writes, and
asks its owner to recover it from the WAL.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from elanus.config.settings import Settings
from elanus.errors import (
    DiskFull,
    ElanusError,
    FencedWriter,
    NotServed,
    TooManyRequests,
    Unavailable,
)
from elanus.model.catalog import CollectionInfo, IndexInfo
from elanus.runtime.world import World
from elanus.services.interfaces import TimestampOracle
from elanus.services.messages import FlushTicket, WriteRequest
from elanus.storage.objects.base import Buffer
from elanus.storage.wal.base import WalWriter
from elanus.workers.streaming.apply import Applier, Apply
from elanus.workers.streaming.group import (
    PendingWrite,
    SegmentIds,
    Step,
    assign,
    encode_group,
    request_bytes,
    shard_of,
    unassign,
)
from elanus.workers.streaming.records import EncodedWrite, encode_bodies, encode_collection
from elanus.workers.streaming.seal_policy import SealLimits, is_full
from elanus.workers.streaming.shard import Shard
from elanus.workers.streaming.tsafe import SafeTime

log = structlog.get_logger(__name__)

_MAX_GROUP_WRITES = 256
"""Bounds what one step of a commit does on the event loop: about 10 µs for each write."""
_ANSWERS_PER_TURN = 32
"""Writers that are woken before everybody else gets a turn: each has an answer to make."""
_ENCODE_ON_LOOP_WRITES = 32
_MAX_GROUP_BYTES = 64 << 20
_ENCODE_ON_LOOP_BYTES = 256 << 10

T = TypeVar("T")


class Pchannel:
    """See the module. ``shards``: by vchannel. Records up to ``last_position`` are applied."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        oracle: TimestampOracle,
        *,
        name: str,
        term: int,
        writer: WalWriter,
        safe_time: SafeTime,
        applier: Applier,
        shards: dict[str, Shard],
        last_position: int,
        on_sealed: Callable[["Pchannel", Shard], None],
        on_grown: Callable[["Pchannel", Shard], None],
        on_broken: Callable[["Pchannel", ElanusError], None],
    ) -> None:
        self.name = name
        self.term = term
        self.safe_time = safe_time
        self.shards = shards
        self.last_position = last_position
        self.broken: ElanusError | None = None
        self._world = world
        self._oracle = oracle
        self._writer = writer
        self._applier = applier
        self._on_sealed = on_sealed
        self._on_grown = on_grown
        self._on_broken = on_broken
        self._limits = SealLimits.of(settings.data_coord.segment)
        self._max_pending_bytes = settings.streaming.max_pending_bytes
        self._ids = SegmentIds(oracle)
        self._queue: deque[PendingWrite | Step] = deque()
        self._in_flight: list[PendingWrite] = []
        self._running_step: Step | None = None
        self._pending_bytes = 0
        self._is_unsure = False
        self._wakeup = asyncio.Event()
        self._closing = False
        self.ended = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop_task = self._world.tasks.spawn(f"commit {self.name}", self._run())

    async def close(self) -> None:
        """Stop after the group in flight; what still queues is refused."""
        self._closing = True
        self._wakeup.set()
        if self._loop_task is not None:
            await asyncio.wait([self._loop_task])
        await self._writer.close()

    # --- what callers ask -----------------------------------------------------------------------

    async def write(self, request: WriteRequest) -> int:
        """The write's timestamp, once it is durable and applied."""
        self._check_serving()
        if any(part.rows.num_rows == 0 for part in request.inserts):
            filled = tuple(part for part in request.inserts if part.rows.num_rows)
            request = replace(request, inserts=filled)
        shard = shard_of(self.shards, request)
        size_bytes = request_bytes(request)
        if self._pending_bytes and self._pending_bytes + size_bytes > self._max_pending_bytes:
            raise TooManyRequests(
                f"{self._pending_bytes} bytes of writes wait for the log of {self.name}, at most "
                f"{self._max_pending_bytes} may: too many concurrent requests, send again later"
            )
        self._world.memory.reserve("growing", size_bytes)
        self._pending_bytes += size_bytes
        taken = False
        try:
            encoded = await self._encode(request, size_bytes)
            self._check_serving()
            answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            self._queue.append(PendingWrite(request, shard, encoded, size_bytes, answer))
            taken = True
        finally:
            if not taken:
                self._give_back(size_bytes)
        self._wakeup.set()
        return await answer

    async def seal(self, shard: Shard, segment_ids: tuple[int, ...] | None = None) -> FlushTicket:
        """Seal the shard's growing segments (or the ones named) and have them flushed."""

        async def run() -> FlushTicket:
            self.safe_time.begin()
            try:
                flush_ts = await self._oracle.allocate_timestamps(1)
                self.safe_time.allocated(flush_ts, 1)
            finally:
                self.safe_time.finish()
            sealed = tuple(shard.seal(segment_ids))
            if segment_ids is None:
                shard.flush_requested_ts = max(shard.flush_requested_ts, flush_ts)
            self._on_sealed(self, shard)
            return FlushTicket(vchannel=shard.vchannel, segment_ids=sealed, flush_ts=flush_ts)

        return await self._between_groups(run)

    async def update_collection(
        self, shard: Shard, collection: CollectionInfo, indexes: tuple[IndexInfo, ...]
    ) -> int:
        """Append the control record, then let it take effect; its timestamp. An earlier state than
        the shard's changes nothing: announcements overtake each other on their way."""

        async def run() -> int:
            if collection.revision < shard.collection.revision:
                return self.safe_time.safe_ts
            self.safe_time.begin()
            try:
                timestamp = await self._oracle.allocate_timestamps(1)
                self.safe_time.allocated(timestamp, 1)
                record = encode_collection(shard.vchannel, timestamp, collection, indexes)
                positions = await self._append([record])
                self.apply_collection(shard, collection, indexes)
                self.last_position = positions[-1]
            except ElanusError:
                self._end_failed_group()
                raise
            self.safe_time.finish()
            return timestamp

        return await self._between_groups(run)

    def apply_collection(
        self, shard: Shard, collection: CollectionInfo, indexes: tuple[IndexInfo, ...]
    ) -> None:
        """Let a change take effect: fields may be new, dropped partitions' rows go."""
        shard.set_collection(collection, indexes)
        self._world.memory.release("growing", shard.drop_lost_partitions())

    # --- the loop -------------------------------------------------------------------------------

    async def _run(self) -> None:
        refusal: ElanusError = Unavailable(f"the log {self.name} is being closed or moved")
        try:
            while not self._closing and self.broken is None:
                if not self._queue:
                    self._wakeup.clear()
                    await self._wakeup.wait()
                    continue
                head = self._queue[0]
                if isinstance(head, Step):
                    self._queue.popleft()
                    self._running_step = head
                    await head.run()
                    self._running_step = None
                else:
                    await self._commit(self._take_group())
        except Exception as error:
            # A group may be durable without being applied: only the WAL knows what holds now.
            self._break(Unavailable(f"the log {self.name} has to be recovered: {error}"))
            raise
        finally:
            if self.broken is None:
                self.broken = refusal
            self.ended.set()
            self.safe_time.abandon()
            self._abandon(f"the log {self.name} is not served here now")

    def _take_group(self) -> list[PendingWrite]:
        """Writes from the head of the queue, up to the next step, that are still valid."""
        group: list[PendingWrite] = []
        size_bytes = 0
        while self._queue and len(group) < _MAX_GROUP_WRITES and size_bytes < _MAX_GROUP_BYTES:
            head = self._queue[0]
            if isinstance(head, Step):
                break
            self._queue.popleft()
            if head.answer.cancelled():
                self._give_back(head.size_bytes)
                continue
            try:
                head.shard = shard_of(self.shards, head.request)
            except ElanusError as error:
                self._fail(head, error)
                continue
            group.append(head)
            size_bytes += head.size_bytes
        return group

    async def _commit(self, group: list[PendingWrite]) -> None:
        if not group:
            return
        self._in_flight = group
        self.safe_time.begin()
        try:
            first_ts = await self._oracle.allocate_timestamps(len(group))
            self.safe_time.allocated(first_ts, len(group))
            await self._ids.ensure(sum(len(write.request.inserts) for write in group))
            assign(group, self._limits, self._ids)
            if len(group) <= _ENCODE_ON_LOOP_WRITES:
                records = encode_group(group, first_ts)
            else:
                records = await self._world.executor.run("compute", encode_group, group, first_ts)
            positions = await self._append(records)
        except ElanusError as error:
            self._end_failed_group()
            unassign(group)
            self._settle(group)
            self._in_flight = []
            failure = error
            if isinstance(error, FencedWriter):
                failure = Unavailable(f"another node took over the log {self.name} meanwhile")
            for write in group:
                self._fail(write, failure)
            return
        applies = [
            Apply(write.shard, write.request, first_ts + n, position, write.segments)
            for n, (write, position) in enumerate(zip(group, positions, strict=True))
        ]
        await self._applier.apply(applies)
        self.last_position = positions[-1]
        self.safe_time.finish()
        self._pending_bytes -= sum(write.size_bytes for write in group)
        self._settle(group)
        for n, write in enumerate(group):
            if n and n % _ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)
            if not write.answer.done():
                write.answer.set_result(first_ts + n)
        self._in_flight = []

    async def _append(self, records: list[list[Buffer]]) -> list[int]:
        try:
            self._world.failpoints.hit("wal.before_append")
            positions = await self._writer.append(records)
            self._world.failpoints.hit("wal.after_append")
        except DiskFull:
            raise
        except ElanusError as error:
            self._is_unsure = not await self._takes_appends()
            self._break(error)
            raise
        return positions

    async def _takes_appends(self) -> bool:
        """A writer that goes on after an error has taken back all of what failed."""
        try:
            await self._writer.append([])
        except ElanusError:
            return False
        return True

    def _end_failed_group(self) -> None:
        """A group that may turn out to be in the log stays in flight: no later instant is safe
        until the log was read again."""
        if not self._is_unsure:
            self.safe_time.finish()

    def _break(self, error: ElanusError) -> None:
        """The writer can't be trusted any more: refuse writes until the WAL was read again."""
        log.warning(
            "append failed, the log will be recovered", pchannel=self.name, error=str(error)
        )
        self.broken = error
        self._on_broken(self, error)

    def _settle(self, group: list[PendingWrite]) -> None:
        """The group is over: seal what it filled, watch what it left growing."""
        shards = {write.shard.vchannel: write.shard for write in group}
        for shard in shards.values():
            if self.shards.get(shard.vchannel) is not shard:
                self._world.memory.release("growing", shard.drop_everything())
                continue
            for growing in list(shard.current.values()):
                if is_full(growing.assigned_bytes, self._limits):
                    shard.retire(growing)
            if shard.seal(()):
                self._on_sealed(self, shard)
            self._on_grown(self, shard)

    # --- helpers --------------------------------------------------------------------------------

    async def _encode(self, request: WriteRequest, size_bytes: int) -> EncodedWrite:
        if size_bytes <= _ENCODE_ON_LOOP_BYTES:
            return encode_bodies(request)
        return await self._world.executor.run("compute", encode_bodies, request)

    async def _between_groups(self, run: Callable[[], Awaitable[T]]) -> T:
        self._check_serving()
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        async def step() -> None:
            try:
                result = await run()
            except ElanusError as error:
                abandon(error)
            else:
                if not answer.done():
                    answer.set_result(result)

        def abandon(error: ElanusError) -> None:
            if not answer.done():
                answer.set_exception(error)

        self._queue.append(Step(step, abandon))
        self._wakeup.set()
        return await answer

    def _check_serving(self) -> None:
        if self._closing or self.broken is not None:
            raise NotServed(f"the log {self.name} is being recovered, try again")

    def _give_back(self, size_bytes: int) -> None:
        self._pending_bytes -= size_bytes
        self._world.memory.release("growing", size_bytes)

    def _fail(self, write: PendingWrite, error: ElanusError) -> None:
        self._give_back(write.size_bytes)
        if not write.answer.done():
            write.answer.set_exception(error)

    def _abandon(self, reason: str) -> None:
        """What was under way may have happened; what queues has not."""
        for write in self._in_flight:
            if not write.answer.done():
                write.answer.set_exception(Unavailable(reason))
        if self._running_step is not None:
            self._running_step.abandon(Unavailable(reason))
        error = NotServed(reason)
        while self._queue:
            head = self._queue.popleft()
            if isinstance(head, Step):
                head.abandon(error)
            else:
                self._fail(head, error)
