"""What stands in a pchannel's topic, and which of it counts.

A message's key is its header, its value a payload or a part of one::

    magic 4s · kind u8 · zeros 3 · chunk u32 · chunks u32 · term u64 · fence i64
    · bytes before u64 · cluster id 16s                                            (56 bytes)

A writer begins with a **fence**: a message with its term and no payload. The offset of that message
names the writer: everything it appends carries it. A payload larger than a message is cut into
chunks; the record has the offset of the last one. *Bytes before* counts what was ever written in
front of the message, so that the size of a log is a difference of two messages.

Whether a message counts follows from those in front of it, so every reader comes to the same end:

- A fence counts if no fence that counts has a larger term. It ends all writers before it.
- A record counts if its chunks carry the last fence that counts, in a row from the first to the
  last.

Hence a reader must know the last fence that counts where it begins. It begins at offset 0, or at
a record that is known to count, whose header has the fence.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from elanus.errors import CorruptData
from elanus.storage.objects.base import Buffer
from elanus.storage.wal.base import WalRecord

CHUNK_BYTES = 960 << 10
NO_FENCE = -1

_MAGIC = b"EWK1"
_HEADER = struct.Struct("<4sB3xIIQqQ16s")
HEADER_BYTES = _HEADER.size


class Kind(IntEnum):
    FENCE = 1
    RECORD = 2


@dataclass(frozen=True, slots=True)
class Header:
    kind: Kind
    term: int
    fence: int
    bytes_before: int
    cluster_id: bytes
    chunk: int = 0
    chunks: int = 1

    @property
    def is_last(self) -> bool:
        return self.chunk == self.chunks - 1

    def encode(self) -> bytes:
        return _HEADER.pack(
            _MAGIC,
            self.kind,
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
    _, kind, chunk, chunks, term, fence, bytes_before, cluster_id = _HEADER.unpack(key)
    if kind not in (Kind.FENCE, Kind.RECORD) or chunk >= chunks:
        raise CorruptData(f"{where} has kind {kind}, chunk {chunk} of {chunks}")
    return Header(Kind(kind), term, fence, bytes_before, cluster_id, chunk, chunks)


def split_payload(parts: Sequence[Buffer], limit: int = CHUNK_BYTES) -> list[bytes]:
    """The payload in chunks of at most ``limit`` bytes; at least one."""
    payload = b"".join(parts)
    if len(payload) <= limit:
        return [payload]
    view = memoryview(payload)
    return [bytes(view[start : start + limit]) for start in range(0, len(view), limit)]


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
        if after >= high:
            raise CorruptData(
                f"the topic {topic} ends before offset {high}, but a record at {after} was "
                f"acknowledged: the topic was emptied, or replaced by another one"
            )
        return cls(topic, cluster_id, next_offset=max(after, low), after=after)

    @classmethod
    def within(
        cls, topic: str, cluster_id: bytes, *, next_offset: int, term: int, fence: int
    ) -> "LogDecoder":
        """For messages from ``next_offset`` on, where the last fence that counts is known."""
        decoder = cls(topic, cluster_id, next_offset=next_offset, after=next_offset - 1)
        decoder.term, decoder.fence, decoder._is_known = term, fence, True
        return decoder

    def records(self, messages: Sequence[Message]) -> Iterator[WalRecord]:
        """What counts of further messages; those before ``next_offset`` are skipped."""
        for message in messages:
            if message.offset >= self.next_offset:
                record = self._take(message)
                if record is not None:
                    yield record

    def _take(self, message: Message) -> WalRecord | None:
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
            return None
        if header.fence != self.fence:
            return None
        if header.chunk != len(self._chunks):
            self._chunks = []
            if header.chunk != 0:
                return None
        self._chunks.append(message.value or b"")
        if not header.is_last:
            return None
        payload, self._chunks = self._chunks, []
        if message.offset <= self._after:
            return None
        return WalRecord(
            message.offset, memoryview(payload[0] if len(payload) == 1 else b"".join(payload))
        )

    def _know(self, header: Header, offset: int, where: str) -> None:
        self._is_known = True
        if offset == self._after and (header.kind is not Kind.RECORD or not header.is_last):
            raise CorruptData(f"{where} is not the record that was acknowledged there")
        if header.kind is Kind.RECORD:
            self.term, self.fence = header.term, header.fence
