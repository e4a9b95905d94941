"""Appends to a pchannel's topic, and knows when it was replaced; see
:mod:`elanus.storage.wal.kafka` for why that is safe."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from elanus.errors import CorruptData, ElanusError, FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._kafka_messages import Header, Kind, LogDecoder, Packed, pack, position_at
from elanus.storage.wal._kafka_producer import KafkaProducer
from elanus.storage.wal._kafka_reader import KafkaReader
from elanus.storage.wal._shared_writes import Finish, Records, SharedWrites, error_of
from elanus.storage.wal.base import WalWriter

_SEND_ON_LOOP_BYTES = 1 << 20


@dataclass(slots=True, eq=False)
class _Write:
    """A group of appends under way. ``packed``: the messages that it became."""

    loop: asyncio.AbstractEventLoop
    records: Records
    finish: Finish
    packed: list[Packed] = field(default_factory=list)

    def fail_if_failed(self, sending: "asyncio.Future[None]") -> None:
        if (error := error_of(sending)) is not None:
            self.finish(error)


class KafkaWalWriter(WalWriter):
    """The one writer of a pchannel. ``first``: header of its next record."""

    def __init__(
        self, world: World, topic: str, first: Header, producer: KafkaProducer, scout: KafkaReader
    ) -> None:
        self.term = first.term
        self._world = world
        self._topic = topic
        self._fence = first.fence
        self._cluster_id = first.cluster_id
        self._bytes_before = first.bytes_before
        self._next_offset = first.fence + 1
        self._producer = producer
        self._scout = scout
        self._refusal: ElanusError | None = None
        self._is_closing = False
        self._writes = SharedWrites(self._begin)

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        if self._is_closing:
            raise FencedWriter(f"this writer of the log {self._topic} is closed")
        return await self._writes.append(records)

    def _begin(self, records: Records, sizes: list[int], finish: Finish) -> None:
        if self._refusal is not None:
            raise self._refusal
        if not records:
            finish([])
            return
        self._world.failpoints.hit("wal.append.before_write")
        self._refusal = Unavailable(f"the log {self._topic} must be opened again")
        write = _Write(asyncio.get_running_loop(), records, finish)
        if sum(sizes) <= _SEND_ON_LOOP_BYTES:
            self._send(write)
        else:
            sending = self._world.executor.start("io", partial(self._send, write))
            sending.add_done_callback(write.fail_if_failed)

    def _send(self, write: "_Write") -> None:
        write.packed = list(pack(write.records))
        messages: list[tuple[bytes, bytes | None]] = []
        for part in write.packed:
            key = Header(
                Kind.RECORD,
                self.term,
                self._fence,
                self._bytes_before,
                self._cluster_id,
                part.records,
                part.chunk,
                part.chunks,
            ).encode()
            messages.append((key, part.value))
            self._bytes_before += len(key) + len(part.value)
        self._producer.send(self._topic, messages, partial(self._tell, write))

    def _tell(self, write: "_Write", offsets: list[int], error: ElanusError | None) -> None:
        """Pass on what the producer's thread has heard."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            write.loop.call_soon_threadsafe(self._sent, write, error or offsets)

    def _sent(self, write: "_Write", outcome: list[int] | ElanusError) -> None:
        if isinstance(outcome, ElanusError):
            write.finish(outcome)
            return
        try:
            self._world.failpoints.hit("wal.append.after_sync")
            gaps = self._gaps(outcome)
        except Exception as error:  # noqa: BLE001 - whoever appended is to hear of it
            write.finish(error)
            return
        if not gaps:
            self._acknowledge(write, outcome)
            return
        looking = self._world.executor.start("io", partial(self._look_into, gaps))
        looking.add_done_callback(partial(self._looked, write, outcome))

    def _looked(self, write: "_Write", offsets: list[int], looking: "asyncio.Future[None]") -> None:
        if (error := error_of(looking)) is not None:
            write.finish(error)
        else:
            self._acknowledge(write, offsets)

    def _acknowledge(self, write: "_Write", offsets: list[int]) -> None:
        self._next_offset = offsets[-1] + 1
        self._refusal = None
        write.finish(
            [
                position_at(offset, index)
                for offset, part in zip(offsets, write.packed, strict=True)
                if part.chunk == part.chunks - 1
                for index in range(part.records)
            ]
        )

    def _gaps(self, offsets: list[int]) -> list[tuple[int, int]]:
        """Where somebody else's messages are in front of ours."""
        expected = self._next_offset
        gaps = []
        for offset in offsets:
            if offset < expected:
                raise CorruptData(
                    f"the topic {self._topic} gave offset {offset} after {expected - 1}: it was "
                    f"replaced by another one, or has lost messages"
                )
            if offset > expected:
                gaps.append((expected, offset))
            expected = offset + 1
        return gaps

    def _look_into(self, gaps: list[tuple[int, int]]) -> None:
        """Raises FencedWriter if one of the messages is a fence that counts."""
        for start, stop in gaps:
            decoder = LogDecoder.within(
                self._topic, self._cluster_id, next_offset=start, term=self.term, fence=self._fence
            )
            for _ in decoder.records(self._scout.read_all(self._topic, start, stop)):
                pass
            if decoder.next_offset != stop:
                raise Unavailable(f"reading {self._topic}: {start} to {stop} can't be read")
            if decoder.fence != self._fence:
                self._refusal = FencedWriter(
                    f"the log {self._topic} was taken over at term {decoder.term}, "
                    f"this writer has term {self.term}"
                )
                raise self._refusal

    async def close(self) -> None:
        """Appends are refused from now on."""
        self._is_closing = True
        await self._writes.idle()
