"""Delete: by primary keys at once, by any other filter through a query for the keys.

The keys that a filter finds are read at one instant with Strong consistency; rows written after
that instant stay. Each shard gets one atomic write.
"""

from typing import Any

import pyarrow as pa

from elanus.access.context import CallContext
from elanus.access.dml.batch import send
from elanus.access.dml.partitions import delete_partition
from elanus.access.dql.consistency import ReadInstant
from elanus.access.dql.fan_out import ReadScope, query_shards
from elanus.access.dql.plans import compile_plan
from elanus.access.dql.scope import find_meta, loaded_partitions, pruned_partitions
from elanus.access.proxy import Proxy
from elanus.engine.filter.plan import Plan
from elanus.errors import InvalidParameter
from elanus.model.catalog import ALL_PARTITIONS, CollectionInfo
from elanus.rows.routing import bucket_of, group_rows
from elanus.services.messages import PrimaryKeys, WriteRequest
from elanus.wire.results import mutation_result


async def delete(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """DeleteRequest → MutationResult; ``delete_cnt`` is the number of keys that were listed or,
    for other filters, found."""
    meta = await find_meta(proxy, context, request.collection_name)
    collection = meta.info
    partition_id = delete_partition(proxy, collection, request.partition_name)
    plan = compile_plan(proxy, meta, request.expr, request.expr_template_values, purpose="delete")
    if plan is None or plan.always_true:
        raise InvalidParameter(f"delete plan can't be empty or always true : {request.expr}")
    keys = plan.primary_keys
    if keys is None:
        keys = await _matching_keys(proxy, collection, plan, partition_id, context)
    if len(keys) == 0:
        timestamp = await proxy.coordinator.allocate_timestamps()
    else:
        timestamp = await send(proxy, _writes(collection, keys, partition_id))
    return mutation_result(timestamp=timestamp, deleted=len(keys))


async def _matching_keys(
    proxy: Proxy,
    collection: CollectionInfo,
    plan: Plan,
    partition_id: int,
    context: CallContext,
) -> pa.Array:
    if partition_id == ALL_PARTITIONS:
        wanted = pruned_partitions(collection, plan)
    else:
        wanted = (partition_id,)
    partition_ids = await loaded_partitions(proxy, collection, wanted, "failed to delete")
    now = await proxy.coordinator.allocate_timestamps()
    primary = collection.schema.primary.name
    scope = ReadScope(collection, plan, partition_ids, ReadInstant(now, now), (primary,))
    answer = await query_shards(proxy, scope, context)
    return answer.rows.column(primary)


def _writes(collection: CollectionInfo, keys: pa.Array, partition_id: int) -> list[WriteRequest]:
    return [
        WriteRequest(
            vchannel=collection.vchannels[shard],
            collection_id=collection.collection_id,
            schema_version=collection.schema.version,
            deletes=(
                PrimaryKeys(
                    keys if members is None else keys.take(pa.array(members)), partition_id
                ),
            ),
        )
        for shard, members in group_rows(bucket_of(keys, len(collection.vchannels)))
    ]
