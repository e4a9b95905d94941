"""Flush and compaction, and whether they are done."""

import contextlib
from collections.abc import Iterable
from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl.lookup import find_collection
from elanus.access.owners import growing_of
from elanus.access.proxy import Proxy
from elanus.errors import CollectionNotFound, InvalidParameter, Rejected, Unimplemented
from elanus.model.catalog import CollectionInfo
from elanus.model.types import SegmentLevel
from elanus.services.messages import FlushTicket
from elanus.wire.protocol import milvus, schema
from elanus.wire.status import success

EXECUTING, COMPLETED = 1, 2  # CompactionState
NO_COMPACTION = -1


def _flush_ts(tickets: Iterable[FlushTicket]) -> int:
    """Everything that was acknowledged before the flush began lies at or before each ticket's
    timestamp, so the smallest one is what every shard must have reached."""
    return min((ticket.flush_ts for ticket in tickets), default=0)


async def flush(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """Seals; GetFlushState tells when it is all in objects. Every map has every name asked for."""
    if not request.collection_names:
        raise InvalidParameter("collection names should not be empty")
    response = milvus.FlushResponse(status=success(), db_name=context.database)
    for name in request.collection_names:
        info = await find_collection(proxy, context, name)
        tickets = await proxy.coordinator.flush(info.collection_id)
        sealed = [segment for ticket in tickets for segment in ticket.segment_ids]
        flushed = await _flushed_ids(proxy, info.collection_id)
        response.coll_segIDs[name].CopyFrom(schema.LongArray(data=sealed))
        response.flush_coll_segIDs[name].CopyFrom(schema.LongArray(data=flushed - set(sealed)))
        response.coll_seal_times[name] = proxy.world.clock.now_ms() // 1000
        response.coll_flush_ts[name] = _flush_ts(tickets)
    return response


async def _flushed_ids(proxy: Proxy, collection_id: int) -> set[int]:
    return {
        segment.segment_id
        for segment in await proxy.coordinator.list_segments(collection_id)
        if segment.level is not SegmentLevel.L0
    }


async def get_flush_state(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """By flush timestamp of a collection, or by segment ids alone (old clients)."""
    if request.collection_name and request.flush_ts:
        info = await find_collection(proxy, context, request.collection_name)
        done = await proxy.coordinator.is_flushed(info.collection_id, request.flush_ts)
        return milvus.GetFlushStateResponse(status=success(), flushed=done)
    if request.collection_name:
        collections = [await find_collection(proxy, context, request.collection_name)]
    else:
        collections = await _all_collections(proxy)
    growing = {
        segment
        for info in collections
        for segment in await _growing_ids(proxy, info)
        if segment in request.segmentIDs
    }
    for info in collections:
        growing -= await _flushed_ids(proxy, info.collection_id)
    return milvus.GetFlushStateResponse(status=success(), flushed=not growing)


async def _growing_ids(proxy: Proxy, info: CollectionInfo) -> set[int]:
    found: set[int] = set()
    for vchannel in info.vchannels:
        growing = await growing_of(proxy, info, vchannel)
        found.update(segment.segment_id for segment in growing)
    return found


async def _all_collections(proxy: Proxy, database: str = "") -> list[CollectionInfo]:
    names = [database] if database else [d.name for d in await proxy.coordinator.list_databases()]
    return [info for name in names for info in await proxy.coordinator.list_collections(name)]


async def flush_all(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """Flushes every collection, of one database if the request names one."""
    timestamp = await proxy.coordinator.allocate_timestamps()
    for info in await _all_collections(proxy, request.db_name):
        with contextlib.suppress(CollectionNotFound):  # dropped meanwhile
            await proxy.coordinator.flush(info.collection_id)
    return milvus.FlushAllResponse(status=success(), flush_all_ts=timestamp)


async def get_flush_all_state(proxy: Proxy, request: Any, context: CallContext) -> Any:
    timestamp = request.flush_all_ts or min(request.flush_all_tss.values(), default=0)
    if not timestamp:
        raise InvalidParameter("FlushAllTss or FlushAllTs is required")
    for info in await _all_collections(proxy, request.db_name):
        if info.created_ts > timestamp:
            continue
        try:
            done = await proxy.coordinator.is_flushed(info.collection_id, timestamp)
        except CollectionNotFound:
            continue  # dropped meanwhile
        if not done:
            return milvus.GetFlushAllStateResponse(status=success(), flushed=False)
    return milvus.GetFlushAllStateResponse(status=success(), flushed=True)


async def manual_compaction(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name, request.collectionID)
    if request.majorCompaction:
        if not any(field.is_clustering_key for field in info.schema.fields):
            raise Rejected(f"collection does not have clustering key, collection = {info.name}")
        raise Unimplemented(
            f"clustering compaction is not implemented yet, collection = {info.name}"
        )
    compaction_id, plans = await proxy.coordinator.compact(info.collection_id)
    return milvus.ManualCompactionResponse(
        status=success(), compactionID=compaction_id, compactionPlanCount=plans
    )


async def _plans(proxy: Proxy, compaction_id: int) -> list[tuple[str, tuple[int, ...], int]]:
    if compaction_id == NO_COMPACTION:
        return []
    return await proxy.coordinator.compaction_plans(compaction_id)


async def get_compaction_state(proxy: Proxy, request: Any, context: CallContext) -> Any:
    states = [state for state, _, _ in await _plans(proxy, request.compactionID)]
    executing = states.count("executing")
    return milvus.GetCompactionStateResponse(
        status=success(),
        state=EXECUTING if executing else COMPLETED,
        executingPlanNo=executing,
        completedPlanNo=states.count("completed"),
        failedPlanNo=states.count("failed"),
    )


async def get_compaction_plans(proxy: Proxy, request: Any, context: CallContext) -> Any:
    plans = await _plans(proxy, request.compactionID)
    executing = any(state == "executing" for state, _, _ in plans)
    return milvus.GetCompactionPlansResponse(
        status=success(),
        state=EXECUTING if executing else COMPLETED,
        mergeInfos=[
            milvus.CompactionMergeInfo(sources=sources, target=target)
            for _, sources, target in plans
        ],
    )


HANDLERS = {
    "Flush": flush,
    "GetFlushState": get_flush_state,
    "FlushAll": flush_all,
    "GetFlushAllState": get_flush_all_state,
    "ManualCompaction": manual_compaction,
    "GetCompactionState": get_compaction_state,
    "GetCompactionStateWithPlans": get_compaction_plans,
}
