"""The search for groups.

Shards give their best groups, each with some of its best rows. A group may have further rows in
segments where other groups are better. So a search that wants its groups as full as they can be
(strict) asks again, at the same instant, for the rows of the groups that it has found.
"""

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from elanus.access.context import CallContext
from elanus.access.dql.fan_out import ReadScope, reordered, search_shards
from elanus.access.dql.group_by import GroupField
from elanus.access.proxy import Proxy
from elanus.engine.groups import group_by_group, standings
from elanus.model.reads import Grouping, Hits, VectorQuery
from elanus.services.messages import SearchResponse


async def find_groups(
    proxy: Proxy,
    scope: ReadScope,
    query: VectorQuery,
    field: GroupField,
    context: CallContext,
) -> SearchResponse:
    """The hits of the best groups over all shards, the best first. ``scope`` names its instant if
    there is a second round."""
    answer = await search_shards(proxy, scope, query, context)
    if not field.has_second_round or not len(answer.hits.scores):
        return answer
    again = replace(query, grouping=_named(field.grouping, answer.hits))
    return await search_shards(proxy, scope, again, context)


async def search_groups(
    proxy: Proxy,
    scope: ReadScope,
    query: VectorQuery,
    field: GroupField,
    context: CallContext,
    *,
    offset: int,
) -> SearchResponse:
    """As ``find_groups``, but group by group, within a group the best rows first; the first
    ``offset`` groups of each query are left out."""
    answer = await find_groups(proxy, scope, query, field, context)
    hits, order = group_by_group(answer.hits, offset)
    return reordered(answer, hits, order)


def _named(grouping: Grouping, hits: Hits) -> Grouping:
    """About the groups of these hits."""
    _, places = standings(hits.counts, hits.groups)
    firsts = np.flatnonzero(places == 0)
    queries = np.repeat(np.arange(len(hits.counts)), hits.counts)
    counts = np.bincount(queries[firsts], minlength=len(hits.counts))
    return replace(grouping, within=hits.groups.take(pa.array(firsts)), within_counts=counts)
