"""Query: rows by filter, in the order of their primary keys, or how many there are."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from elanus.access.context import CallContext
from elanus.access.dql import consistency, parameters
from elanus.access.dql.elements import (
    ElementCursor,
    ElementWindow,
    elements_of_rows,
    refuse_count,
)
from elanus.access.dql.fan_out import ReadScope, count_shards, query_shards
from elanus.access.dql.output import resolve_output, time_output
from elanus.access.dql.plans import compile_plan
from elanus.access.dql.scope import (
    find_meta,
    loaded_partitions,
    named_partitions,
    pruned_partitions,
)
from elanus.access.proxy import Proxy
from elanus.engine.filter.plan import ElementFilter
from elanus.errors import Rejected, Unimplemented
from elanus.services.messages import QueryResponse
from elanus.wire.results import COUNT_FIELD, count_results, query_results
from elanus.wire.schema import pairs_to_dict

ACTION = "failed to query"
_AGGREGATES = ("count(", "sum(", "avg(", "min(", "max(")


async def query(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """QueryRequest → QueryResults."""
    meta = await find_meta(proxy, context, request.collection_name)
    collection = meta.info
    given = parameters.parse_query(
        pairs_to_dict(request.query_params), proxy.settings.quota_and_limits.limits
    )
    parameters.check_collection_id(given.collection_id, collection.collection_id)
    counts = _is_count(request.output_fields)
    if counts and given.limit is not None:
        raise Rejected("count entities with pagination is not allowed")
    if not counts and given.limit is None and not request.expr.strip():
        raise Rejected("empty expression should be used with limit")
    requested = () if counts else request.output_fields
    output = resolve_output(requested, collection.schema, with_key=not counts)
    times = time_output(collection, given.timezone, given.time_fields)
    plan = compile_plan(
        proxy, meta, request.expr, request.expr_template_values, zone=given.timezone
    )
    wanted = named_partitions(collection, request.partition_names)
    wanted = wanted or pruned_partitions(collection, plan)
    partition_ids = await loaded_partitions(proxy, collection, wanted, ACTION)
    instant = await consistency.resolve(
        consistency.Wish.of(request),
        collection,
        proxy.coordinator,
        proxy.world.clock,
        proxy.settings.common,
        is_iterator=given.is_iterator,
    )
    scope = ReadScope(collection, plan, partition_ids, instant, output.fields, given.ignore_growing)
    if counts:
        refuse_count(plan)
        count, read_ts = await count_shards(proxy, scope, context)
        return count_results(
            collection.schema, count, collection_name=request.collection_name, session_ts=read_ts
        )
    places = None
    if plan is None or plan.elements is None:
        answer = await query_shards(proxy, scope, context, offset=given.offset, limit=given.limit)
        rows = answer.rows
    else:
        answer, rows, places = await _query_elements(proxy, scope, plan.elements, given, context)
    return query_results(
        collection.schema,
        rows,
        output.fields,
        collection_name=request.collection_name,
        output_fields=output.shown,
        dynamic_keys=output.dynamic_keys,
        times=times,
        session_ts=answer.read_ts,
        elements=places,
    )


async def _query_elements(
    proxy: Proxy,
    scope: ReadScope,
    elements: ElementFilter,
    given: parameters.QueryParameters,
    context: CallContext,
) -> tuple[QueryResponse, pa.RecordBatch, list[npt.NDArray[np.int64]]]:
    """The answer of the shards, and as ``elements_of_rows`` those rows that are shown."""
    columns = tuple(dict.fromkeys((*scope.output_fields, *elements.fields)))
    after = None
    if given.last_element is not None:
        after = ElementCursor(given.last_key, given.last_element)
    window = ElementWindow(given.offset, given.limit, after)
    scope = replace(scope, output_fields=columns)
    answer = await query_shards(proxy, scope, context, limit=window.row_limit)
    key = scope.collection.schema.primary.name
    rows, places = await proxy.world.executor.run(
        "search", elements_of_rows, elements, answer.rows, key, window
    )
    return answer, rows, places


def _is_count(output_fields: Any) -> bool:
    """Whether the query is for ``count(*)`` alone; case and blanks don't matter."""
    names = ["".join(name.split()).lower() for name in output_fields]
    if names == [COUNT_FIELD]:
        return True
    for name in names:
        if name == COUNT_FIELD:
            raise Rejected("count(*) can't be combined with other output fields")
        if name.startswith(_AGGREGATES):
            raise Unimplemented(f"aggregation {name} is not supported yet: service unimplemented")
    return False
