"""HybridSearch: several searches of one collection, fused into one list.

All sub-searches and the query that fetches the output fields of the final rows read at one
timestamp, so that a row that was found is there to be fetched, and fused scores are of one instant.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from elanus.access.context import CallContext
from elanus.access.dql import consistency
from elanus.access.dql.consistency import ReadInstant
from elanus.access.dql.fan_out import ReadScope, query_shards, search_shards
from elanus.access.dql.group_by import resolve_group_by
from elanus.access.dql.grouping import find_groups
from elanus.access.dql.output import Output, resolve_output, time_output
from elanus.access.dql.plans import key_plan
from elanus.access.dql.rankers import RankParameters, parse_rank
from elanus.access.dql.scope import find_meta
from elanus.access.dql.search import HybridPart, PlannedSearch, plan_search
from elanus.access.proxy import Proxy
from elanus.engine.rank import Fused, fuse, round_scores, take_keys
from elanus.engine.rank_groups import fuse_groups
from elanus.errors import Rejected
from elanus.model.catalog import CollectionInfo
from elanus.model.reads import Hits
from elanus.wire.results import search_results
from elanus.wire.schema import pairs_to_dict

MAX_REQUESTS = 1_024


async def hybrid_search(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """HybridSearchRequest → SearchResults."""
    meta = await find_meta(proxy, context, request.collection_name)
    collection = meta.info
    _check_requests(request.requests)
    output = resolve_output(request.output_fields, collection.schema)
    ranking = pairs_to_dict(request.rank_params)
    times = time_output(collection, ranking.get("timezone", ""), ranking.get("time_fields", ""))
    rank = parse_rank(
        ranking,
        request.function_score,
        proxy.settings.quota_and_limits.limits,
        requests=len(request.requests),
    )
    group = None
    if rank.group_by is not None:
        group = resolve_group_by(rank.group_by, collection.schema)
    part = HybridPart(rank.limit + rank.offset, request.partition_names, group)
    planned = [
        _without_offset(await plan_search(proxy, meta, sub_request, context, part_of=part))
        for sub_request in request.requests
    ]
    if len({len(part.query.vectors) for part in planned}) > 1:
        raise Rejected("sub search request nq should be the same")
    instant = await consistency.resolve(
        consistency.Wish.of(request),
        collection,
        proxy.coordinator,
        proxy.world.clock,
        proxy.settings.common,
        one_instant=True,
    )
    lists = await _search_all(proxy, collection, planned, instant, context)
    fused = _fuse(lists, planned, rank)
    fused, rows = await _fetch(proxy, collection, fused, output, instant, planned, context)
    return search_results(
        collection.schema,
        _as_hits(fused, rank.round_decimal),
        rows,
        output.fields,
        collection_name=request.collection_name,
        output_fields=output.shown,
        dynamic_keys=output.dynamic_keys,
        times=times,
        session_ts=instant.read_ts,
        group_field=None if group is None else group.output,
    )


def _check_requests(requests: Sequence[Any]) -> None:
    if not requests:
        raise Rejected("minimum of ann search requests is 1")
    if len(requests) > MAX_REQUESTS:
        raise Rejected(f"maximum of ann search requests is {MAX_REQUESTS}")


def _without_offset(planned: PlannedSearch) -> PlannedSearch:
    """The offset of a sub-request is ignored; that of the whole counts."""
    if not planned.parameters.offset:
        return planned
    return replace(planned, query=replace(planned.query, top_k=planned.parameters.limit))


async def _search_all(
    proxy: Proxy,
    collection: CollectionInfo,
    planned: Sequence[PlannedSearch],
    instant: ReadInstant,
    context: CallContext,
) -> list[Hits]:
    async def search_one(part: PlannedSearch) -> Hits:
        scope = ReadScope(
            collection,
            part.plan,
            part.partition_ids,
            instant,
            (),
            part.parameters.ignore_growing,
        )
        if part.group is not None:
            return (await find_groups(proxy, scope, part.query, part.group, context)).hits
        return (await search_shards(proxy, scope, part.query, context)).hits

    tasks = [asyncio.ensure_future(search_one(part)) for part in planned]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _fuse(lists: Sequence[Hits], planned: Sequence[PlannedSearch], rank: RankParameters) -> Fused:
    metrics = [part.query.metric for part in planned]
    if rank.group_by is None:
        return fuse(lists, metrics, rank.ranker, offset=rank.offset, limit=rank.limit)
    return fuse_groups(
        lists,
        metrics,
        rank.ranker,
        size=rank.group_by.size,
        scorer=rank.scorer,
        offset=rank.offset,
        limit=rank.limit,
    )


async def _fetch(
    proxy: Proxy,
    collection: CollectionInfo,
    fused: Fused,
    output: Output,
    instant: ReadInstant,
    planned: Sequence[PlannedSearch],
    context: CallContext,
) -> tuple[Fused, pa.RecordBatch | None]:
    """The fused rows and their output fields, if any are wanted, in the same order. Rows that are
    gone, by a compaction that no longer knows the instant, are left out."""
    if not output.fields:
        return fused, None
    primary = collection.schema.primary.name
    keys = pa.array(fused.keys) if isinstance(fused.keys, np.ndarray) else fused.keys
    if not len(keys):
        return fused, _no_rows(collection, output)
    columns = tuple(dict.fromkeys((primary, *output.fields)))
    plan = key_plan(collection, pc.unique(keys))
    scope = ReadScope(collection, plan, _partitions(planned), instant, columns)
    rows = (await query_shards(proxy, scope, context)).rows
    places = pc.index_in(keys, value_set=rows.column(primary))
    if places.null_count:
        there = places.is_valid().to_numpy(zero_copy_only=False)
        fused, places = _only(fused, there), places.drop_null()
    return fused, rows.take(places)


def _only(fused: Fused, there: npt.NDArray[np.bool_]) -> Fused:
    """The rows where ``there`` (total,) is true."""
    query = np.repeat(np.arange(len(fused.counts)), fused.counts)[there]
    positions = np.flatnonzero(there)
    return Fused(
        counts=np.bincount(query, minlength=len(fused.counts)).astype(np.int64),
        scores=fused.scores[positions],
        keys=take_keys(fused.keys, positions),
        groups=None if fused.groups is None else fused.groups.take(pa.array(positions)),
    )


def _partitions(planned: Sequence[PlannedSearch]) -> tuple[int, ...]:
    """The partitions of any of the searches; empty means all."""
    if not all(part.partition_ids for part in planned):
        return ()
    return tuple(sorted({number for part in planned for number in part.partition_ids}))


def _no_rows(collection: CollectionInfo, output: Output) -> pa.RecordBatch:
    schema = pa.schema([collection.schema.arrow.field(name) for name in output.fields])
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _as_hits(fused: Fused, decimals: int) -> Hits:
    """Fused rows have no single place in a segment."""
    nowhere = np.zeros(len(fused.scores), dtype=np.int64)
    return Hits(
        counts=fused.counts,
        scores=round_scores(fused.scores, decimals),
        keys=fused.keys,
        timestamps=nowhere.astype(np.uint64),
        sources=nowhere,
        offsets=nowhere,
        groups=fused.groups,
    )
