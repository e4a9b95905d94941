"""Indexes."""

from typing import Any

import orjson

from elanus.access.rest.bodies import Body, as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.databases import key_values
from elanus.access.rest.errors import RpcFailure
from elanus.errors import IndexNotFound
from elanus.rows.texts import as_text
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict

METRIC_TYPE, INDEX_TYPE = "metric_type", "index_type"
_STATES = milvus.IndexDescription.DESCRIPTOR.fields_by_name["state"].enum_type.values_by_number


def create_request(collection: str, item: Body) -> Any:
    """A CreateIndexRequest from an item of ``indexParams``. The type and the metric may also stand
    in its ``params``."""
    params = dict(item.mapping("params"))
    extra = {
        INDEX_TYPE: item.text("indexType") or as_text(params.pop(INDEX_TYPE, "")),
        METRIC_TYPE: item.text("metricType") or as_text(params.pop(METRIC_TYPE, "")),
    }
    params = {key: value for key, value in params.items() if key not in extra}
    if params:
        extra["params"] = orjson.dumps(params).decode()
    return milvus.CreateIndexRequest(
        collection_name=collection,
        field_name=item.required_text("fieldName"),
        index_name=item.text("indexName"),
        extra_params=dict_to_pairs({key: value for key, value in extra.items() if value}),
    )


async def descriptions(call: RestCall, collection: str, index: str = "") -> list[Any]:
    """IndexDescription messages; none if the collection has no index."""
    try:
        response = await call.rpc("DescribeIndex", collection_name=collection, index_name=index)
    except RpcFailure as error:
        if error.code == IndexNotFound.code and not index:
            return []
        raise
    return list(response.index_descriptions)


async def list_all(call: RestCall) -> dict[str, Any]:
    found = await descriptions(call, call.body.required_text("collectionName"))
    return {"data": [index.index_name for index in found]}


async def describe(call: RestCall) -> dict[str, Any]:
    collection = call.body.required_text("collectionName")
    found = await descriptions(call, collection, call.body.required_text("indexName"))
    return {"data": [_description(index) for index in found]}


def _description(index: Any) -> dict[str, Any]:
    params = pairs_to_dict(index.params)
    return {
        "indexName": index.index_name,
        "fieldName": index.field_name,
        "indexType": params.get(INDEX_TYPE, ""),
        "metricType": params.get(METRIC_TYPE, ""),
        "mmap.enabled": params.get("mmap.enabled", ""),
        "indexoffsetcache.enabled": params.get("indexoffsetcache.enabled", ""),
        "totalRows": index.total_rows,
        "pendingRows": index.pending_index_rows,
        "indexedRows": index.indexed_rows,
        "indexState": _STATES[index.state].name,
        "failReason": index.index_state_fail_reason,
        "minIndexVersion": index.min_index_version,
        "maxIndexVersion": index.max_index_version,
        "indexParams": key_values(params),
    }


async def create(call: RestCall) -> dict[str, Any]:
    collection = call.body.required_text("collectionName")
    items = call.body.required_objects("indexParams")
    for request in [create_request(collection, item) for item in items]:
        await call.send("CreateIndex", request)
    return {"data": {}}


async def drop(call: RestCall) -> dict[str, Any]:
    await call.rpc("DropIndex", **_names(call))
    return {"data": {}}


async def alter_properties(call: RestCall) -> dict[str, Any]:
    properties = as_texts(call.body.required_mapping("properties"))
    await call.rpc("AlterIndex", **_names(call), extra_params=dict_to_pairs(properties))
    return {"data": {}}


async def drop_properties(call: RestCall) -> dict[str, Any]:
    keys = call.body.required_texts("propertyKeys")
    await call.rpc("AlterIndex", **_names(call), delete_keys=keys)
    return {"data": {}}


def _names(call: RestCall) -> dict[str, str]:
    return {
        "collection_name": call.body.required_text("collectionName"),
        "index_name": call.body.required_text("indexName"),
    }


ROUTES = {
    "indexes/list": list_all,
    "indexes/describe": describe,
    "indexes/create": create,
    "indexes/drop": drop,
    "indexes/alter_properties": alter_properties,
    "indexes/drop_properties": drop_properties,
}
