"""Search and hybrid search."""

from typing import Any

import orjson

from elanus.access.rest.bodies import Body, as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.creation import consistency_level
from elanus.access.rest.entities import DEFAULT_LIMIT, primary_keys
from elanus.access.rest.errors import MissingParameters, NotJson
from elanus.access.rest.functions import function_score
from elanus.access.rest.results import search_rows
from elanus.access.rest.templates import encode_templates
from elanus.errors import CollectionNotFound, InvalidParameter, Unimplemented
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.rows.texts import as_text
from elanus.rows.unfit import Unfit
from elanus.rows.vectors import vectors_of_json
from elanus.wire.placeholders import encode_lists, encode_queries, encode_texts
from elanus.wire.protocol import milvus, schema
from elanus.wire.schema import dict_to_pairs

BOOLEAN_EXPRESSION = 1  # DslType
_LEGACY_PARAMS = ("radius", "range_filter")
_GROUPING = {
    "groupingField": "group_by_field",
    "groupSize": "group_size",
    "strictGroupSize": "strict_group_size",
}
_LATER = ("orderByFields", "groupByFields", "searchAggregation", "functionChains")


async def search(call: RestCall) -> dict[str, Any]:
    body = call.body
    _refuse_later(body)
    has_data, has_ids = bool(body.array("data")), bool(body.array("ids"))
    if has_data and has_ids:
        raise InvalidParameter("data and ids are mutually exclusive, give one of them")
    if not has_data and not has_ids:
        raise MissingParameters("one of the keys 'data' and 'ids' is required")
    request = milvus.SearchRequest(
        collection_name=body.required_text("collectionName"),
        output_fields=body.texts("outputFields"),
        partition_names=body.texts("partitionNames"),
        search_params=dict_to_pairs(_search_params(body)),
        function_score=function_score(body),
        **_consistency(body),
    )
    if has_data:
        await _add_queries(call, request, body)
    else:
        await _add_ids(call, request)
    _add_filter(request, body)
    return await _answer(call, "Search", request)


async def hybrid_search(call: RestCall) -> dict[str, Any]:
    body = call.body
    _refuse_later(body)
    name = body.required_text("collectionName")
    parts = []
    for part in body.required_objects("search"):
        part.required_array("data")
        request = milvus.SearchRequest(
            db_name=call.database,
            collection_name=name,
            partition_names=body.texts("partitionNames"),
            search_params=dict_to_pairs(_part_params(part)),
        )
        await _add_queries(call, request, part)
        _add_filter(request, part)
        parts.append(request)
    request = milvus.HybridSearchRequest(
        collection_name=name,
        requests=parts,
        rank_params=dict_to_pairs(_rank_params(body)),
        output_fields=body.texts("outputFields"),
        partition_names=body.texts("partitionNames"),
        function_score=function_score(body),
        **_consistency(body),
    )
    return await _answer(call, "HybridSearch", request)


def _refuse_later(body: Body) -> None:
    for key in _LATER:
        if body.get(key):
            raise Unimplemented(f"{key} is not supported in search yet: service unimplemented")


def _search_params(body: Body) -> dict[str, str]:
    """``search_params`` of a SearchRequest: everything of ``searchParams`` as it is, its
    ``params`` as JSON."""
    given = body.mapping("searchParams")
    nested = given.get("params")
    if nested is not None and not isinstance(nested, dict):
        raise InvalidParameter("searchParams.params must be a dict")
    params = dict(nested or {})
    legacy = body.mapping("params")
    for key in _LEGACY_PARAMS:
        if key in legacy and key not in given:
            params.setdefault(key, legacy[key])
    return {
        **as_texts({key: value for key, value in given.items() if key != "params"}),
        "topk": str(body.integer("limit", DEFAULT_LIMIT)),
        "params": orjson.dumps(params).decode(),
        **_field_and_offset(body),
        **_grouping(body),
    }


def _part_params(part: Body) -> dict[str, str]:
    """``search_params`` of one search of a hybrid search; the whole decides on a limit that is
    not given."""
    params = {"params": orjson.dumps(part.mapping("params")).decode(), **_field_and_offset(part)}
    if "metricType" in part:
        params["metric_type"] = part.text("metricType")
    if "limit" in part:
        params["topk"] = str(part.integer("limit", 0))
    return {**params, **_grouping(part)}


def _field_and_offset(body: Body) -> dict[str, str]:
    params = {"anns_field": body.text("annsField")}
    offset = body.integer("offset", 0)
    return {**params, "offset": str(offset)} if offset else params


def _grouping(body: Body) -> dict[str, str]:
    given = {key: body.get(name) for name, key in _GROUPING.items()}
    return {key: as_text(value) for key, value in given.items() if value not in (None, "")}


def _rank_params(body: Body) -> dict[str, str]:
    rerank = body.part("rerank")
    params = {
        "limit": str(body.integer("limit", DEFAULT_LIMIT)),
        "offset": str(body.integer("offset", 0)),
        **_grouping(body),
    }
    if rerank.values:
        params["strategy"] = rerank.text("strategy") or "rrf"
        params["params"] = orjson.dumps(rerank.mapping("params")).decode()
    return params


def _consistency(body: Body) -> dict[str, Any]:
    level = consistency_level(body)
    return {
        "use_default_consistency": level is None,
        "consistency_level": 0 if level is None else int(level),
    }


def _add_filter(request: Any, body: Body) -> None:
    request.dsl = body.text("filter")
    request.dsl_type = BOOLEAN_EXPRESSION
    for name, value in encode_templates(body.mapping("exprParams")).items():
        request.expr_template_values[name].CopyFrom(value)


async def _add_queries(call: RestCall, request: Any, body: Body) -> None:
    queries = body.array("data")
    field = await _searched_field(call, body)
    request.nq = len(queries)
    request.placeholder_group = await call.convert(
        call.size_bytes, lambda: _queries(queries, field)
    )


async def _searched_field(call: RestCall, body: Body) -> FieldSchema | None:
    """The vector field that is searched; None where there is no such field or collection, which
    the core has an error for."""
    try:
        schema = (await call.collection()).schema
    except CollectionNotFound:
        return None
    name = body.text("annsField")
    field = schema.by_name.get(name) if name else next(iter(schema.vector_fields), None)
    return field if field is not None and field.data_type.is_vector else None


def _queries(queries: list[Any], field: FieldSchema | None) -> bytes:
    """The placeholder group of vectors, lists of them, or texts; whether they fit the field is for
    the core."""
    data_type = DataType.FLOAT_VECTOR if field is None else field.data_type
    is_text = all(isinstance(query, str) for query in queries)
    if is_text and data_type in (DataType.FLOAT_VECTOR, DataType.SPARSE_FLOAT_VECTOR):
        return encode_texts(queries)
    try:
        if field is not None and data_type is DataType.ARRAY_OF_VECTOR:
            if not all(map(_is_vector, queries)):
                return _lists(queries, field.element_type)
            data_type = field.element_type
        return encode_queries(data_type, vectors_of_json(data_type, queries))
    except Unfit as unfit:
        raise NotJson(
            f"'data[{unfit.position}]' should be {unfit.expected}, but got {unfit.actual}"
        ) from unfit


def _is_vector(query: Any) -> bool:
    """Whether a query of lists of vectors is one vector, and no list of them."""
    if isinstance(query, list):
        return bool(query) and isinstance(query[0], int | float)
    return isinstance(query, str)


def _lists(queries: list[Any], element_type: DataType) -> bytes:
    lists = []
    for number, query in enumerate(queries):
        if not isinstance(query, list):
            raise Unfit(number, f"list of {element_type.milvus_name}", query)
        try:
            lists.append(vectors_of_json(element_type, query))
        except Unfit as unfit:
            raise Unfit(number, f"list of {unfit.expected}", unfit.actual) from unfit
    return encode_lists(element_type, lists)


async def _add_ids(call: RestCall, request: Any) -> None:
    primary = (await call.collection()).schema.primary
    keys = primary_keys(call.body.array("ids"), primary)
    request.nq = len(keys)
    if primary.data_type is DataType.VARCHAR:
        request.ids.CopyFrom(schema.IDs(str_id=schema.StringArray(data=keys)))
    else:
        request.ids.CopyFrom(schema.IDs(int_id=schema.LongArray(data=keys)))


async def _answer(call: RestCall, method: str, request: Any) -> dict[str, Any]:
    response = await call.send(method, request)
    results = response.results

    def rows() -> list[dict[str, Any]]:
        return search_rows(results, int64_as_text=call.int64_as_text)

    found = await call.convert(response.ByteSize(), rows)
    if not found:
        return {"data": [], "cost": 0}
    return {"data": found, "cost": 0, "topks": list(results.topks)}


ROUTES = {
    "entities/search": search,
    "entities/hybrid_search": hybrid_search,
    "entities/advanced_search": hybrid_search,
}
