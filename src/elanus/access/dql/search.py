"""Search: the nearest rows to each query vector.

A request is planned (field, metric, parameters, filter, partitions) from what the proxy knows, and
then asked of all shards at one guarantee timestamp. HybridSearch plans its sub-requests with the
same code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from elanus.access.context import CallContext
from elanus.access.dql import consistency, parameters
from elanus.access.dql.elements import check_element_filter, refuse_hybrid
from elanus.access.dql.fan_out import ReadScope, search_shards
from elanus.access.dql.group_by import GroupField, check_groupable, resolve_group_by
from elanus.access.dql.grouping import search_groups
from elanus.access.dql.highlight import Highlight, highlighted, parse_highlighter
from elanus.access.dql.index_parameters import check_index_parameters
from elanus.access.dql.iterator import cut_page, page_query, state_after
from elanus.access.dql.output import Output, resolve_output, time_output
from elanus.access.dql.parameters import SearchParameters
from elanus.access.dql.plans import compile_plan
from elanus.access.dql.repeated import Again, key_of
from elanus.access.dql.scope import (
    find_meta,
    loaded_partitions,
    named_partitions,
    pruned_partitions,
)
from elanus.access.dql.vectors import request_vectors, sent_vectors
from elanus.access.meta_cache import CollectionMeta
from elanus.access.proxy import Proxy
from elanus.engine.filter.plan import Plan
from elanus.engine.index.sparse.statistics import K1, B
from elanus.engine.rank import round_scores
from elanus.errors import IndexNotFound, InvalidParameter, Rejected, Unimplemented
from elanus.model.catalog import CollectionInfo, IndexInfo
from elanus.model.reads import Hits, VectorQuery
from elanus.model.schema import FieldSchema
from elanus.model.timestamptz import TimeOutput
from elanus.model.types import DataType, MetricType
from elanus.wire.results import search_results
from elanus.wire.schema import pairs_to_dict

ACTION = "failed to search"


class PlannedSearch(msgspec.Struct, frozen=True):
    """A search that has been checked. searched: what the vectors are compared with. wanted: the
    partitions that the request asks for, partition_ids: the loaded ones of these; empty means all.
    ``group``: None if hits stand for themselves."""

    parameters: SearchParameters
    query: VectorQuery
    plan: Plan | None
    partition_ids: tuple[int, ...]
    wanted: tuple[int, ...]
    searched: FieldSchema
    group: GroupField | None = None

    @property
    def is_repeatable(self) -> bool:
        """Whether a request that says the same, with other vectors, means the same."""
        is_random = self.plan is not None and self.plan.is_random
        return not is_random and not self.parameters.is_iterator


class AskedSearch(msgspec.Struct, frozen=True):
    """All that a SearchRequest asks for but its instant."""

    planned: PlannedSearch
    output: Output
    times: TimeOutput
    highlight: Highlight | None = None


@dataclass(frozen=True, slots=True)
class HybridPart:
    """What a hybrid search says of all its parts. ``limit``, ``partition_names``: of parts that
    name none of their own."""

    limit: int
    partition_names: Sequence[str]
    group: GroupField | None


async def search(proxy: Proxy, request: Any, context: CallContext) -> Any:
    """SearchRequest → SearchResults."""
    if context.again is None:
        _refuse_unsupported(request)
    meta = await find_meta(proxy, context, request.collection_name)
    collection = meta.info
    asked = await _asked(proxy, meta, request, context)
    planned, output, highlight = asked.planned, asked.output, asked.highlight
    given, query, group = planned.parameters, planned.query, planned.group
    instant = await consistency.resolve(
        consistency.Wish.of(request),
        collection,
        proxy.coordinator,
        proxy.world.clock,
        proxy.settings.common,
        one_instant=group is not None and group.has_second_round,
        is_iterator=given.is_iterator,
    )
    scope = ReadScope(
        collection,
        planned.plan,
        planned.partition_ids,
        instant,
        output.fields if highlight is None else _with(output.fields, highlight.columns),
        given.ignore_growing,
    )
    if group is None:
        answer = await search_shards(proxy, scope, query, context, offset=given.offset)
    else:
        answer = await search_groups(proxy, scope, query, group, context, offset=given.offset)
    iterator = None
    if given.page is not None:
        answer = cut_page(answer, given.limit)
        iterator = state_after(proxy.world, given.page, answer.hits, query.metric)
    marked: Sequence[Any] = ()
    if highlight is not None:
        marked = await highlighted(proxy, highlight, answer.hits, answer.rows)
    return search_results(
        collection.schema,
        _rounded(answer.hits, given.round_decimal),
        answer.rows,
        output.fields,
        collection_name=request.collection_name,
        output_fields=output.shown,
        dynamic_keys=output.dynamic_keys,
        times=asked.times,
        session_ts=answer.read_ts,
        iterator=iterator,
        highlights=marked,
        group_field=None if group is None else group.output,
    )


async def _asked(
    proxy: Proxy, meta: CollectionMeta, request: Any, context: CallContext
) -> AskedSearch:
    """What has been worked out of an earlier request that says the same holds for this one, too."""
    collection = meta.info
    again: Again | None = context.again
    key = key_of(request) if again is None else again.key
    kept = None if key is None else proxy.searches.get((collection.collection_id, key))
    if kept is not None and kept[0] is meta:
        known: AskedSearch = kept[1]
        sent = request.placeholder_group if again is None else again.vectors
        planned = await _planned_again(proxy, meta, known.planned, sent, request.nq)
        if again is None and context.body and key is not None:
            proxy.known_requests.remember(context.body, request, key)
        return AskedSearch(planned, known.output, known.times)
    if again is not None:
        request = again.whole()
    output = resolve_output(request.output_fields, collection.schema)
    planned = await plan_search(proxy, meta, request, context)
    given, query = planned.parameters, planned.query
    highlight = parse_highlighter(
        request, collection, query.field_name, query.metric, given.analyzer_name
    )
    times = time_output(collection, given.timezone, given.time_fields)
    asked = AskedSearch(planned, output, times, highlight)
    if key is not None and planned.is_repeatable:
        bare = replace(asked, planned=replace(planned, query=query.over(None)))
        proxy.searches.put((collection.collection_id, key), (meta, bare))
    return asked


async def plan_search(
    proxy: Proxy,
    meta: CollectionMeta,
    request: Any,
    context: CallContext,
    *,
    part_of: HybridPart | None = None,
) -> PlannedSearch:
    """Checks one SearchRequest against its collection.

    part_of: the hybrid search that the request is one of.
    """
    collection = meta.info
    limits = proxy.settings.quota_and_limits.limits
    given = parameters.parse_search(
        pairs_to_dict(request.search_params),
        limits,
        nq=request.nq,
        default_limit=None if part_of is None else part_of.limit,
    )
    parameters.check_collection_id(given.collection_id, collection.collection_id)
    field = anns_field(collection, given.anns_field)
    searched = _searched(meta, field)
    if searched.data_type is DataType.ARRAY_OF_VECTOR:
        parameters.check_lists(given, field.name)
    if searched is not field and part_of is not None:
        refuse_hybrid(field)
    group = _group_field(collection, field, given, part_of)
    plan = compile_plan(proxy, meta, request.dsl, request.expr_template_values, zone=given.timezone)
    check_element_filter(plan, field, has_elements=searched is not field)
    names = request.partition_names or (part_of.partition_names if part_of is not None else ())
    wanted = named_partitions(collection, names) or pruned_partitions(collection, plan)
    partition_ids = await loaded_partitions(proxy, collection, wanted, ACTION)
    vectors = await _vectors(proxy, collection, searched, request, context, given)
    query = _vector_query(meta, field, given, vectors)
    if group is not None:
        query = replace(query, grouping=group.grouping)
    return PlannedSearch(given, query, plan, partition_ids, wanted, searched, group)


async def _planned_again(
    proxy: Proxy, meta: CollectionMeta, known: PlannedSearch, sent: bytes, nq: int
) -> PlannedSearch:
    """A search that was planned before, for what is loaded and the ``nq`` vectors that were sent
    now."""
    partition_ids = await loaded_partitions(proxy, meta.info, known.wanted, ACTION)
    analyzer = known.parameters.analyzer_name
    vectors = await sent_vectors(proxy, meta.info, known.searched, sent, analyzer=analyzer)
    _check_count(proxy, vectors, nq)
    return PlannedSearch(
        known.parameters,
        known.query.over(vectors),
        known.plan,
        partition_ids,
        known.wanted,
        known.searched,
        known.group,
    )


async def _vectors(
    proxy: Proxy,
    collection: CollectionInfo,
    searched: FieldSchema,
    request: Any,
    context: CallContext,
    given: SearchParameters,
) -> Any:
    """As ``VectorQuery.vectors`` has them, as many as the request says."""
    limits = proxy.settings.quota_and_limits.limits
    if request.WhichOneof("search_input") != "ids":
        parameters.check_nq(request.nq, limits)
    vectors = await request_vectors(
        proxy, collection, searched, request, context, analyzer=given.analyzer_name
    )
    _check_count(proxy, vectors, request.nq)
    return vectors


def _check_count(proxy: Proxy, vectors: Any, nq: int) -> None:
    parameters.check_nq(len(vectors), proxy.settings.quota_and_limits.limits)
    if nq and nq != len(vectors):
        raise InvalidParameter(
            "nq does not equal the number of query vectors",
            expected=str(nq),
            actual=str(len(vectors)),
        )


def _searched(meta: CollectionMeta, field: FieldSchema) -> FieldSchema:
    """What the query vectors are compared with: a field of lists itself, or its single vectors."""
    index = meta.index_by_field.get(field.name)
    if field.data_type is not DataType.ARRAY_OF_VECTOR or index is None:
        return field
    assert index.metric_type is not None
    return field if index.metric_type.is_of_lists else field.of_elements


def anns_field(collection: CollectionInfo, name: str) -> FieldSchema:
    """The vector field to search, by default the only one."""
    schema = collection.schema
    if not name:
        if len(schema.vector_fields) > 1:
            raise Rejected(
                "multiple anns_fields exist, please specify a anns_field in search_params"
            )
        return schema.vector_fields[0]
    field = schema.by_name.get(name)
    if field is None:
        raise InvalidParameter(
            f"failed to create query plan: failed to get field schema by name: "
            f"fieldName({name}) not found"
        )
    if not field.data_type.is_vector:
        raise InvalidParameter(
            f"failed to create query plan: field ({name}) to search is not of vector data type"
        )
    return field


def _refuse_unsupported(request: Any) -> None:
    unsupported = {
        "function_score": request.function_score.functions,
        "function_chains": request.function_chains,
        "search_aggregation": request.HasField("search_aggregation"),
        "namespace": request.namespace,
    }
    for name, is_asked in unsupported.items():
        if is_asked:
            raise Unimplemented(f"{name} in search is not supported yet: service unimplemented")


def _group_field(
    collection: CollectionInfo,
    field: FieldSchema,
    given: SearchParameters,
    part_of: HybridPart | None,
) -> GroupField | None:
    """What the hits of a search of the vector field are grouped by. A hybrid search says it for all
    of its parts."""
    group = None
    if part_of is not None:
        group = part_of.group
    elif given.group_by is not None:
        group = resolve_group_by(given.group_by, collection.schema)
    if group is not None:
        is_range = given.radius is not None
        check_groupable(field, is_iterator=given.is_iterator, is_range=is_range)
    return group


def _vector_query(
    meta: CollectionMeta, field: FieldSchema, given: SearchParameters, vectors: Any
) -> VectorQuery:
    index = meta.index_by_field.get(field.name)
    if index is None or index.metric_type is None:
        raise IndexNotFound(collection=meta.info.name)
    metric = _metric(index, given.metric)
    parameters.check_range(metric, given.radius, given.range_filter)
    params = check_index_parameters(
        index.index_type,
        given.index,
        top_k=given.top_k,
        unbounded=given.radius is None and not given.is_iterator,
        of_lists=metric.is_of_lists,
    )
    if metric is MetricType.BM25:
        params = {K1: float(index.params[K1]), B: float(index.params[B]), **params}
    query = VectorQuery(
        field_name=field.name,
        metric=metric,
        vectors=vectors,
        top_k=given.top_k,
        params=params,
        radius=given.radius,
        range_filter=given.range_filter,
    )
    return query if given.page is None else page_query(query, given.page)


def _metric(index: IndexInfo, given: str) -> MetricType:
    assert index.metric_type is not None
    if given and given != index.metric_type and index.metric_type is MetricType.BM25:
        raise InvalidParameter(
            "must use BM25 metric type when searching against BM25 Function output field",
            expected="BM25",
            actual=given,
        )
    if given and given != index.metric_type:
        raise InvalidParameter(
            "metric type not match", expected=str(index.metric_type), actual=given
        )
    return index.metric_type


def _with(names: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*names, *others)))


def _rounded(hits: Hits, decimals: int) -> Hits:
    if decimals < 0:
        return hits
    return replace(hits, scores=round_scores(hits.scores, decimals))
