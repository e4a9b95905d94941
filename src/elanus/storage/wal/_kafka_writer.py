"""Appends to a pchannel's topic, and knows when it was replaced; see
:mod:`elanus.storage.wal.kafka` for why that is safe."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from elanus.errors import CorruptData, ElanusError, FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._kafka_messages import Header, Kind, LogDecoder, Packed, pack, position_at
from elanus.storage.wal._kafka_producer import KafkaProducer
from elanus.storage.wal._kafka_reader import KafkaReader
from elanus.storage.wal._shared_writes import Records, SharedWrites
from elanus.storage.wal.base import WalWriter

_SEND_ON_LOOP_BYTES = 1 << 20


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

    def _begin(self, records: Records, sizes: list[int]) -> "asyncio.Future[list[int]]":
        return asyncio.ensure_future(self._write(records, sizes))

    async def _write(self, records: Records, sizes: list[int]) -> list[int]:
        if self._refusal is not None:
            raise self._refusal
        if not records:
            return []
        hit = self._world.failpoints.hit
        hit("wal.append.before_write")
        self._refusal = Unavailable(f"the log {self._topic} must be opened again")
        sent: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        if sum(sizes) <= _SEND_ON_LOOP_BYTES:
            packed = self._send(records, sent)
        else:
            packed = await self._world.executor.run("io", self._send, records, sent)
        offsets = await sent
        hit("wal.append.after_sync")
        await self._ensure_not_replaced(offsets)
        self._next_offset = offsets[-1] + 1
        self._refusal = None
        return [
            position_at(offset, index)
            for offset, part in zip(offsets, packed, strict=True)
            if part.chunk == part.chunks - 1
            for index in range(part.records)
        ]

    def _send(self, records: Records, sent: "asyncio.Future[list[int]]") -> list[Packed]:
        packed = list(pack(records))
        messages: list[tuple[bytes, bytes | None]] = []
        for part in packed:
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
        self._producer.send(self._topic, messages, partial(_tell, sent))
        return packed

    async def _ensure_not_replaced(self, offsets: list[int]) -> None:
        """Raises FencedWriter if there is a fence that counts in front of one of the offsets."""
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
        if gaps:
            await self._world.executor.run("io", self._look_into, gaps)

    def _look_into(self, gaps: list[tuple[int, int]]) -> None:
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


def _tell(sent: "asyncio.Future[list[int]]", offsets: list[int], error: ElanusError | None) -> None:
    """Pass on what the producer's thread has heard."""
    with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
        sent.get_loop().call_soon_threadsafe(_settle, sent, offsets, error)


def _settle(
    sent: "asyncio.Future[list[int]]", offsets: list[int], error: ElanusError | None
) -> None:
    if sent.done():
        pass  # whoever waited has given up
    elif error is None:
        sent.set_result(offsets)
    else:
        sent.set_exception(error)
