"""What a shard says in the WAL: its writes, and the changes of its collection.

The rows of a write are turned into bytes before it has a timestamp and segments, so that this part
of the work runs beside the append of the group before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from elanus.errors import CorruptData
from elanus.model.catalog import CollectionInfo, IndexInfo
from elanus.services.messages import PartitionRows, PrimaryKeys, WriteRequest
from elanus.storage.formats.wal_record import (
    WalControl,
    WalDelete,
    WalInsert,
    WalWrite,
)
from elanus.storage.formats.wal_record import decode as decode_record
from elanus.storage.formats.wal_record import encode as encode_record
from elanus.storage.objects.base import Buffer

_COLLECTION_CHANGED = "collection"


class _CollectionBody(msgspec.Struct, frozen=True):
    collection: CollectionInfo
    indexes: tuple[IndexInfo, ...]


class _EncodedRows:
    """Stands for a record batch whose Arrow message is made already."""

    __slots__ = ("_message", "schema")

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.schema = rows.schema
        self._message = rows.serialize()

    def serialize(self) -> Any:
        return self._message


@dataclass(frozen=True, slots=True)
class EncodedWrite:
    """The bodies of a write's inserts, in their order."""

    inserts: tuple[_EncodedRows, ...]


@dataclass(frozen=True, slots=True)
class LoggedWrite:
    """A write as the log has it. ``segment_ids``: the growing segment of each insert."""

    vchannel: str
    timestamp: int
    inserts: tuple[PartitionRows, ...]
    segment_ids: tuple[int, ...]
    deletes: tuple[PrimaryKeys, ...]


@dataclass(frozen=True, slots=True)
class LoggedCollection:
    """A change of the collection as the log has it."""

    vchannel: str
    timestamp: int
    collection: CollectionInfo
    indexes: tuple[IndexInfo, ...]


def encode_bodies(request: WriteRequest) -> EncodedWrite:
    """The part of encoding that takes time with the size of the write."""
    return EncodedWrite(tuple(_EncodedRows(part.rows) for part in request.inserts))


def encode_write(
    request: WriteRequest, encoded: EncodedWrite, timestamp: int, segment_ids: Sequence[int]
) -> list[Buffer]:
    """The buffers of the record. ``segment_ids``: of the growing segment of each insert."""
    return encode_record(
        WalWrite(
            ts=timestamp,
            vchannel=request.vchannel,
            collection_id=request.collection_id,
            schema_version=request.schema_version,
            inserts=tuple(
                WalInsert(part.partition_id, segment_id, rows)
                for part, segment_id, rows in zip(
                    request.inserts, segment_ids, encoded.inserts, strict=True
                )
            ),
            deletes=tuple(WalDelete(part.partition_id, part.keys) for part in request.deletes),
        )
    )


def encode_collection(
    vchannel: str, timestamp: int, collection: CollectionInfo, indexes: tuple[IndexInfo, ...]
) -> list[Buffer]:
    return encode_record(
        WalControl(
            ts=timestamp,
            vchannel=vchannel,
            collection_id=collection.collection_id,
            kind=_COLLECTION_CHANGED,
            body=msgspec.json.encode(_CollectionBody(collection, indexes)),
        )
    )


def decode(payload: memoryview) -> LoggedWrite | LoggedCollection:
    """Raises CorruptData for what no shard has written."""
    record = decode_record(payload)
    if isinstance(record, WalWrite):
        return LoggedWrite(
            vchannel=record.vchannel,
            timestamp=record.ts,
            inserts=tuple(PartitionRows(part.partition_id, part.rows) for part in record.inserts),
            segment_ids=tuple(part.segment_id for part in record.inserts),
            deletes=tuple(PrimaryKeys(part.keys, part.partition_id) for part in record.deletes),
        )
    if record.kind != _COLLECTION_CHANGED:
        raise CorruptData(f"a log record of {record.vchannel} has the unknown kind {record.kind}")
    try:
        body = msgspec.json.decode(record.body, type=_CollectionBody)
    except msgspec.DecodeError as error:
        raise CorruptData(
            f"a control record of {record.vchannel} can't be read: {error}"
        ) from error
    return LoggedCollection(record.vchannel, record.ts, body.collection, body.indexes)
