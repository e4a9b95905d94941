"""The writer of one topic.

Order of an append: messages are numbered and queued in the order of the calls, one wait for all of
their acknowledgements, positions. After any error the writer refuses: the client may have lost some
messages and sent later ones, and only the log knows which. Opening it again decides.

The client sends again what was unacknowledged when it lost its connection. Readers count the first
copy, but the acknowledgement is of the last. Only one writer sends to a topic, so its messages lie
entry after entry; where they don't (a copy in between, a new ledger), the positions of what was
under way are read back from the log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from elanus.errors import (
    CorruptData,
    ElanusError,
    FencedWriter,
    ParameterTooLarge,
    Unavailable,
)
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer
from elanus.storage.uncancelled import run_to_end
from elanus.storage.wal._pulsar_client import Producer
from elanus.storage.wal._pulsar_frames import (
    MAX_RECORD_BYTES,
    Body,
    Entry,
    Header,
    encode,
    open_body,
    plan,
    size_of,
)
from elanus.storage.wal.base import BEFORE_FIRST, WalWriter

# Messages on their way to the broker: at most so many of the largest size.
MAX_IN_FLIGHT_MESSAGES = 32
ENCODE_ON_LOOP_BYTES = 256 << 10

# The entries of this writer's messages after one entry up to another, by number.
ReadBack = Callable[[Entry, Entry, int], Awaitable[dict[int, Entry]]]


class _Acknowledged(NamedTuple):
    """``certain_upto``: set if there may be an earlier copy, after this entry."""

    entry: Entry
    certain_upto: Entry | None


@dataclass(frozen=True, slots=True)
class _Sent:
    body: Body
    number: int
    done: asyncio.Task[_Acknowledged]


class PulsarWalWriter(WalWriter):
    def __init__(
        self,
        world: World,
        producer: Producer,
        read_back: ReadBack,
        *,
        topic: str,
        term: int,
        cluster_id: bytes,
        body_limit_bytes: int,
    ) -> None:
        self.term = term
        self._world = world
        self._producer = producer
        self._read_back = read_back
        self._topic = topic
        self._cluster_id = cluster_id
        self._body_limit_bytes = body_limit_bytes
        self._writer = BEFORE_FIRST
        self._sent = -1
        self._acknowledged = -1
        self._last: Entry | None = None
        self._uncertain_upto = -1
        self._certain_upto: Entry | None = None
        self._refusal: ElanusError | None = None
        self._closed = False
        self._in_order = asyncio.Lock()
        self._window = asyncio.Semaphore(MAX_IN_FLIGHT_MESSAGES)
        self._in_flight: set[asyncio.Task[_Acknowledged]] = set()

    async def open(self, known_term: int, known_upto: Entry | None) -> Entry:
        """Begin: what other writers had under way is before the message returned, or never."""
        upto = BEFORE_FIRST if known_upto is None else known_upto.position()
        sent = await self._send(open_body(known_term, upto))
        opened = (await sent.done).entry
        self._writer = opened.position()
        return opened

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        return await run_to_end(self._append(records))

    async def _append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        async with self._in_order:
            if self._refusal is not None:
                raise self._refusal
            for parts in records:
                if (size := size_of(parts)) > MAX_RECORD_BYTES:
                    raise ParameterTooLarge(
                        f"a write of {size} bytes exceeds the log's limit of {MAX_RECORD_BYTES}"
                    )
            bodies = plan(records, self._body_limit_bytes)
            sent = [await self._send(body) for body in bodies]
        ends = await asyncio.gather(*(one.done for one in sent), return_exceptions=True)
        failed = [end for end in ends if isinstance(end, BaseException)]
        if failed:
            raise failed[0]
        try:
            return await self._positions(sent)
        except ElanusError as error:
            self._refuse(error)
            raise

    async def _send(self, body: Body) -> _Sent:
        await self._window.acquire()
        number = self._sent = self._sent + 1
        header = Header(
            body.kind, self._cluster_id, self.term, self._writer, number, self._acknowledged
        )
        if body.size_bytes <= ENCODE_ON_LOOP_BYTES:
            data = encode(header, body)
        else:
            data = await self._world.executor.run("compute", encode, header, body)
        # Tasks take their first step, which queues the message, in the order of their creation.
        task = asyncio.get_running_loop().create_task(self._acknowledge(number, data))
        self._in_flight.add(task)
        task.add_done_callback(self._landed)
        return _Sent(body, number, task)

    async def _acknowledge(self, number: int, data: bytes) -> _Acknowledged:
        """Acknowledgements come in the order of the messages, and so do the steps below."""
        if self._refusal is not None:
            raise self._refusal
        try:
            entry = await self._producer.send(data)
        except ElanusError as error:
            self._refuse(error)
            raise
        if self._refusal is not None:
            raise self._refusal
        if self._last is not None and not self._last.is_followed_by(entry):
            if self._uncertain_upto < number:
                self._certain_upto = self._last
            self._uncertain_upto = self._sent
        self._last = entry
        self._acknowledged = number
        is_certain = number > self._uncertain_upto
        return _Acknowledged(entry, None if is_certain else self._certain_upto)

    def _landed(self, task: asyncio.Task[_Acknowledged]) -> None:
        self._window.release()
        self._in_flight.discard(task)

    async def _positions(self, sent: list[_Sent]) -> list[int]:
        landed = {one.number: one.done.result() for one in sent}
        entries = {number: one.entry for number, one in landed.items()}
        uncertain = {n: one.certain_upto for n, one in landed.items() if one.certain_upto}
        if uncertain:
            last = entries[max(uncertain)]
            found = await self._read_back(min(uncertain.values()), last, self._writer)
            for number in uncertain:
                if number not in found:
                    raise CorruptData(
                        f"message {number} of the writer of {self._topic} was acknowledged at "
                        f"{entries[number]}, but is not in the log"
                    )
                entries[number] = found[number]
        return [
            entries[one.number].position(index) for one in sent for index in range(one.body.records)
        ]

    def _refuse(self, error: ElanusError) -> None:
        if self._refusal is not None:
            return
        if isinstance(error, FencedWriter):
            self._refusal = error
        else:
            self._refusal = Unavailable(f"the log {self._topic} must be opened again: {error}")

    async def close(self) -> None:
        """Appends are refused from now on; those under way end first."""
        await run_to_end(self._close())

    async def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        async with self._in_order:
            if self._in_flight:
                await asyncio.wait(set(self._in_flight))
            self._refusal = FencedWriter(f"this writer of the log {self._topic} is closed")
            await self._producer.close()
