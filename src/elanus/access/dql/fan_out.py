"""One read, sent to all its shards at once, and their answers merged into one.

Every shard gets the same guarantee timestamp. The shards hash by primary key, so that rows of one
key are all in one shard, and merging never has to choose between versions of a row.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from elanus.access.context import CallContext
from elanus.access.dql.consistency import ReadInstant
from elanus.access.dql.merging import merge_searches, without_first
from elanus.access.dql.scope import shards_of
from elanus.access.owners import read_from_owner
from elanus.access.proxy import Proxy
from elanus.engine.filter.plan import Plan
from elanus.errors import Rejected
from elanus.model.catalog import CollectionInfo
from elanus.model.reads import Hits, VectorQuery
from elanus.services.interfaces import StreamingService
from elanus.services.messages import (
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    time_for_callee_s,
)

T = TypeVar("T")

SMALL_ANSWER_ROWS = 16
"""Answers of fewer rows are not measured: the rows' own limits keep them small."""


class ReadScope(msgspec.Struct, frozen=True):
    """What all reads of one request have in common."""

    collection: CollectionInfo
    plan: Plan | None
    partition_ids: tuple[int, ...]
    instant: ReadInstant
    output_fields: tuple[str, ...] = ()
    ignore_growing: bool = False


async def search_shards(
    proxy: Proxy,
    scope: ReadScope,
    query: VectorQuery,
    context: CallContext,
    *,
    offset: int = 0,
) -> SearchResponse:
    """The best hits over all shards, the first ``offset`` of each query left out."""
    collection = scope.collection

    def request(vchannel: str) -> SearchRequest:
        return SearchRequest(
            collection_id=collection.collection_id,
            vchannel=vchannel,
            query=query,
            guarantee_ts=scope.instant.guarantee_ts,
            plan=scope.plan,
            partition_ids=scope.partition_ids,
            output_fields=scope.output_fields,
            ttl_seconds=max(collection.ttl_seconds, 0),
            ignore_growing=scope.ignore_growing,
            deadline_s=_time_left_s(proxy, context),
            read_ts=scope.instant.read_ts,
            is_issued=scope.instant.is_issued,
            is_strong=scope.instant.is_strong,
        )

    async def search(node: StreamingService, vchannel: str) -> SearchResponse:
        return await proxy.direct.search(node, request(vchannel), collection.schema)

    answers = await _ask(proxy, context, collection, shards_of(collection, scope.plan), search)
    _note_stages(context, answers)
    _check_output_size(proxy, [answer.rows for answer in answers], "search")
    merged = merge_searches(answers, query)
    return without_first(merged, offset) if offset else merged


async def query_shards(
    proxy: Proxy,
    scope: ReadScope,
    context: CallContext,
    *,
    offset: int = 0,
    limit: int | None = None,
) -> QueryResponse:
    """The rows that pass, by ascending primary key: ``limit`` of them after ``offset``. The primary
    key must be among the output fields."""
    answers = await _query(proxy, scope, context, None if limit is None else limit + offset, False)
    _check_output_size(proxy, [answer.rows for answer in answers], "query")
    rows, timestamps = _merge_rows(answers, scope.collection.schema.primary.name)
    if limit is not None:
        rows, timestamps = rows.slice(offset, limit), timestamps[offset : offset + limit]
    return QueryResponse(rows, timestamps, rows.num_rows, _read_ts(answers))


async def count_shards(proxy: Proxy, scope: ReadScope, context: CallContext) -> tuple[int, int]:
    """(how many visible rows pass, the instant of the count)."""
    answers = await _query(proxy, scope, context, None, True)
    return sum(answer.count for answer in answers), _read_ts(answers)


async def _query(
    proxy: Proxy, scope: ReadScope, context: CallContext, limit: int | None, count_only: bool
) -> list[QueryResponse]:
    collection = scope.collection

    def request(vchannel: str) -> QueryRequest:
        return QueryRequest(
            collection_id=collection.collection_id,
            vchannel=vchannel,
            guarantee_ts=scope.instant.guarantee_ts,
            plan=scope.plan,
            partition_ids=scope.partition_ids,
            output_fields=scope.output_fields,
            limit=limit,
            count_only=count_only,
            ttl_seconds=max(collection.ttl_seconds, 0),
            ignore_growing=scope.ignore_growing,
            deadline_s=_time_left_s(proxy, context),
            read_ts=scope.instant.read_ts,
            is_issued=scope.instant.is_issued,
            is_strong=scope.instant.is_strong,
        )

    async def query(node: StreamingService, vchannel: str) -> QueryResponse:
        return await node.query(request(vchannel))

    answers = await _ask(proxy, context, collection, shards_of(collection, scope.plan), query)
    _note_stages(context, answers)
    return answers


def _time_left_s(proxy: Proxy, context: CallContext) -> float | None:
    left_s = context.remaining_s(proxy.world.clock.monotonic_s())
    return None if left_s is None else time_for_callee_s(left_s)


async def _ask(
    proxy: Proxy,
    context: CallContext,
    collection: CollectionInfo,
    vchannels: Sequence[str],
    call: Callable[[StreamingService, str], Awaitable[T]],
) -> list[T]:
    """Calls the owners of all shards concurrently; the first failure fails the read."""

    async def ask(vchannel: str) -> T:
        return await read_from_owner(
            proxy,
            collection.collection_id,
            vchannel,
            lambda node: call(node, vchannel),
            _time_left_s(proxy, context),
        )

    if len(vchannels) == 1:
        return [await ask(vchannels[0])]
    tasks = [asyncio.ensure_future(ask(vchannel)) for vchannel in vchannels]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _note_stages(
    context: CallContext, answers: Sequence[SearchResponse] | Sequence[QueryResponse]
) -> None:
    """The slowest shard decides how long a stage took."""
    for answer in answers:
        for stage, seconds in answer.stages.items():
            context.stages[stage] = max(context.stages.get(stage, 0.0), seconds)


def _read_ts(answers: Sequence[SearchResponse] | Sequence[QueryResponse]) -> int:
    return max(answer.read_ts for answer in answers)


def _check_output_size(proxy: Proxy, batches: Sequence[Any], what: str) -> None:
    if all(batch.num_rows < SMALL_ANSWER_ROWS for batch in batches):
        return
    limit = proxy.settings.quota_and_limits.limits.max_output_size
    if sum(batch.nbytes for batch in batches) > limit:
        raise Rejected(f"{what} results exceed the maxOutputSize Limit {limit}")


def reordered(answer: SearchResponse, hits: Hits, order: npt.NDArray[np.int64]) -> SearchResponse:
    """``hits``, which stand at the places ``order`` of the answer, with their rows."""
    rows = answer.rows.take(pa.array(order)) if answer.rows.num_columns else answer.rows
    return SearchResponse(hits, rows, answer.read_ts, answer.stages)


def _merge_rows(answers: Sequence[QueryResponse], key: str) -> tuple[Any, Any]:
    """Rows of all shards by ascending primary key; of equal keys the latest."""
    if len(answers) == 1:
        rows, timestamps = answers[0].rows, answers[0].timestamps
        keys = rows.column(key)
        if len(keys) < 2 or pc.all(pc.not_equal(keys[1:], keys[:-1])).as_py():
            return rows, timestamps
    else:
        rows = pa.concat_batches([answer.rows for answer in answers])
        timestamps = np.concatenate([answer.timestamps for answer in answers])
    ordered = pa.table({"key": rows.column(key), "ts": pa.array(timestamps, pa.uint64())})
    order = pc.sort_indices(ordered, [("key", "ascending"), ("ts", "descending")])
    keys = rows.column(key).take(order)
    if len(keys) > 1:
        fresh = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
        order = order.filter(pa.array(np.concatenate(([True], fresh))))
    return rows.take(order), timestamps[order.to_numpy()]
