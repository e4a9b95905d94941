"""Layout of a local WAL file: a header of 64 bytes, then frames, each at a multiple of 32 bytes.

::

    header   magic 8s · format version u32 · zero u32 · start position i64 · term u64
             · cluster id 16s · zero 12s · crc32 u32                                  (64 bytes)
    frame    magic 4s · crc32 u32 · length u32 · zero u32 · position i64
             · durable before i64                                                     (32 bytes)
             payload (length bytes) · zeros up to the next multiple of 32

The crc32 of a frame covers what follows it in the header, and the payload. *Durable before* says:
when this frame was written, every record at a smaller position was durable. That tells a torn
tail from damage: frames that were written together can reach the disk in any order, so a broken
frame followed by whole ones is a torn group if those still count it among what was not yet
durable; otherwise something that had been durable is broken.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from elanus.storage.objects.base import Buffer
from elanus.storage.wal.base import WalRecord

FORMAT_VERSION = 1
HEADER_SIZE = 64
FRAME_SIZE = 32
MAX_PAYLOAD_BYTES = (1 << 32) - 1

_HEADER_MAGIC = b"ELANUSWL"
_HEADER = struct.Struct("<8sIIqQ16s12x")
_FRAME_MAGIC = b"\x9eEW\x01"
MAGIC_WORD = int.from_bytes(_FRAME_MAGIC, "little")
_FRAME_TAIL = struct.Struct("<IIqq")
_CHECKSUM = struct.Struct("<I")
_ZEROS = bytes(FRAME_SIZE)


@dataclass(frozen=True, slots=True)
class FileHeader:
    start: int
    term: int
    cluster_id: bytes

    def encode(self) -> bytes:
        head = _HEADER.pack(
            _HEADER_MAGIC, FORMAT_VERSION, 0, self.start, self.term, self.cluster_id
        )
        return head + _CHECKSUM.pack(zlib.crc32(head))


def decode_header(data: memoryview) -> FileHeader | None:
    """None if it is no whole header of a known format version."""
    if len(data) < HEADER_SIZE:
        return None
    magic, version, _, start, term, cluster_id = _HEADER.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, HEADER_SIZE - 4)
    if magic != _HEADER_MAGIC or version != FORMAT_VERSION:
        return None
    if checksum != zlib.crc32(data[: HEADER_SIZE - 4]):
        return None
    return FileHeader(start, term, cluster_id)


def padded(size: int) -> int:
    return -(-size // FRAME_SIZE) * FRAME_SIZE


def size_of(parts: Sequence[Buffer]) -> int:
    """Bytes of a record that is given in parts."""
    size_bytes = 0
    for part in parts:
        size_bytes += len(part) if type(part) is bytes else memoryview(part).nbytes
    return size_bytes


def encode_frame(position: int, durable_before: int, parts: Sequence[Buffer]) -> list[Buffer]:
    """The buffers of one frame, to be written one after another."""
    length = size_of(parts)
    tail = _FRAME_TAIL.pack(length, 0, position, durable_before)
    checksum = zlib.crc32(tail)
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    head = _FRAME_MAGIC + _CHECKSUM.pack(checksum) + tail
    return [head, *parts, _ZEROS[: -length % FRAME_SIZE]]


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame: its record and the offset of the next one."""

    record: WalRecord
    durable_before: int
    end: int


def decode_frame(data: memoryview, offset: int) -> Frame | None:
    """The whole, undamaged frame at ``offset`` of ``data``; None if there is none."""
    start = offset + FRAME_SIZE
    if start > len(data) or data[offset : offset + 4] != _FRAME_MAGIC:
        return None
    length, _, position, durable_before = _FRAME_TAIL.unpack_from(data, offset + 8)
    if start + length > len(data):
        return None
    (checksum,) = _CHECKSUM.unpack_from(data, offset + 4)
    payload = data[start : start + length]
    if zlib.crc32(payload, zlib.crc32(data[offset + 8 : start])) != checksum:
        return None
    return Frame(WalRecord(position, payload), durable_before, start + padded(length))


def claimed_end(data: memoryview, offset: int) -> int | None:
    """Where the frame at ``offset`` ends if its header is right; None if that is no header.

    The header is not verified: a reader uses this to know how much to read.
    """
    start = offset + FRAME_SIZE
    if start > len(data) or data[offset : offset + 4] != _FRAME_MAGIC:
        return None
    (length,) = struct.unpack_from("<I", data, offset + 8)
    return start + padded(length)
