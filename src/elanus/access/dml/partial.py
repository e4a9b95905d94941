"""Partial upsert: the columns that are given replace those of the rows that are there.

The old rows are read with Strong consistency, completed, and written as an ordinary upsert. What
another client writes to the same rows between the read and the write is overwritten, as in Milvus.
Keys of the dynamic field are merged one by one. A row that isn't there yet must come complete.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from elanus.access.context import CallContext
from elanus.access.dml.batch import Batch, given_keys, new_keys, offload, write
from elanus.access.dql.consistency import ReadInstant
from elanus.access.dql.fan_out import ReadScope, query_shards
from elanus.access.dql.plans import key_plan
from elanus.access.dql.scope import loaded_partitions
from elanus.access.proxy import Proxy
from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.schema import FieldSchema, arrow_type
from elanus.rows import build as row_builder
from elanus.wire.results import mutation_result

REPLACE = 0


async def upsert_partially(proxy: Proxy, request: Any, batch: Batch, context: CallContext) -> Any:
    """UpsertRequest with ``partial_update`` → MutationResult."""
    _refuse_operations(request.field_ops)
    keys = given_keys(proxy, batch)
    primary = batch.collection.schema.primary
    old = await _existing(proxy, batch, keys, context)
    generated = await new_keys(proxy, batch) if primary.auto_id else keys

    def complete() -> pa.RecordBatch:
        return complete_rows(batch, old, keys, generated, proxy.settings.common.json_max_length)

    rows = await offload(proxy, batch.size_bytes + old.nbytes, complete)
    timestamp = await write(proxy, batch.collection, rows, batch.partition_id, keys)
    return mutation_result(
        generated,
        timestamp=timestamp,
        inserted=rows.num_rows,
        deleted=old.num_rows,
        upserted=rows.num_rows,
    )


def complete_rows(
    batch: Batch, old: pa.RecordBatch, keys: pa.Array, new_keys: pa.Array, json_max_length: int
) -> pa.RecordBatch:
    """The rows of ``keys``: given columns, and of ``old`` (complete rows) what is not given."""
    schema = batch.collection.schema
    places = pc.index_in(keys, value_set=old.column(schema.primary.name))
    arrays = []
    for field in schema.fields:
        kept = old.column(field.name).take(places)
        if field.is_primary:
            arrays.append(new_keys)
        elif field.is_function_output:
            arrays.append(pa.nulls(batch.num_rows, arrow_type(field)))
        elif field.name not in batch.columns:
            arrays.append(_filled(field, kept, places))
        else:
            given = row_builder.build_column(
                field, batch.columns[field.name], schema, batch.num_rows, json_max_length
            )
            arrays.append(_merged(kept, given, json_max_length) if field.is_dynamic else given)
    rows = pa.RecordBatch.from_arrays(arrays, schema=schema.arrow)
    return row_builder.with_function_outputs(rows, schema)


async def _existing(
    proxy: Proxy, batch: Batch, keys: pa.Array, context: CallContext
) -> pa.RecordBatch:
    collection = batch.collection
    wanted = () if batch.partition_id is None else (batch.partition_id,)
    partition_ids = await loaded_partitions(proxy, collection, wanted, "failed to upsert")
    now = await proxy.coordinator.allocate_timestamps()
    names = tuple(collection.schema.by_name)
    plan = key_plan(collection, keys)
    scope = ReadScope(collection, plan, partition_ids, ReadInstant(now, now), names)
    return (await query_shards(proxy, scope, context)).rows


def _filled(field: FieldSchema, kept: pa.Array, places: pa.Array) -> pa.Array:
    """A column of old values; new rows get what an insert without the column would give them."""
    if not places.null_count:
        return kept
    absent = row_builder.absent_column(field, 1)
    if absent.null_count:
        return kept
    return pc.if_else(places.is_valid(), kept, absent[0])


def _merged(kept: pa.Array, given: pa.Array, max_length: int) -> pa.Array:
    """Objects of the dynamic field: the old one's keys under the new one's."""
    rows = [
        new if old is None else orjson.dumps({**orjson.loads(old), **orjson.loads(new)})
        for old, new in zip(kept.to_pylist(), given.to_pylist(), strict=True)
    ]
    longest = max(map(len, rows))
    if longest > max_length:
        raise InvalidParameter(
            f"the length ({longest}) of json field ($meta) exceeds max length ({max_length})"
        )
    return pa.array(rows, pa.binary())


def _refuse_operations(operations: Sequence[Any]) -> None:
    for operation in operations:
        if operation.op != REPLACE:
            raise Unimplemented(
                f"the partial update operation of field {operation.field_name} is not supported "
                "yet, only REPLACE is: service unimplemented"
            )
