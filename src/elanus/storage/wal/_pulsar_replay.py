"""What the messages of a topic mean: which of them count as records of the log.

The broker lets one writer at a time send, and a newer one shut an older out. What it does not keep
out is decided here, by the order of the messages alone, so that every reader decides alike:

- An OPEN begins a writer, unless its term is smaller than the newest before it. Messages of any
  other writer than the newest don't count.
- A message that the client sent again after a lost connection is in the topic twice. The first
  one counts.
- If a message of a writer is missing, nothing after it counts: appends are acknowledged in order,
  so none of it was. If it was acknowledged all the same, the log is damaged.
- A record in parts counts when its last part does; a writer that ends before leaves nothing.

A reader that starts at a record's message knows all of this from that message on.
"""

from dataclasses import dataclass, field

from elanus.errors import CorruptData
from elanus.storage.wal._pulsar_frames import (
    Entry,
    Header,
    Kind,
    decode_header,
    decode_open,
    decode_part,
    decode_records,
)

_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Found:
    """A record. ``pieces`` are to be concatenated."""

    position: int
    pieces: list[memoryview]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that counts, with the records that end in it."""

    header: Header
    entry: Entry
    found: list[Found]


@dataclass
class Replay:
    topic: str
    cluster_id: bytes
    term: int = 0
    _writer: int = _UNKNOWN
    _next: int = 0
    _is_cut: bool = False
    _pieces: list[memoryview] | None = field(default_factory=list)

    def feed(self, entry: Entry, data: bytes) -> Message | None:
        """The next message of the topic, in order. None if it doesn't count."""
        where = f"message {entry.ledger}:{entry.entry} of {self.topic}"
        header, body = decode_header(data, where)
        if header.cluster_id != self.cluster_id:
            raise CorruptData(
                f"{where} belongs to cluster {header.cluster_id.hex()}, "
                f"this is cluster {self.cluster_id.hex()}"
            )
        if header.kind is Kind.OPEN:
            return self._open(entry, header, body)
        is_first = self._writer == _UNKNOWN
        if is_first:
            self._writer, self._next, self.term = header.writer, header.number, header.term
        if header.writer > self._writer:
            raise CorruptData(f"{where} has a writer whose first message is missing")
        if header.writer < self._writer or header.number < self._next:
            return None
        if self._check_gap(header, where):
            return None
        self._next += 1
        if header.kind is Kind.RECORDS:
            payloads = decode_records(body, where)
            found = [Found(entry.position(n), [view]) for n, view in enumerate(payloads)]
            return Message(header, entry, found)
        return Message(header, entry, self._part(entry, body, where, is_first))

    def _open(self, entry: Entry, header: Header, body: memoryview) -> Message | None:
        known_term, _ = decode_open(body)
        if header.term < max(self.term, known_term):
            return None
        self.term = header.term
        self._writer = entry.position()
        self._next = header.number + 1
        self._is_cut = False
        self._pieces = []
        return Message(header, entry, [])

    def _check_gap(self, header: Header, where: str) -> bool:
        """Whether a message of this writer is missing before this one."""
        self._is_cut = self._is_cut or header.number > self._next
        if self._is_cut and header.acknowledged >= self._next:
            raise CorruptData(
                f"{where} is number {header.number} of its writer, but number {self._next}, "
                f"which was acknowledged, is missing"
            )
        return self._is_cut

    def _part(self, entry: Entry, body: memoryview, where: str, is_first: bool) -> list[Found]:
        part, parts, piece = decode_part(body, where)
        if is_first and part:
            self._pieces = None  # the record begins before what is read here
        elif self._pieces is None and not part:
            self._pieces = []
        if self._pieces is None:
            return []
        if part != len(self._pieces):
            raise CorruptData(f"{where} is part {part}, expected part {len(self._pieces)}")
        self._pieces.append(piece)
        if part < parts - 1:
            return []
        pieces, self._pieces = self._pieces, []
        return [Found(entry.position(), pieces)]
