"""Insert and upsert: columns in, complete rows out to the shards, one write for each shard.

An upsert is a delete of the keys and an insert of the rows in one write.
"""

from typing import Any

from elanus.access.context import CallContext
from elanus.access.dml.batch import build, given_keys, new_keys, read_batch, write
from elanus.access.dml.partial import upsert_partially
from elanus.access.proxy import Proxy
from elanus.errors import InvalidParameter
from elanus.rows import build as row_builder
from elanus.wire.results import mutation_result


async def insert(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """InsertRequest → MutationResult."""
    batch = await read_batch(proxy, request, context)
    collection = batch.collection
    if row_builder.generates_keys(collection.schema, batch.columns, collection.properties):
        keys = await new_keys(proxy, batch)
    else:
        keys = None
    rows = await build(proxy, batch, keys)
    timestamp = await write(proxy, collection, rows, batch.partition_id)
    keys = rows.column(collection.schema.primary.name)
    return mutation_result(keys, timestamp=timestamp, inserted=rows.num_rows)


async def upsert(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """UpsertRequest → MutationResult."""
    batch = await read_batch(proxy, request, context)
    primary = batch.collection.schema.primary
    if primary.name not in batch.columns:
        raise InvalidParameter(f"must assign pk when upsert, primary field: {primary.name}")
    if request.partial_update:
        return await upsert_partially(proxy, request, batch, context)
    old_keys = given_keys(proxy, batch)
    generated = await new_keys(proxy, batch) if primary.auto_id else None
    rows = await build(proxy, batch, generated)
    timestamp = await write(proxy, batch.collection, rows, batch.partition_id, old_keys)
    count = rows.num_rows
    return mutation_result(
        rows.column(primary.name),
        timestamp=timestamp,
        inserted=count,
        deleted=count,
        upserted=count,
    )
