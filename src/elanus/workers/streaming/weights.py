"""The weights of a search by BM25: how frequent its terms are among all documents of the shard.

They are asked for anew with every search: another call to each query node, but nothing to keep,
and always of the rows that are there.
"""

import asyncio
from collections.abc import Awaitable

import msgspec

from elanus.engine.index.sparse.statistics import AVERAGE_LENGTH, TermStatistics
from elanus.engine.text.bm25 import query_terms, weighted
from elanus.model.types import MetricType
from elanus.runtime.world import World
from elanus.services.interfaces import QueryNodeService
from elanus.services.messages import AskTerms, SearchRequest
from elanus.workers.streaming.parts import Parts
from elanus.workers.streaming.replicas import ReplicaReader
from elanus.workers.terms import sum_terms


async def weighted_search(
    world: World, replicas: ReplicaReader, parts: Parts, request: SearchRequest
) -> SearchRequest:
    """A search by BM25 with weights and the average length of the documents of all partitions; any
    other as it is."""
    query = request.query
    if query.metric is not MetricType.BM25:
        return request
    terms, name = query_terms(query.vectors), query.field_name

    def ask(node: QueryNodeService, segment_ids: tuple[int, ...]) -> Awaitable[TermStatistics]:
        return node.term_statistics(AskTerms(segment_ids, name, terms))

    here, elsewhere = await asyncio.gather(
        world.executor.run("search", sum_terms, parts.all_growing, name, terms),
        replicas.read(parts.copies, parts.all_sealed, ask),
    )
    total = sum((statistics for _, statistics in elsewhere), here)
    weights = msgspec.structs.replace(
        query,
        vectors=weighted(query.vectors, terms, total),
        params={**query.params, AVERAGE_LENGTH: total.average_length},
    )
    return msgspec.structs.replace(request, query=weights)
