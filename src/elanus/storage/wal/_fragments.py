"""Layout of the objects of a log on object storage: every one begins with a header of 128 bytes.

::

    header   magic 8s · format version u16 · kind u8 · zero u8 · count u32 · cluster id 16s
             · digest of the log's name 16s · writer 16s · term u64 · segment u64 · number u64
             · body bytes u64 · records of the fragment before u32 · crc32 of the body u32
             · complete before u64 · zero 12s · crc32 of the header u32              (128 bytes)
    data     lengths of the records u32 each, then the records, each at a multiple of 16 bytes
    seal     of each fragment of the segment: records u32 · crc32 of its body u32 · bytes u64
    fence    nothing: an object of just 128 bytes is a fence
    start    nothing

A position is ``number << 20 | index in the fragment``: it names its fragment by itself. *Writer* is
the nonce of whoever put the object: no two writers ever put the same bytes. A merged object is
fragments one after another, as they were.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import blake2b

from zlib_ng.zlib_ng import crc32

from elanus.errors import CorruptData
from elanus.storage.objects.base import Buffer
from elanus.storage.wal.base import WalRecord

FORMAT_VERSION = 1
HEADER_SIZE = 128
INDEX_BITS = 20
MAX_RECORDS = 1 << INDEX_BITS
MAX_PAYLOAD_BYTES = (1 << 32) - 1

_MAGIC = b"ELANUSWP"
_HEADER = struct.Struct("<8sHBxI16s16s16sQQQQIIQ12x")
_CHECKSUM = struct.Struct("<I")
_INDEX_ENTRY = struct.Struct("<IIQ")
_ALIGNMENT = 16
_ZEROS = bytes(_ALIGNMENT)


class Kind(IntEnum):
    DATA = 1
    SEAL = 2
    FENCE = 3
    START = 4


@dataclass(frozen=True, slots=True)
class Header:
    """``segment``: the number of its first fragment. ``tail_count``: records of the fragment
    before, in a seal or fence; 0 if the segment is empty. ``complete_before``: when this was put,
    all fragments of the segment below that number were there."""

    kind: Kind
    writer: bytes
    term: int
    segment: int
    number: int
    count: int = 0
    tail_count: int = 0
    body_bytes: int = 0
    body_crc: int = 0
    complete_before: int = 0

    @property
    def ends_segment(self) -> bool:
        return self.kind in (Kind.SEAL, Kind.FENCE)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """What a seal says of one fragment."""

    count: int
    body_crc: int
    size_bytes: int

    @classmethod
    def of(cls, header: Header) -> "IndexEntry":
        return cls(header.count, header.body_crc, HEADER_SIZE + header.body_bytes)


@dataclass(frozen=True, slots=True)
class Fragment:
    header: Header
    body: memoryview

    def records(self) -> Iterator[WalRecord]:
        if self.header.kind is not Kind.DATA:
            return
        lengths = struct.unpack_from(f"<{self.header.count}I", self.body)
        offset = _padded(4 * len(lengths))
        position = self.header.number << INDEX_BITS
        for index, length in enumerate(lengths):
            yield WalRecord(position | index, self.body[offset : offset + length])
            offset += _padded(length)

    def index(self) -> list[IndexEntry]:
        return [IndexEntry(*entry) for entry in _INDEX_ENTRY.iter_unpack(self.body)]


def number_of(position: int) -> int:
    """The number of the fragment that holds ``position``; 0 for a position before the first."""
    return max(position, 0) >> INDEX_BITS


def encode_records(
    header: Header, records: Sequence[Sequence[Buffer]]
) -> tuple[Header, list[Buffer]]:
    """The completed header and the parts of the body."""
    lengths = [sum(memoryview(part).nbytes for part in parts) for parts in records]
    table = struct.pack(f"<{len(lengths)}I", *lengths)
    body: list[Buffer] = [table, _padding(len(table))]
    for parts, length in zip(records, lengths, strict=True):
        body += [*parts, _padding(length)]
    return _with_body(replace(header, count=len(lengths)), body), body


def encode_index(header: Header, entries: Sequence[IndexEntry]) -> tuple[Header, list[Buffer]]:
    """As ``encode_records``, of a seal."""
    body: list[Buffer] = [
        b"".join(_INDEX_ENTRY.pack(e.count, e.body_crc, e.size_bytes) for e in entries)
    ]
    return _with_body(replace(header, count=len(entries)), body), body


def _with_body(header: Header, body: Sequence[Buffer]) -> Header:
    checksum = 0
    for part in body:
        checksum = crc32(part, checksum)
    size = sum(memoryview(part).nbytes for part in body)
    return replace(header, body_bytes=size, body_crc=checksum)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _padding(size: int) -> bytes:
    return _ZEROS[: _padded(size) - size]


class FragmentFormat:
    """Writes and reads headers of one log of one cluster (``cluster_id``: 16 bytes)."""

    def __init__(self, cluster_id: bytes, log_name: str) -> None:
        self._cluster_id = cluster_id
        self._log = blake2b(log_name.encode(), digest_size=16).digest()

    def encode(self, header: Header) -> bytes:
        head = _HEADER.pack(
            _MAGIC,
            FORMAT_VERSION,
            header.kind,
            header.count,
            self._cluster_id,
            self._log,
            header.writer,
            header.term,
            header.segment,
            header.number,
            header.body_bytes,
            header.tail_count,
            header.body_crc,
            header.complete_before,
        )
        return head + _CHECKSUM.pack(crc32(head))

    def decode_header(self, data: Buffer, key: str) -> Header:
        """Raises CorruptData, naming ``key``, unless it is a header of this log."""
        head = memoryview(data)[:HEADER_SIZE]
        if len(head) < HEADER_SIZE:
            raise CorruptData(f"{key} ends within its header, after {len(head)} bytes")
        magic, version, kind, count, cluster_id, log, *rest = _HEADER.unpack_from(head)
        if magic != _MAGIC:
            raise CorruptData(f"{key} is no fragment of a log: it begins with {magic!r}")
        if version != FORMAT_VERSION:
            raise CorruptData(
                f"{key} has format version {version}, this program reads version {FORMAT_VERSION}"
            )
        (checksum,) = _CHECKSUM.unpack_from(head, HEADER_SIZE - 4)
        if checksum != crc32(head[: HEADER_SIZE - 4]):
            raise CorruptData(f"the header of {key} is damaged: its checksum differs")
        if cluster_id != self._cluster_id or log != self._log:
            raise CorruptData(f"{key} belongs to another cluster or log")
        writer, term, segment, number, body_bytes, tail_count, body_crc, complete_before = rest
        return Header(
            Kind(kind),
            writer,
            term,
            segment,
            number,
            count=count,
            tail_count=tail_count,
            body_bytes=body_bytes,
            body_crc=body_crc,
            complete_before=complete_before,
        )

    def decode(self, data: Buffer, key: str, first: int, last: int) -> list[Fragment]:
        """The fragments ``first`` to ``last`` of an object. Raises CorruptData, naming it."""
        view = memoryview(data)
        fragments: list[Fragment] = []
        offset = 0
        for number in range(first, last + 1):
            header = self.decode_header(view[offset:], key)
            offset += HEADER_SIZE
            body = view[offset : offset + header.body_bytes]
            offset += header.body_bytes
            if header.number != number:
                raise CorruptData(f"{key} holds fragment {header.number} instead of {number}")
            if len(body) < header.body_bytes or crc32(body) != header.body_crc:
                raise CorruptData(f"fragment {number} in {key} is damaged: its checksum differs")
            fragments.append(Fragment(header, body))
        if offset != len(view):
            raise CorruptData(f"{key} has {len(view)} bytes, its fragments have {offset}")
        return fragments
