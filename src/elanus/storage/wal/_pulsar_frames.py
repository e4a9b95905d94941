"""How records lie in the messages of a Pulsar topic.

A message is a header and a body. Small records share a message, a record that is larger than a
message is spread over several::

    header   magic, kind, cluster id, term, writer, number, acknowledged
    OPEN     newest term known before, and the position up to which it was known
    RECORDS  count, sizes, payloads
    PART     part, parts, a piece of one record

``writer`` is the position of the OPEN that began it, ``number`` counts a writer's messages from its
OPEN (0), and all of its messages up to ``acknowledged`` were acknowledged when this one was sent.

A position packs ledger, entry and the record's index in the message into 63 bits. Pulsar hands out
ledger numbers for a whole cluster, one for each ledger ever created.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from elanus.errors import CorruptData, InternalError
from elanus.storage.objects.base import Buffer

ENTRY_BITS = 24
INDEX_BITS = 7
LEDGER_BITS = 63 - ENTRY_BITS - INDEX_BITS
MAX_RECORDS = 1 << INDEX_BITS
MAX_RECORD_BYTES = (1 << 32) - 1
# What the client's own metadata of a message may take of the broker's limit, and our header.
ENVELOPE_BYTES = 4_096

_MAGIC = b"EWP1"
_HEADER = struct.Struct("<4sB16sQqQq")
_OPEN = struct.Struct("<Qq")
_COUNT = struct.Struct("<I")
_PART = struct.Struct("<II")


class Kind(IntEnum):
    OPEN = 0
    RECORDS = 1
    PART = 2


class Entry(NamedTuple):
    """Where a message is."""

    ledger: int
    entry: int

    def position(self, index: int = 0) -> int:
        if not (0 <= self.ledger < 1 << LEDGER_BITS and 0 <= self.entry < 1 << ENTRY_BITS):
            raise InternalError(
                f"Pulsar's message {self.ledger}:{self.entry} can't be a position of the log: "
                f"a ledger is below 2^{LEDGER_BITS}, an entry below 2^{ENTRY_BITS}; unload the "
                f"topic for a new ledger"
            )
        return ((self.ledger << ENTRY_BITS) + self.entry << INDEX_BITS) + index

    @classmethod
    def of(cls, position: int) -> "Entry":
        number = position >> INDEX_BITS
        return cls(number >> ENTRY_BITS, number & ((1 << ENTRY_BITS) - 1))

    def is_followed_by(self, other: "Entry") -> bool:
        return other.ledger == self.ledger and other.entry == self.entry + 1


@dataclass(frozen=True, slots=True)
class Header:
    kind: Kind
    cluster_id: bytes
    term: int
    writer: int
    number: int
    acknowledged: int

    def encode(self) -> bytes:
        return _HEADER.pack(
            _MAGIC,
            self.kind,
            self.cluster_id,
            self.term,
            self.writer,
            self.number,
            self.acknowledged,
        )


@dataclass(frozen=True, slots=True)
class Body:
    """``records`` of the append end in this message: none in a PART before the last."""

    kind: Kind
    records: int
    buffers: list[Buffer]
    size_bytes: int


def encode(header: Header, body: Body) -> bytes:
    return b"".join([header.encode(), *body.buffers])


def decode_header(data: bytes, where: str) -> tuple[Header, memoryview]:
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise CorruptData(f"{where} is not a message of a log: it begins with {data[:8]!r}")
    _, kind, *rest = _HEADER.unpack_from(data)
    try:
        header = Header(Kind(kind), *rest)
    except ValueError as error:
        raise CorruptData(f"{where} has the unknown kind {kind}") from error
    return header, memoryview(data)[_HEADER.size :]


def open_body(known_term: int, known_upto: int) -> Body:
    return Body(Kind.OPEN, 0, [_OPEN.pack(known_term, known_upto)], _OPEN.size)


def decode_open(body: memoryview) -> tuple[int, int]:
    known_term, known_upto = _OPEN.unpack(body)
    return known_term, known_upto


def decode_records(body: memoryview, where: str) -> list[memoryview]:
    try:
        (count,) = _COUNT.unpack_from(body)
        sizes = struct.unpack_from(f"<{count}I", body, _COUNT.size)
    except struct.error as error:
        raise CorruptData(f"{where} is cut short: {error}") from error
    offset = _COUNT.size * (1 + count)
    if offset + sum(sizes) != len(body):
        raise CorruptData(
            f"{where} has {len(body)} bytes, its {count} records need {offset + sum(sizes)}"
        )
    payloads = []
    for size in sizes:
        payloads.append(body[offset : offset + size])
        offset += size
    return payloads


def decode_part(body: memoryview, where: str) -> tuple[int, int, memoryview]:
    if len(body) < _PART.size:
        raise CorruptData(f"{where} is cut short: {len(body)} bytes")
    part, parts = _PART.unpack_from(body)
    return part, parts, body[_PART.size :]


def plan(records: Sequence[Sequence[Buffer]], limit_bytes: int) -> list[Body]:
    """The messages for ``records``, in order, with at most ``limit_bytes`` of body each."""
    bodies: list[Body] = []
    together: list[Sequence[Buffer]] = []
    sizes: list[int] = []
    taken = _COUNT.size

    def leave() -> None:
        nonlocal together, sizes, taken
        if together:
            head = struct.pack(f"<I{len(sizes)}I", len(sizes), *sizes)
            payloads = [part for parts in together for part in parts]
            bodies.append(Body(Kind.RECORDS, len(sizes), [head, *payloads], taken))
        together, sizes, taken = [], [], _COUNT.size

    for parts in records:
        size = size_of(parts)
        needed = _COUNT.size + size
        if len(together) == MAX_RECORDS or taken + needed > limit_bytes:
            leave()
        if taken + needed > limit_bytes:
            bodies += _spread(parts, size, limit_bytes - _PART.size)
        else:
            together.append(parts)
            sizes.append(size)
            taken += needed
    leave()
    return bodies


def size_of(parts: Sequence[Buffer]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


def _spread(parts: Sequence[Buffer], size: int, piece_bytes: int) -> Iterator[Body]:
    count = -(-size // piece_bytes)
    for number, pieces in enumerate(_cut(parts, piece_bytes)):
        head = _PART.pack(number, count)
        length = _PART.size + size_of(pieces)
        yield Body(Kind.PART, int(number == count - 1), [head, *pieces], length)


def _cut(parts: Sequence[Buffer], piece_bytes: int) -> Iterator[list[Buffer]]:
    piece: list[Buffer] = []
    room = piece_bytes
    for part in parts:
        view = memoryview(part).cast("B")
        while view.nbytes:
            taken, view = view[:room], view[room:]
            piece.append(taken)
            room -= taken.nbytes
            if not room:
                yield piece
                piece, room = [], piece_bytes
    if piece:
        yield piece
