"""Partitions."""

from typing import Any

from elanus.access.rest.call import RestCall
from elanus.wire.schema import pairs_to_dict


async def list_all(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("collectionName")
    response = await call.rpc("ShowPartitions", collection_name=name)
    return {"data": list(response.partition_names)}


async def has(call: RestCall) -> dict[str, Any]:
    return {"data": {"has": (await _of_partition(call, "HasPartition")).value}}


async def get_stats(call: RestCall) -> dict[str, Any]:
    response = await _of_partition(call, "GetPartitionStatistics")
    return {"data": {"rowCount": int(pairs_to_dict(response.stats).get("row_count", "0"))}}


async def create(call: RestCall) -> dict[str, Any]:
    await _of_partition(call, "CreatePartition")
    return {"data": {}}


async def drop(call: RestCall) -> dict[str, Any]:
    await _of_partition(call, "DropPartition")
    return {"data": {}}


async def load(call: RestCall) -> dict[str, Any]:
    return await _of_partitions(call, "LoadPartitions")


async def release(call: RestCall) -> dict[str, Any]:
    return await _of_partitions(call, "ReleasePartitions")


async def _of_partition(call: RestCall, method: str) -> Any:
    return await call.rpc(
        method,
        collection_name=call.body.required_text("collectionName"),
        partition_name=call.body.required_text("partitionName"),
    )


async def _of_partitions(call: RestCall, method: str) -> dict[str, Any]:
    await call.rpc(
        method,
        collection_name=call.body.required_text("collectionName"),
        partition_names=call.body.required_texts("partitionNames"),
    )
    return {"data": {}}


ROUTES = {
    "partitions/list": list_all,
    "partitions/has": has,
    "partitions/get_stats": get_stats,
    "partitions/create": create,
    "partitions/drop": drop,
    "partitions/load": load,
    "partitions/release": release,
}
