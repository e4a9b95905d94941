"""Layout of a local WAL file: a header of 64 bytes, then frames, each at a multiple of 32 bytes.

::

    header   magic 8s · format version u32 · zero u32 · start position i64 · term u64
             · cluster id 16s · zero 12s · crc32 u32                                  (64 bytes)
    frame    magic 4s · crc32 u32 · length u32 · records u32 · position i64
             · durable before i64                                                     (32 bytes)
             body (length bytes) · zeros up to the next multiple of 32

A frame with zero *records* holds one record: its body is the payload. Small records share a frame,
with consecutive positions from the frame's own on: its body is the length of each payload, u32,
then the payloads, each of these parts filled with zeros up to a multiple of 32 bytes. Version 1
of the format has a frame for each record, version 2 both kinds.

The crc32 of a frame covers what follows it in the header, and the body. *Durable before* says:
when this frame was written, every record at a smaller position was durable. That tells a torn
tail from damage: frames that were written together can reach the disk in any order, so a broken
frame followed by whole ones is a torn group if those still count it among what was not yet
durable; otherwise something that had been durable is broken.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate

from zlib_ng.zlib_ng import crc32

from elanus.storage.objects.base import Buffer

FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)
HEADER_SIZE = 64
FRAME_SIZE = 32
MAX_PAYLOAD_BYTES = (1 << 32) - 1
_SMALL_RECORD_BYTES = 8 << 10
"""Records that are smaller on average share frames: copying them together costs less than a frame
and a checksum for each. Larger ones are written from where they are."""
_SHARED_FRAME_BYTES = 256 << 10
"""Small records share a frame up to about so much, so that a reader needs little at once."""
_KEPT_BYTES = 4 << 20
"""More memory than this is given back after a write."""

_HEADER_MAGIC = b"ELANUSWL"
_HEADER = struct.Struct("<8sIIqQ16s12x")
_FRAME_MAGIC = b"\x9eEW\x01"
MAGIC_WORD = int.from_bytes(_FRAME_MAGIC, "little")
_FRAME_TAIL = struct.Struct("<IIqq")
_CHECKSUM = struct.Struct("<I")
_LENGTH_BYTES = 4
_NO_HEAD = bytes(FRAME_SIZE)
_FILLS = [bytes(size_bytes) for size_bytes in range(FRAME_SIZE)]


@dataclass(frozen=True, slots=True)
class FileHeader:
    start: int
    term: int
    cluster_id: bytes

    def encode(self) -> bytes:
        head = _HEADER.pack(
            _HEADER_MAGIC, FORMAT_VERSION, 0, self.start, self.term, self.cluster_id
        )
        return head + _CHECKSUM.pack(crc32(head))


def decode_header(data: memoryview) -> FileHeader | None:
    """None if it is no whole header of a format version that we can read."""
    if len(data) < HEADER_SIZE:
        return None
    magic, version, _, start, term, cluster_id = _HEADER.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, HEADER_SIZE - 4)
    if magic != _HEADER_MAGIC or version not in READABLE_VERSIONS:
        return None
    if checksum != crc32(data[: HEADER_SIZE - 4]):
        return None
    return FileHeader(start, term, cluster_id)


def padded(size: int) -> int:
    return -(-size // FRAME_SIZE) * FRAME_SIZE


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes of a record that is given in parts."""
    return sum([len(part) if type(part) is bytes else memoryview(part).nbytes for part in parts])


class FrameEncoder:
    """Makes frames of records. Small ones are copied into memory that is used again: fresh memory
    for each write costs more than copying."""

    def __init__(self) -> None:
        self._scratch = BytesIO()
        self._view = memoryview(b"")

    def encode(
        self,
        first: int,
        durable_before: int,
        records: Sequence[Sequence[Buffer]],
        sizes: Sequence[int],
    ) -> list[Buffer]:
        """The buffers of frames to be written one after another: ``records`` of ``sizes`` bytes
        each, at the positions from ``first`` on. They are valid until the next call."""
        size_bytes = sum(sizes)
        if len(records) == 1 or size_bytes >= _SMALL_RECORD_BYTES * len(records):
            frames: list[Buffer] = []
            for index, parts in enumerate(records):
                frames += _encode_frame(first + index, durable_before, sizes[index], parts)
            return frames
        self._empty_scratch()
        heads = [
            (self._copy(records[start:stop], sizes[start:stop]), start, stop - start)
            for start, stop in _shares(sizes)
        ]
        self._view = self._scratch.getbuffer()
        end = self._scratch.tell()
        for offset, start, count in reversed(heads):
            self._seal(offset, end, count, first + start, durable_before)
            end = offset
        return [self._view[: self._scratch.tell()]]

    def _empty_scratch(self) -> None:
        is_large = len(self._view) > _KEPT_BYTES
        self._view.release()
        try:
            self._scratch.seek(0)
            self._scratch.write(_NO_HEAD)
        except BufferError:  # the traceback of a write that failed may still hold its frames
            self._scratch = BytesIO()
        if is_large:
            self._scratch = BytesIO()
        self._scratch.seek(0)

    def _copy(self, records: Sequence[Sequence[Buffer]], sizes: Sequence[int]) -> int:
        """A frame that several records share, but for its head; where it begins."""
        offset = self._scratch.tell()
        table = struct.pack(f"<{len(sizes)}I", *sizes)
        parts: list[Buffer] = [_NO_HEAD, table, _FILLS[-len(table) % FRAME_SIZE]]
        for record, size in zip(records, sizes, strict=True):
            parts += record
            parts.append(_FILLS[-size % FRAME_SIZE])
        self._scratch.writelines(parts)
        return offset

    def _seal(self, offset: int, end: int, count: int, position: int, durable_before: int) -> None:
        length = end - offset - FRAME_SIZE
        _FRAME_TAIL.pack_into(self._view, offset + 8, length, count, position, durable_before)
        checksum = crc32(self._view[offset + 8 : end])
        self._view[offset : offset + 8] = _FRAME_MAGIC + _CHECKSUM.pack(checksum)


def _shares(sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Which records share a frame: from the first up to the second number."""
    ends = list(accumulate(sizes))
    start = 0
    while start < len(sizes):
        before = ends[start] - sizes[start]
        stop = max(start + 1, bisect_right(ends, before + _SHARED_FRAME_BYTES))
        yield start, stop
        start = stop


def _encode_frame(
    position: int, durable_before: int, length: int, body: Sequence[Buffer]
) -> tuple[Buffer, ...]:
    tail = _FRAME_TAIL.pack(length, 0, position, durable_before)
    checksum = crc32(tail)
    for part in body:
        checksum = crc32(part, checksum)
    head = _FRAME_MAGIC + _CHECKSUM.pack(checksum) + tail
    return (head, *body, _FILLS[-length % FRAME_SIZE])


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame: its records, of which the first has ``position``, and the offset behind it."""

    position: int
    payloads: list[memoryview]
    durable_before: int
    end: int


def decode_frame(data: memoryview, offset: int) -> Frame | None:
    """The whole, undamaged frame at ``offset`` of ``data``; None if there is none."""
    start = offset + FRAME_SIZE
    if start > len(data) or data[offset : offset + 4] != _FRAME_MAGIC:
        return None
    length, count, position, durable_before = _FRAME_TAIL.unpack_from(data, offset + 8)
    if start + length > len(data):
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, offset + 4)
    body = data[start : start + length]
    if crc32(body, crc32(data[offset + 8 : start])) != checksum:
        return None
    payloads = [body] if count == 0 else _split(body, count)
    if payloads is None:
        return None
    return Frame(position, payloads, durable_before, start + padded(length))


def _split(body: memoryview, count: int) -> list[memoryview] | None:
    """The payloads of a shared frame; None if they don't fill the body exactly."""
    start = padded(count * _LENGTH_BYTES)
    if start > len(body):
        return None
    sizes = struct.unpack_from(f"<{count}I", body)
    starts = list(accumulate(map(padded, sizes), initial=start))
    if starts.pop() != len(body):
        return None
    return [body[begin : begin + size] for begin, size in zip(starts, sizes, strict=True)]


def claimed_end(data: memoryview, offset: int) -> int | None:
    """Where the frame at ``offset`` ends if its header is right; None if that is no header.

    The header is not verified: a reader uses this to know how much to read.
    """
    start = offset + FRAME_SIZE
    if start > len(data) or data[offset : offset + 4] != _FRAME_MAGIC:
        return None
    (length,) = struct.unpack_from("<I", data, offset + 8)
    return start + padded(length)
