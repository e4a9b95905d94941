"""Load and release, and how far loading is."""

from collections.abc import Iterable
from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl.lookup import (
    NOT_LOADED,
    find_collection,
    load_progress,
    partition_infos,
)
from elanus.access.ddl.properties import (
    DATABASE_REPLICA_NUMBER,
    DATABASE_RESOURCE_GROUPS,
    REPLICA_NUMBER,
    RESOURCE_GROUPS,
    positive_int,
    text_list,
)
from elanus.access.proxy import Proxy
from elanus.errors import (
    CollectionNotFound,
    CollectionNotLoaded,
    IndexNotFound,
    InvalidParameter,
    PartitionNotLoaded,
    Rejected,
)
from elanus.model.catalog import CollectionInfo, LoadInfo
from elanus.model.resource_groups import DEFAULT_RESOURCE_GROUP
from elanus.model.types import LoadState
from elanus.wire.protocol import milvus
from elanus.wire.status import success


async def load_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """Answers at once; GetLoadingProgress tells how far it is."""
    info = await find_collection(proxy, context, request.collection_name)
    await _check_loadable(proxy, info, request)
    if request.refresh:
        await _check_loaded(proxy, info)
        return success()
    replicas, groups = await _replicas(proxy, info, request)
    await proxy.coordinator.load(info.collection_id, (), replicas, groups)
    return success()


async def load_partitions(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    if info.schema.partition_key is not None:
        raise Rejected("disable load partitions if partition key mode is used")
    if not request.partition_names:
        raise InvalidParameter("failed to load partition, due to no partition specified")
    partitions = partition_infos(info, request.partition_names)
    await _check_loadable(proxy, info, request)
    if request.refresh:
        await _check_loaded(proxy, info)
        return success()
    replicas, groups = await _replicas(proxy, info, request)
    ids = tuple(dict.fromkeys(partition.partition_id for partition in partitions))
    await proxy.coordinator.load(info.collection_id, ids, replicas, groups)
    return success()


async def release_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    await proxy.coordinator.release(info.collection_id, ())
    return success()


async def release_partitions(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    if info.schema.partition_key is not None:
        raise Rejected("disable release partitions if partition key mode is used")
    if not request.partition_names:
        raise InvalidParameter("", expected="any partition", actual="empty partition list")
    partitions = partition_infos(info, request.partition_names)
    ids = tuple(dict.fromkeys(partition.partition_id for partition in partitions))
    await proxy.coordinator.release(info.collection_id, ids)
    return success()


async def get_load_state(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """A missing collection has a state of its own, and no error."""
    try:
        info = await find_collection(proxy, context, request.collection_name)
    except CollectionNotFound:
        return _load_state(LoadState.NOT_EXIST)
    progress = await _progress(proxy, info, request.partition_names)
    if progress == NOT_LOADED:
        return _load_state(LoadState.NOT_LOAD)
    return _load_state(LoadState.LOADED if progress == 100 else LoadState.LOADING)


def _load_state(state: LoadState) -> Any:
    return milvus.GetLoadStateResponse(status=success(), state=int(state))


async def get_loading_progress(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    progress = await _progress(proxy, info, request.partition_names)
    if progress == NOT_LOADED and request.partition_names:
        raise PartitionNotLoaded(", ".join(request.partition_names))
    if progress == NOT_LOADED:
        raise CollectionNotLoaded(info.collection_id)
    return milvus.GetLoadingProgressResponse(
        status=success(), progress=progress, refresh_progress=progress
    )


async def get_replicas(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name, request.collectionID)
    load = await proxy.coordinator.load_info(info.collection_id)
    if load_progress(load, ()) == NOT_LOADED and (load is None or not load.partition_ids):
        return milvus.GetReplicasResponse(status=success())
    replicas = [
        _replica(proxy, info, load, number, request.with_shard_nodes)
        for number in range(load.replica_number if load is not None else 1)
    ]
    return milvus.GetReplicasResponse(status=success(), replicas=replicas)


def _replica(
    proxy: Proxy, info: CollectionInfo, load: LoadInfo | None, number: int, with_nodes: bool
) -> Any:
    """The ``number``-th copies of all segments: copies are placed each for itself, so a node can
    be part of several replicas."""
    placement = load.placement if load is not None else {}
    groups = load.resource_groups if load is not None else ()
    nodes = sorted({held[number] for held in placement.values() if number < len(held)})
    shards = [
        milvus.ShardReplica(
            leaderID=proxy.node_id,
            leader_addr=f"{proxy.settings.proxy.host}:{proxy.settings.proxy.port}",
            dm_channel_name=vchannel,
            node_ids=nodes if with_nodes else [],
        )
        for vchannel in info.vchannels
    ]
    return milvus.ReplicaInfo(
        replicaID=info.collection_id + number,
        collectionID=info.collection_id,
        partition_ids=load.partition_ids if load is not None else (),
        shard_replicas=shards,
        node_ids=nodes,
        resource_group_name=groups[number] if groups else DEFAULT_RESOURCE_GROUP,
    )


async def _progress(proxy: Proxy, info: CollectionInfo, partitions: Iterable[str]) -> int:
    wanted = [partition.partition_id for partition in partition_infos(info, partitions)]
    load: LoadInfo | None = await proxy.coordinator.load_info(info.collection_id)
    if load is not None and not wanted:
        wanted = list(load.partition_ids)
    return load_progress(load, wanted)


async def _check_loaded(proxy: Proxy, info: CollectionInfo) -> None:
    """There is nothing to refresh in a collection that isn't loaded."""
    if await _progress(proxy, info, ()) == NOT_LOADED:
        raise CollectionNotLoaded(info.name)


async def _check_loadable(proxy: Proxy, info: CollectionInfo, request: Any) -> None:
    """Every vector field that is loaded needs an index."""
    schema = info.schema
    load_fields = list(request.load_fields)
    vectors = [field.name for field in schema.vector_fields]
    if load_fields:
        for name in load_fields:
            if name not in schema.by_name:
                raise Rejected(f"load field {name} does not exist in collection {info.name}")
        if schema.primary.name not in load_fields:
            raise Rejected(
                f"load field list {load_fields} does not contain primary key field "
                f"{schema.primary.name}"
            )
        key = schema.partition_key
        if key is not None and key.name not in load_fields:
            raise Rejected(
                f"load field list {load_fields} does not contain partition key field {key.name}"
            )
        vectors = [name for name in vectors if name in load_fields]
        if not vectors:
            raise Rejected(f"load field list {load_fields} does not contain any vector field")
    indexes = await proxy.coordinator.list_indexes(info.collection_id)
    if not indexes:
        raise IndexNotFound(collection=info.name)
    indexed = {index.field_name for index in indexes}
    missing = [name for name in vectors if name not in indexed]
    if missing:
        raise Rejected(
            f"there is no vector index on field: [{' '.join(missing)}], please create index firstly"
        )


async def _replicas(
    proxy: Proxy, info: CollectionInfo, request: Any
) -> tuple[int, tuple[str, ...]]:
    """(number, resource groups): what is asked for, else what the collection's properties say,
    else its database's."""
    asked: int = request.replica_number
    if asked < 0:
        raise InvalidParameter(
            f"the replica number of collection {info.name}",
            expected="a positive number",
            actual=str(asked),
        )
    replicas = asked or positive_int(info.properties, REPLICA_NUMBER)
    groups = tuple(request.resource_groups) or text_list(info.properties, RESOURCE_GROUPS)
    if not replicas or not groups:
        database = await proxy.coordinator.describe_database(info.database)
        replicas = replicas or positive_int(database.properties, DATABASE_REPLICA_NUMBER) or 1
        groups = groups or text_list(database.properties, DATABASE_RESOURCE_GROUPS)
    return replicas, groups


HANDLERS = {
    "LoadCollection": load_collection,
    "LoadPartitions": load_partitions,
    "ReleaseCollection": release_collection,
    "ReleasePartitions": release_partitions,
    "GetLoadState": get_load_state,
    "GetLoadingProgress": get_loading_progress,
    "GetReplicas": get_replicas,
}
