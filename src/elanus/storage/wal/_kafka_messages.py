"""What stands in a pchannel's topic, and which of it counts.

A message's key is its header, its value a payload or a part of one::

    magic 4s · kind u8 · zeros 3 · records u32 · chunk u32 · chunks u32 · zeros 4 · term u64
    · fence i64 · bytes before u64 · cluster id 16s                                (64 bytes)

A writer begins with a **fence**: a message with its term and no value. The offset of that message
names the writer: everything it appends carries it. A message holds the *records* of a group that
fit into it: their lengths, u32 each, then their payloads. A record that is too large for a message
is cut into chunks. A record's position is ``offset << 16 | number within the message``, and that
of its last chunk if it is cut. *Bytes before* counts what was ever written in front of the
message, so that the size of a log is a difference of two messages.

Whether a message counts follows from those in front of it, so every reader comes to the same end:

- A fence counts if no fence that counts has a larger term. It ends all writers before it.
- Records count if their message carries the last fence that counts; if they are cut, all chunks
  must, in a row from the first to the last.

Hence a reader must know the last fence that counts where it begins. It begins at offset 0, or at
a record that is known to count, whose header has the fence.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from elanus.errors import CorruptData
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._frames import size_of
from elanus.storage.wal.base import BEFORE_FIRST, WalRecord

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's default: of a batch, its own header included."""
MAX_VALUE_BYTES = 1_023 << 10
"""Leaves 1 kB for the key and what Kafka adds."""
INDEX_BITS = 16
MAX_RECORDS = 1 << INDEX_BITS
NO_FENCE = -1

_MAGIC = b"EWK1"
_HEADER = struct.Struct("<4sB3xIII4xQqQ16s")
_LENGTH_BYTES = 4
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    FENCE = 1
    RECORD = 2


class Header(NamedTuple):
    kind: Kind
    term: int
    fence: int
    bytes_before: int
    cluster_id: bytes
    records: int = 0
    chunk: int = 0
    chunks: int = 1

    @property
    def is_last(self) -> bool:
        return self.chunk == self.chunks - 1

    def encode(self) -> bytes:
        return _HEADER.pack(
            _MAGIC,
            self.kind,
            self.records,
            self.chunk,
            self.chunks,
            self.term,
            self.fence,
            self.bytes_before,
            self.cluster_id,
        )


def decode_header(key: bytes | None, where: str) -> Header:
    """Raises CorruptData if the key is no header."""
    if key is None or len(key) != _HEADER.size or not key.startswith(_MAGIC):
        raise CorruptData(f"{where} is no message of a log: its key is {key!r:.80}")
    _, kind, records, chunk, chunks, term, fence, bytes_before, cluster_id = _HEADER.unpack(key)
    if kind not in (Kind.FENCE, Kind.RECORD) or chunk >= chunks:
        raise CorruptData(f"{where} has kind {kind}, chunk {chunk} of {chunks}")
    return Header(Kind(kind), term, fence, bytes_before, cluster_id, records, chunk, chunks)


def position_at(offset: int, index: int) -> int:
    return offset << INDEX_BITS | index


def offset_of(position: int) -> int:
    return position >> INDEX_BITS


class Packed(NamedTuple):
    """The value of a message, and what its header says of it."""

    value: bytes
    records: int
    chunk: int = 0
    chunks: int = 1


def pack(records: Sequence[Sequence[Buffer]], limit: int = MAX_VALUE_BYTES) -> Iterator[Packed]:
    """Messages for a group of records, each given in parts."""
    parts: list[Buffer] = []
    lengths: list[int] = []
    size = 0
    for record in records:
        length = size_of(record)
        needed = length + _LENGTH_BYTES
        if lengths and (size + needed > limit or len(lengths) == MAX_RECORDS):
            yield _pack_whole(lengths, parts)
            parts, lengths, size = [], [], 0
        if needed > limit:
            whole = record[0] if len(record) == 1 else b"".join(record)
            yield from _pack_chunks(memoryview(whole).cast("B"), limit)
        else:
            parts += record
            lengths.append(length)
            size += needed
    if lengths:
        yield _pack_whole(lengths, parts)


def _pack_whole(lengths: list[int], parts: list[Buffer]) -> Packed:
    table = struct.pack(f"<{len(lengths)}I", *lengths)
    return Packed(b"".join([table, *parts]), len(lengths))


def _pack_chunks(view: memoryview, limit: int) -> Iterator[Packed]:
    # One chunk only would be read as a whole message.
    chunks = max(2, -(-len(view) // limit))
    for chunk in range(chunks):
        yield Packed(bytes(view[chunk * limit : (chunk + 1) * limit]), 1, chunk, chunks)


def _unpack(value: bytes, records: int, where: str) -> Iterator[memoryview]:
    start = records * _LENGTH_BYTES
    lengths = struct.unpack_from(f"<{records}I", value) if len(value) >= start else ()
    if not lengths or start + sum(lengths) != len(value):
        raise CorruptData(f"{where} has {len(value)} bytes, not those of {records} records")
    view = memoryview(value)
    for length in lengths:
        yield view[start : start + length]
        start += length


@dataclass(frozen=True, slots=True)
class Message:
    """What was read at an offset of a topic."""

    offset: int
    key: bytes | None
    value: bytes | None


class LogDecoder:
    """Takes the messages of a topic in order and gives the records that count.

    ``next_offset``: the message that must come next. ``fence`` and ``term``: the last fence that
    counts, as far as is read.
    """

    def __init__(self, topic: str, cluster_id: bytes, *, next_offset: int, after: int) -> None:
        self.next_offset = next_offset
        self.term = 0
        self.fence = NO_FENCE
        self._topic = topic
        self._cluster_id = cluster_id
        self._after = after
        self._is_known = next_offset == 0
        self._chunks: list[bytes] = []

    @classmethod
    def beginning(
        cls, topic: str, cluster_id: bytes, *, after: int, low: int, high: int
    ) -> "LogDecoder":
        """For the records behind ``after`` in a topic that has the offsets ``low`` to ``high``.

        Truncation keeps the record that it is told, so the message at ``low`` counts unless it is
        the topic's first; a position that was given out is a record that counts.
        """
        if offset_of(after) >= high:
            raise CorruptData(
                f"the topic {topic} ends before offset {high}, but a record at "
                f"{offset_of(after)} was acknowledged: the topic was emptied, or replaced by "
                f"another one"
            )
        return cls(topic, cluster_id, next_offset=max(offset_of(after), low), after=after)

    @classmethod
    def within(
        cls, topic: str, cluster_id: bytes, *, next_offset: int, term: int, fence: int
    ) -> "LogDecoder":
        """For messages from ``next_offset`` on, where the last fence that counts is known."""
        decoder = cls(topic, cluster_id, next_offset=next_offset, after=BEFORE_FIRST)
        decoder.term, decoder.fence, decoder._is_known = term, fence, True
        return decoder

    def records(self, messages: Sequence[Message]) -> Iterator[WalRecord]:
        """What counts of further messages; those before ``next_offset`` are skipped."""
        for message in messages:
            if message.offset >= self.next_offset:
                for index, payload in enumerate(self._take(message)):
                    position = position_at(message.offset, index)
                    if position > self._after:
                        yield WalRecord(position, payload)

    def _take(self, message: Message) -> Iterable[memoryview]:
        where = f"the message at offset {message.offset} of the topic {self._topic}"
        if message.offset != self.next_offset:
            raise CorruptData(f"{where} follows the one at {self.next_offset - 1}: some are lost")
        header = decode_header(message.key, where)
        if header.cluster_id != self._cluster_id:
            raise CorruptData(f"{where} was written by the cluster {header.cluster_id.hex()}")
        self.next_offset += 1
        if not self._is_known:
            self._know(header, message.offset, where)
        if header.kind is Kind.FENCE:
            if header.term >= self.term:
                self.term, self.fence = header.term, message.offset
                self._chunks = []
            return ()
        if header.fence != self.fence:
            return ()
        value = message.value or b""
        if header.chunks == 1:
            return _unpack(value, header.records, where)
        if header.chunk == 0:
            self._chunks = []
        elif header.chunk != len(self._chunks):
            return ()
        self._chunks.append(value)
        if not header.is_last:
            return ()
        chunks, self._chunks = self._chunks, []
        return (memoryview(b"".join(chunks)),)

    def _know(self, header: Header, offset: int, where: str) -> None:
        self._is_known = True
        if offset == offset_of(self._after) and (
            header.kind is not Kind.RECORD or not header.is_last
        ):
            raise CorruptData(f"{where} is not the record that was acknowledged there")
        if header.kind is Kind.RECORD:
            self.term, self.fence = header.term, header.fence
