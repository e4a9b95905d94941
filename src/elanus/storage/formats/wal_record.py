"""What a WAL record says: one atomic write to a vchannel, or a control record.

::

    magic 4s · header length u32 · header (msgpack) · zeros to a multiple of 64
    then each body, at a multiple of 64 bytes from the start of the record

The bodies of a write are one Arrow schema message and, for each part, one Arrow record batch
message of it; of a control record, its bytes. Encoding gives the buffers to be written one after
another; decoding refers to the record's memory without a copy.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from elanus.errors import CorruptData
from elanus.storage.objects.base import Buffer

_MAGIC = b"EWR1"
_PREFIX = struct.Struct("<4sI")
_ALIGNMENT = 64
_ZEROS = bytes(_ALIGNMENT)
_WRITE = 1
_CONTROL = 2
_MAX_CACHED_SCHEMAS = 256


@dataclass(frozen=True, slots=True)
class WalInsert:
    """``rows``: RecordBatch of complete rows that go to the growing segment ``segment_id``."""

    partition_id: int
    segment_id: int
    rows: Any


@dataclass(frozen=True, slots=True)
class WalDelete:
    """``keys``: int64 or string Arrow array; ``partition_id`` -1 means every partition."""

    partition_id: int
    keys: Any


@dataclass(frozen=True, slots=True)
class WalWrite:
    """The deletes, then the inserts, all at ``ts``."""

    ts: int
    vchannel: str
    collection_id: int
    schema_version: int = 0
    inserts: tuple[WalInsert, ...] = ()
    deletes: tuple[WalDelete, ...] = ()


@dataclass(frozen=True, slots=True)
class WalControl:
    """A change that is ordered with the data. ``kind`` names it, ``body`` is the owner's."""

    ts: int
    vchannel: str
    collection_id: int
    kind: str
    body: bytes = b""


class _Part(msgspec.Struct, array_like=True, frozen=True):
    partition_id: int
    segment_id: int
    size: int
    schema_size: int


class _Header(msgspec.Struct, array_like=True, frozen=True):
    """``schema_size`` of a part is 0 if it has the schema of the part before it."""

    record_type: int
    ts: int
    vchannel: str
    collection_id: int
    schema_version: int = 0
    inserts: tuple[_Part, ...] = ()
    deletes: tuple[_Part, ...] = ()
    kind: str = ""
    body_size: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Header)


def encode(record: WalWrite | WalControl) -> list[Buffer]:
    """The buffers of a record."""
    if isinstance(record, WalControl):
        header = _Header(
            _CONTROL,
            record.ts,
            record.vchannel,
            record.collection_id,
            kind=record.kind,
            body_size=len(record.body),
        )
        return _assemble(header, [record.body])
    bodies: list[Buffer] = []
    inserts = _encode_parts(
        bodies, [(part.partition_id, part.segment_id, part.rows) for part in record.inserts]
    )
    deletes = _encode_parts(
        bodies,
        [(part.partition_id, 0, pa.record_batch({"pk": part.keys})) for part in record.deletes],
    )
    header = _Header(
        _WRITE,
        record.ts,
        record.vchannel,
        record.collection_id,
        record.schema_version,
        inserts,
        deletes,
    )
    return _assemble(header, bodies)


def _encode_parts(bodies: list[Buffer], parts: Sequence[tuple[int, int, Any]]) -> tuple[_Part, ...]:
    encoded = []
    previous = None
    for partition_id, segment_id, batch in parts:
        schema = b"" if batch.schema == previous else _encode_schema(batch.schema)
        if schema:
            bodies.append(schema)
        body = memoryview(batch.serialize())
        bodies.append(body)
        encoded.append(_Part(partition_id, segment_id, body.nbytes, len(schema)))
        previous = batch.schema
    return tuple(encoded)


@lru_cache(_MAX_CACHED_SCHEMAS)
def _encode_schema(schema: Any) -> bytes:
    data: bytes = schema.serialize().to_pybytes()
    return data


@lru_cache(_MAX_CACHED_SCHEMAS)
def _decode_schema(data: bytes) -> Any:
    return pa.ipc.read_schema(pa.py_buffer(data))


def _assemble(header: _Header, bodies: Sequence[Buffer]) -> list[Buffer]:
    head = _encoder.encode(header)
    buffers: list[Buffer] = [_PREFIX.pack(_MAGIC, len(head)) + head]
    for body in bodies:
        buffers.append(_padding(memoryview(buffers[-1]).nbytes))
        buffers.append(body)
    return [buffer for buffer in buffers if memoryview(buffer).nbytes]


def _padding(size: int) -> bytes:
    return _ZEROS[: -size % _ALIGNMENT]


def decode(payload: memoryview) -> WalWrite | WalControl:
    """The record in ``payload``, whose Arrow columns refer to its memory. Raises CorruptData."""
    try:
        magic, size = _PREFIX.unpack_from(payload)
        if magic != _MAGIC:
            raise CorruptData("a log record has no known form")
        end = _PREFIX.size + size
        header = _decoder.decode(payload[_PREFIX.size : end])
        reader = _BodyReader(payload, end)
        if header.record_type == _CONTROL:
            body = bytes(reader.next(header.body_size)) if header.body_size else b""
            return WalControl(header.ts, header.vchannel, header.collection_id, header.kind, body)
        if header.record_type != _WRITE:
            raise CorruptData(f"a log record has the unknown type {header.record_type}")
        inserts = [WalInsert(*part) for part in reader.batches(header.inserts)]
        deletes = [
            WalDelete(partition_id, batch.column(0))
            for partition_id, _, batch in reader.batches(header.deletes)
        ]
    except (struct.error, msgspec.DecodeError, pa.ArrowInvalid) as error:
        raise CorruptData(f"a log record can't be read: {error}") from error
    return WalWrite(
        header.ts,
        header.vchannel,
        header.collection_id,
        header.schema_version,
        tuple(inserts),
        tuple(deletes),
    )


class _BodyReader:
    """Gives the bodies of a record, one after another."""

    def __init__(self, payload: memoryview, offset: int) -> None:
        self._payload = payload
        self._offset = offset

    def next(self, size: int) -> memoryview:
        start = self._offset + -self._offset % _ALIGNMENT
        self._offset = start + size
        if self._offset > len(self._payload):
            raise CorruptData("a log record ends before its bodies do")
        return self._payload[start : self._offset]

    def batches(self, parts: Sequence[_Part]) -> list[tuple[int, int, Any]]:
        """(partition id, segment id, RecordBatch) of each part."""
        found = []
        schema = None
        for part in parts:
            if part.schema_size:
                schema = _decode_schema(bytes(self.next(part.schema_size)))
            body = pa.py_buffer(self.next(part.size))
            batch = pa.ipc.read_record_batch(body, schema)
            found.append((part.partition_id, part.segment_id, batch))
        return found
