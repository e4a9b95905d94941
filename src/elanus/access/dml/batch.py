"""One insert or upsert on its way: the request's columns, their rows, and the writes to the shards.

A write to one shard is atomic and has one timestamp; the shards of one request are independent of
each other, as in Milvus.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from elanus.access.context import CallContext
from elanus.access.dml.partitions import insert_partition
from elanus.access.dql.scope import find_meta
from elanus.access.owners import write_to_owner
from elanus.access.proxy import Proxy
from elanus.errors import InvalidParameter, ParameterTooLarge, SchemaMismatch
from elanus.model.catalog import ALL_PARTITIONS, CollectionInfo
from elanus.model.timestamptz import zone_of
from elanus.model.types import DataType
from elanus.rows import build as row_builder
from elanus.rows.build import decoded_columns
from elanus.rows.routing import bucket_of, group_rows, route
from elanus.services.messages import PartitionRows, PrimaryKeys, WriteRequest
from elanus.wire.columns import WireColumn
from elanus.wire.lists import STRUCT_HOLDER

T = TypeVar("T")

OFFLOAD_BYTES = 2**22
"""Requests from about this size on are checked and converted in a thread, not on the event loop."""
_ROW_BYTES = 40
_JSON_ROW_BYTES = 400
"""What a row of a column is taken to cost beside its vector; JSON must be parsed."""
_SPARSE_ROW_VALUES = 256


@dataclass(frozen=True, slots=True)
class Batch:
    """What one write request brings: columns by field, to be put into ``partition_id`` or, if that
    is None, into the partitions of their key."""

    collection: CollectionInfo
    columns: Mapping[str, WireColumn]
    num_rows: int
    partition_id: int | None
    size_bytes: int


@dataclass(slots=True)
class _ShardWrite:
    """One shard's part of a request."""

    inserts: list[PartitionRows] = field(default_factory=list)
    deletes: list[PrimaryKeys] = field(default_factory=list)


async def read_batch(proxy: Proxy, request: Any, context: CallContext) -> Batch:
    """Checks what concerns the request as a whole and decodes its columns."""
    limit = proxy.settings.quota_and_limits.limits.max_insert_size
    if limit >= 0 and request.ByteSize() > limit:
        raise ParameterTooLarge(
            f"insert request size exceeds maxInsertSize, size: {request.ByteSize()} bytes, "
            f"limit: {limit} bytes: parameter too large"
        )
    size_bytes = _estimated_bytes(request)
    collection = (await find_meta(proxy, context, request.collection_name)).info
    row_builder.check_num_rows(request.num_rows)
    if request.schema_timestamp and request.schema_timestamp != collection.updated_ts:
        raise SchemaMismatch(collection.name)
    partition_id = insert_partition(proxy, collection, request.partition_name)
    columns = await offload(proxy, size_bytes, lambda: _decode(request, collection))
    return Batch(collection, columns, request.num_rows, partition_id, size_bytes)


def given_keys(proxy: Proxy, batch: Batch) -> pa.Array:
    """The primary keys of an upsert, checked: no two rows may have the same."""
    schema = batch.collection.schema
    keys = row_builder.build_column(
        schema.primary,
        batch.columns[schema.primary.name],
        schema,
        batch.num_rows,
        proxy.settings.common.json_max_length,
    )
    if pc.count_distinct(keys).as_py() != len(keys):
        raise InvalidParameter("duplicate primary keys are not allowed in the same batch")
    return keys


async def write(
    proxy: Proxy,
    collection: CollectionInfo,
    rows: pa.RecordBatch,
    partition_id: int | None,
    deleted_keys: pa.Array | None = None,
) -> int:
    """Writes complete ``rows`` to their shards; returns the largest timestamp of the writes.

    partition_id: where the rows go; None means by the partition key, and then the deletes of
    ``deleted_keys`` span all partitions.
    """
    writes: dict[int, _ShardWrite] = {}
    if deleted_keys is not None:
        scope = ALL_PARTITIONS if partition_id is None else partition_id
        for shard, members in group_rows(bucket_of(deleted_keys, len(collection.vchannels))):
            chosen = deleted_keys if members is None else deleted_keys.take(pa.array(members))
            writes.setdefault(shard, _ShardWrite()).deletes.append(PrimaryKeys(chosen, scope))
    for shard, parts in route(collection, rows, partition_id):
        target = writes.setdefault(shard, _ShardWrite())
        target.inserts.extend(PartitionRows(partition, part) for partition, part in parts)
    return await send(
        proxy,
        [
            WriteRequest(
                vchannel=collection.vchannels[shard],
                collection_id=collection.collection_id,
                schema_version=collection.schema.version,
                inserts=tuple(part.inserts),
                deletes=tuple(part.deletes),
            )
            for shard, part in sorted(writes.items())
        ],
    )


async def send(proxy: Proxy, requests: Sequence[WriteRequest]) -> int:
    """Sends all writes at once and waits for all of them; returns the largest timestamp if every
    one is durable, else raises the first failure."""

    async def send_one(request: WriteRequest) -> int:
        return await write_to_owner(proxy, request.vchannel, lambda node: node.write(request))

    if len(requests) == 1:
        return await send_one(requests[0])
    answers = await asyncio.gather(*map(send_one, requests), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return max(answer for answer in answers if isinstance(answer, int))


async def new_keys(proxy: Proxy, batch: Batch) -> pa.Array:
    """A fresh primary key for every row."""
    first = await proxy.coordinator.allocate_ids(batch.num_rows)
    return row_builder.generated_keys(batch.collection.schema.primary, first, batch.num_rows)


async def build(proxy: Proxy, batch: Batch, primary_keys: pa.Array | None) -> pa.RecordBatch:
    """Complete rows; ``primary_keys`` take the place of a given column."""

    def build_rows() -> pa.RecordBatch:
        return row_builder.build_rows(
            batch.columns,
            batch.collection.schema,
            batch.num_rows,
            primary_keys=primary_keys,
            json_max_length=proxy.settings.common.json_max_length,
        )

    if batch.collection.schema.functions:
        return await proxy.world.executor.run("compute", build_rows)
    return await offload(proxy, batch.size_bytes, build_rows)


async def offload(proxy: Proxy, size_bytes: int, function: Callable[[], T]) -> T:
    """Runs what takes long for a large request in a thread."""
    if size_bytes < OFFLOAD_BYTES:
        return function()
    return await proxy.world.executor.run("compute", function)


def _estimated_bytes(request: Any) -> int:
    """Roughly what there is to do, without touching the data."""
    row_bytes = list_bytes = 0
    for column in request.fields_data:
        row_bytes += _JSON_ROW_BYTES if column.type == DataType.JSON else _ROW_BYTES
        holder = column.WhichOneof("field")
        if holder == "vectors":
            is_sparse = column.vectors.WhichOneof("data") == "sparse_float_vector"
            row_bytes += 4 * (_SPARSE_ROW_VALUES if is_sparse else column.vectors.dim)
        elif holder == STRUCT_HOLDER:
            list_bytes += column.ByteSize()
    return row_bytes * int(request.num_rows) + list_bytes


def _decode(request: Any, collection: CollectionInfo) -> dict[str, WireColumn]:
    return decoded_columns(request.fields_data, collection.schema, zone_of(collection.timezone))
