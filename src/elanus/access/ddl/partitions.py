"""Partitions."""

from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.ddl.lookup import find_collection, load_progress, partition_infos
from elanus.access.proxy import Proxy
from elanus.model.timestamp import physical_ms
from elanus.wire.protocol import milvus
from elanus.wire.status import success

SHOW_LOADED = 1  # ShowType.InMemory


async def create_partition(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    name = names.partition_name(request.partition_name, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.create_partition(info.database, info.name, name)
    return success()


async def drop_partition(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    name = names.partition_name(request.partition_name, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.drop_partition(info.database, info.name, name)
    return success()


async def has_partition(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    name = names.partition_name(request.partition_name, proxy.settings.proxy.max_name_length)
    return milvus.BoolResponse(status=success(), value=name in info.partition_by_name)


async def show_partitions(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name, request.collectionID)
    partitions = list(info.partitions)
    if request.partition_names:
        partitions = partition_infos(info, request.partition_names)
    percentages = []
    if request.type == SHOW_LOADED:
        load = await proxy.coordinator.load_info(info.collection_id)
        progress = [load_progress(load, [partition.partition_id]) for partition in partitions]
        partitions = [p for p, loaded in zip(partitions, progress, strict=True) if loaded >= 0]
        percentages = [loaded for loaded in progress if loaded >= 0]
    return milvus.ShowPartitionsResponse(
        status=success(),
        partition_names=[partition.name for partition in partitions],
        partitionIDs=[partition.partition_id for partition in partitions],
        created_timestamps=[partition.created_ts for partition in partitions],
        created_utc_timestamps=[physical_ms(partition.created_ts) for partition in partitions],
        inMemory_percentages=percentages,
    )


HANDLERS = {
    "CreatePartition": create_partition,
    "DropPartition": drop_partition,
    "HasPartition": has_partition,
    "ShowPartitions": show_partitions,
}
