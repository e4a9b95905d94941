"""Segments and their rows: statistics, and the lists that tools show."""

from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl.indexes import index_progress
from elanus.access.ddl.lookup import (
    NOT_LOADED,
    find_collection,
    load_progress,
    partition_infos,
)
from elanus.access.owners import growing_of
from elanus.access.proxy import Proxy
from elanus.errors import CollectionNotLoaded
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.model.types import IndexState, SegmentLevel, SegmentState
from elanus.services.messages import GrowingInfo
from elanus.wire.protocol import common, milvus
from elanus.wire.status import success

STORAGE_VERSION = 2


async def segments_of(
    proxy: Proxy, info: CollectionInfo
) -> tuple[list[SegmentInfo], list[GrowingInfo]]:
    """Flushed segments and growing ones; each row is in exactly one of them.

    The growing ones are asked for first: a segment that is flushed in between is then met twice
    and told apart by its id, while the other order could miss it.
    """
    growing: list[GrowingInfo] = []
    for vchannel in info.vchannels:
        growing += await growing_of(proxy, info, vchannel)
    flushed = [
        segment
        for segment in await proxy.coordinator.list_segments(info.collection_id)
        if segment.level is not SegmentLevel.L0
    ]
    known = {segment.segment_id for segment in flushed}
    known.update(source for segment in flushed for source in segment.compacted_from)
    return flushed, [segment for segment in growing if segment.segment_id not in known]


def _row_count(
    flushed: list[SegmentInfo], growing: list[GrowingInfo], partition_id: int | None = None
) -> list[Any]:
    """Rows that were inserted, deleted ones among them, as Milvus counts them."""
    segments: list[SegmentInfo | GrowingInfo] = [*flushed, *growing]
    rows = sum(
        segment.row_count
        for segment in segments
        if partition_id is None or segment.partition_id == partition_id
    )
    return [common.KeyValuePair(key="row_count", value=str(rows))]


async def get_collection_statistics(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    flushed, growing = await segments_of(proxy, info)
    return milvus.GetCollectionStatisticsResponse(
        status=success(), stats=_row_count(flushed, growing)
    )


async def get_partition_statistics(proxy: Proxy, request: Any, context: CallContext) -> Any:
    info = await find_collection(proxy, context, request.collection_name)
    (partition,) = partition_infos(info, [request.partition_name])
    flushed, growing = await segments_of(proxy, info)
    return milvus.GetPartitionStatisticsResponse(
        status=success(), stats=_row_count(flushed, growing, partition.partition_id)
    )


async def get_persistent_segment_info(proxy: Proxy, request: Any, context: CallContext) -> Any:
    context.database = request.dbName or context.database
    info = await find_collection(proxy, context, request.collectionName)
    segments = await proxy.coordinator.list_segments(info.collection_id)
    wanted = set(request.states)
    return milvus.GetPersistentSegmentInfoResponse(
        status=success(),
        infos=[
            milvus.PersistentSegmentInfo(
                segmentID=segment.segment_id,
                collectionID=info.collection_id,
                partitionID=segment.partition_id,
                num_rows=segment.row_count,
                state=int(segment.state),
                level=int(segment.level),
                is_sorted=True,
                storage_version=STORAGE_VERSION,
                insert_channel=segment.vchannel,
                compaction_from=segment.compacted_from,
            )
            for segment in segments
            if not wanted or int(segment.state) in wanted
        ],
    )


async def get_query_segment_info(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """What searches read: the flushed segments of what is loaded, and the growing ones."""
    context.database = request.dbName or context.database
    info = await find_collection(proxy, context, request.collectionName)
    load = await proxy.coordinator.load_info(info.collection_id)
    if load is None or load_progress(load, load.partition_ids) == NOT_LOADED:
        raise CollectionNotLoaded(info.collection_id)
    flushed, growing = await segments_of(proxy, info)
    nodes = await proxy.router.query_nodes()
    vector_indexes = [
        index
        for index in await proxy.coordinator.list_indexes(info.collection_id)
        if index.metric_type is not None
    ]
    segments: list[SegmentInfo | GrowingInfo] = [*flushed, *growing]
    infos = []
    for segment in segments:
        if load.partition_ids and segment.partition_id not in load.partition_ids:
            continue
        index = None
        if isinstance(segment, SegmentInfo):
            index = next(
                (
                    candidate
                    for candidate in vector_indexes
                    if index_progress(candidate, [segment]).state is IndexState.FINISHED
                ),
                None,
            )
        is_growing = isinstance(segment, GrowingInfo)
        state = SegmentState.GROWING if is_growing else SegmentState.SEALED
        placed = [proxy.node_id] if is_growing else nodes[:1]
        infos.append(
            milvus.QuerySegmentInfo(
                segmentID=segment.segment_id,
                collectionID=info.collection_id,
                partitionID=segment.partition_id,
                mem_size=segment.size_bytes,
                num_rows=segment.row_count,
                index_name=index.name if index else "",
                indexID=index.index_id if index else 0,
                nodeID=placed[0] if placed else 0,
                nodeIds=placed,
                state=int(state),
                level=int(SegmentLevel.L1),
                is_sorted=not is_growing,
                storage_version=STORAGE_VERSION,
            )
        )
    return milvus.GetQuerySegmentInfoResponse(status=success(), infos=infos)


HANDLERS = {
    "GetCollectionStatistics": get_collection_statistics,
    "GetPartitionStatistics": get_partition_statistics,
    "GetPersistentSegmentInfo": get_persistent_segment_info,
    "GetQuerySegmentInfo": get_query_segment_info,
}
