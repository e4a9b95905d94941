"""Collections: create, drop, describe, list."""

from typing import Any

import numpy as np

from elanus.access.context import CallContext
from elanus.access.ddl import names, schemas
from elanus.access.ddl.lookup import find_collection, loaded_infos
from elanus.access.proxy import Proxy
from elanus.engine.text.fields import check_analyzers, has_analyzer
from elanus.errors import CollectionNotFound, CollectionNotLoaded, InvalidParameter
from elanus.model.catalog import CollectionInfo
from elanus.model.timestamp import physical_ms
from elanus.model.types import ConsistencyLevel, LoadState
from elanus.wire.protocol import milvus, pack
from elanus.wire.schema import collection_message, decode_schema, pairs_to_dict
from elanus.wire.status import respond, success

SHOW_LOADED = 1  # ShowType.InMemory


async def create_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    try:
        level = ConsistencyLevel(request.consistency_level)
    except ValueError:
        raise InvalidParameter(
            f"unknown consistency level {request.consistency_level} "
            f"for collection {request.collection_name}"
        ) from None
    asked = schemas.resolve(
        schemas.CollectionRequest(
            name=request.collection_name,
            schema=decode_schema(request.schema),
            shards=request.shards_num,
            partitions=request.num_partitions,
            properties=pairs_to_dict(request.properties),
        ),
        proxy.settings,
    )
    if any(has_analyzer(field) for field in asked.schema.fields):
        await proxy.world.executor.run("compute", check_analyzers, asked.schema)
    await proxy.coordinator.create_collection(
        context.database,
        asked.schema,
        shards=asked.shards,
        partitions=asked.partitions,
        consistency_level=level,
        properties=asked.properties,
    )
    return success()


async def drop_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    name = names.collection_name(request.collection_name, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.drop_collection(context.database, name)
    return success()


async def has_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    try:
        await find_collection(proxy, context, request.collection_name)
    except CollectionNotFound:
        return milvus.BoolResponse(status=success(), value=False)
    return milvus.BoolResponse(status=success(), value=True)


async def describe_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name, request.collectionID)
    return await _description(proxy, info, request.collection_name)


async def batch_describe_collection(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """A collection that is missing has its error in its own response."""
    wanted = [(name, 0) for name in request.collection_name]
    wanted += [("", collection_id) for collection_id in request.collectionID]
    responses = []
    for name, collection_id in wanted:
        try:
            info = await find_collection(proxy, context, name, collection_id)
            responses.append(await _description(proxy, info, name))
        except CollectionNotFound as error:
            responses.append(respond(milvus.DescribeCollectionResponse, error))
    return milvus.BatchDescribeCollectionResponse(status=success(), responses=responses)


async def _description(proxy: Proxy, info: CollectionInfo, requested_name: str) -> Any:
    coordinator = proxy.coordinator
    database = await coordinator.describe_database(info.database)
    message = collection_message(
        info,
        requested_name=requested_name.strip(),
        aliases=await coordinator.list_aliases(info.database, info.name),
        database_id=database.database_id,
    )
    message.status.CopyFrom(success())
    return message


async def show_collections(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """All collections of the database, or those that are loaded or being loaded."""
    collections = await proxy.coordinator.list_collections(context.database)
    if request.type != SHOW_LOADED:
        return _listing(collections)
    loads = await loaded_infos(proxy)
    if request.collection_names:
        asked = [await find_collection(proxy, context, name) for name in request.collection_names]
        for info in asked:
            if info.collection_id not in loads:
                raise CollectionNotLoaded(info.name)
        collections = asked
    shown = [info for info in collections if info.collection_id in loads]
    response = _listing(shown)
    states = [loads[info.collection_id] for info in shown]
    response.inMemory_percentages.extend(load.progress for load in states)
    available = np.array([load.state is LoadState.LOADED for load in states], dtype=bool)
    response.query_service_available.extend(pack(available, "?"))
    return response


def _listing(collections: list[CollectionInfo]) -> Any:
    return milvus.ShowCollectionsResponse(
        status=success(),
        collection_names=[info.name for info in collections],
        collection_ids=[info.collection_id for info in collections],
        created_timestamps=[info.created_ts for info in collections],
        created_utc_timestamps=[physical_ms(info.created_ts) for info in collections],
        shards_num=[len(info.vchannels) for info in collections],
    )


HANDLERS = {
    "CreateCollection": create_collection,
    "DropCollection": drop_collection,
    "HasCollection": has_collection,
    "DescribeCollection": describe_collection,
    "BatchDescribeCollection": batch_describe_collection,
    "ShowCollections": show_collections,
}
