"""Collections, but for their creation (:mod:`creation`)."""

from typing import Any

from elanus.access.rest.bodies import as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.creation import field_message
from elanus.access.rest.databases import key_values
from elanus.access.rest.errors import RpcFailure
from elanus.access.rest.indexes import METRIC_TYPE, descriptions
from elanus.access.rest.structs import struct_description
from elanus.errors import CollectionNotFound, IndexNotFound
from elanus.model.types import ConsistencyLevel, DataType, LoadState
from elanus.wire.protocol import milvus
from elanus.wire.schema import dict_to_pairs, pairs_to_dict

DEFAULT_METRIC = "COSINE"
_LOAD_STATES = milvus.GetLoadStateResponse.DESCRIPTOR.fields_by_name[
    "state"
].enum_type.values_by_number
_COMPACTION_STATES = milvus.GetCompactionStateResponse.DESCRIPTOR.fields_by_name[
    "state"
].enum_type.values_by_number


async def list_all(call: RestCall) -> dict[str, Any]:
    return {"data": list((await call.rpc("ShowCollections")).collection_names)}


async def has(call: RestCall) -> dict[str, Any]:
    return {"data": {"has": (await _of_collection(call, "HasCollection")).value}}


async def get_stats(call: RestCall) -> dict[str, Any]:
    response = await _of_collection(call, "GetCollectionStatistics")
    return {"data": {"rowCount": int(pairs_to_dict(response.stats).get("row_count", "0"))}}


async def drop(call: RestCall) -> dict[str, Any]:
    await _of_collection(call, "DropCollection")
    return {"data": {}}


async def truncate(call: RestCall) -> dict[str, Any]:
    await _of_collection(call, "TruncateCollection")
    return {"data": {}}


async def load(call: RestCall) -> dict[str, Any]:
    await _of_collection(call, "LoadCollection")
    return {"data": {}}


async def refresh_load(call: RestCall) -> dict[str, Any]:
    await _of_collection(call, "LoadCollection", refresh=True)
    return {"data": {}}


async def release(call: RestCall) -> dict[str, Any]:
    await _of_collection(call, "ReleaseCollection")
    return {"data": {}}


async def rename(call: RestCall) -> dict[str, Any]:
    await call.rpc(
        "RenameCollection",
        oldName=call.body.required_text("collectionName"),
        newName=call.body.required_text("newCollectionName"),
        newDBName=call.body.text("newDbName"),
    )
    return {"data": {}}


async def alter_properties(call: RestCall) -> dict[str, Any]:
    properties = as_texts(call.body.required_mapping("properties"))
    await _of_collection(call, "AlterCollection", properties=dict_to_pairs(properties))
    return {"data": {}}


async def drop_properties(call: RestCall) -> dict[str, Any]:
    keys = call.body.required_texts("propertyKeys")
    await _of_collection(call, "AlterCollection", delete_keys=keys)
    return {"data": {}}


async def alter_field(call: RestCall) -> dict[str, Any]:
    await _of_collection(
        call,
        "AlterCollectionField",
        field_name=call.body.required_text("fieldName"),
        properties=dict_to_pairs(as_texts(call.body.required_mapping("fieldParams"))),
    )
    return {"data": {}}


async def add_field(call: RestCall) -> dict[str, Any]:
    call.body.required_mapping("schema")
    field = field_message(call.body.part("schema"), auto_id=False)
    await _of_collection(call, "AddCollectionField", schema=field.SerializeToString())
    return {"data": {}}


async def flush(call: RestCall) -> dict[str, Any]:
    await call.rpc("Flush", collection_names=[call.body.required_text("collectionName")])
    return {"data": {}}


async def compact(call: RestCall) -> dict[str, Any]:
    clustering = call.body.flag("isClustering")
    response = await _of_collection(call, "ManualCompaction", majorCompaction=clustering)
    return {"data": {"compactionID": response.compactionID}}


async def get_compaction_state(call: RestCall) -> dict[str, Any]:
    number = call.body.integer("jobID", 0)
    response = await call.rpc("GetCompactionState", compactionID=number)
    return {
        "data": {
            "compactionID": number,
            "state": _COMPACTION_STATES[response.state].name,
            "executingPlanNumber": response.executingPlanNo,
            "timeoutPlanNumber": response.timeoutPlanNo,
            "completedPlanNumber": response.completedPlanNo,
        }
    }


async def get_load_state(call: RestCall) -> dict[str, Any]:
    """Percent and state; why the percentage is not known, if so, is the answer's message."""
    wanted = call.body.texts("partitionNames")
    state = (await _of_collection(call, "GetLoadState", partition_names=wanted)).state
    if state == LoadState.NOT_EXIST:
        raise CollectionNotFound(call.database, call.body.text("collectionName"))
    progress, message = 100 if state == LoadState.LOADED else 0, ""
    if state == LoadState.LOADING:
        try:
            loading = await _of_collection(call, "GetLoadingProgress", partition_names=wanted)
            progress = loading.progress
        except RpcFailure as error:
            message = error.message
    data = {"loadState": _LOAD_STATES[state].name, "loadProgress": progress}
    return {"data": data, "message": message}


async def describe(call: RestCall) -> dict[str, Any]:
    name = call.body.required_text("collectionName")
    described = await call.rpc("DescribeCollection", collection_name=name)
    load_state = await call.rpc("GetLoadState", collection_name=name)
    indexes = await descriptions(call, name)
    message = "" if indexes else f"{IndexNotFound(collection=name).message};"
    schema = described.schema
    primary = next((field for field in schema.fields if field.is_primary_key), None)
    data = {
        "collectionName": described.collection_name,
        "collectionID": described.collectionID,
        "description": schema.description,
        "autoId": primary is not None and primary.autoID,
        "fields": [_field(field) for field in schema.fields],
        "structFields": [
            struct_description(struct, _field) for struct in schema.struct_array_fields
        ],
        "functions": [_function(function) for function in schema.functions],
        "aliases": list(described.aliases),
        "indexes": [
            {
                "indexName": index.index_name,
                "fieldName": index.field_name,
                "metricType": pairs_to_dict(index.params).get(METRIC_TYPE, DEFAULT_METRIC),
            }
            for index in indexes
        ],
        "load": _LOAD_STATES[load_state.state].name,
        "shardsNum": described.shards_num,
        "partitionsNum": described.num_partitions,
        "consistencyLevel": ConsistencyLevel(described.consistency_level).name.capitalize(),
        "enableDynamicField": schema.enable_dynamic_field,
        "properties": key_values(pairs_to_dict(described.properties)),
    }
    return {"data": data, "message": message}


def _field(field: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": field.name,
        "id": field.fieldID,
        "type": DataType(field.data_type).milvus_name,
        "primaryKey": field.is_primary_key,
        "partitionKey": field.is_partition_key,
        "clusteringKey": field.is_clustering_key,
        "autoId": field.autoID,
        "description": field.description,
        "nullable": field.nullable,
    }
    holder = field.default_value.WhichOneof("data")
    if holder is not None:
        name = "".join(map(str.capitalize, holder.split("_")))  # string_data → StringData
        shown["defaultValue"] = {"Data": {name: getattr(field.default_value, holder)}}
    if field.type_params:
        shown["params"] = key_values(pairs_to_dict(field.type_params))
    if field.data_type in (DataType.ARRAY, DataType.ARRAY_OF_VECTOR):
        shown["elementType"] = DataType(field.element_type).milvus_name
    if field.is_function_output:
        shown["isFunctionOutput"] = True
    return shown


def _function(function: Any) -> dict[str, Any]:
    return {
        "name": function.name,
        "description": function.description,
        "type": function.type,
        "id": function.id,
        "inputFieldNames": list(function.input_field_names),
        "outputFieldNames": list(function.output_field_names),
        "params": key_values(pairs_to_dict(function.params)),
    }


async def _of_collection(call: RestCall, method: str, **fields: Any) -> Any:
    name = call.body.required_text("collectionName")
    return await call.rpc(method, collection_name=name, **fields)


ROUTES = {
    "collections/list": list_all,
    "collections/has": has,
    "collections/describe": describe,
    "collections/get_stats": get_stats,
    "collections/get_load_state": get_load_state,
    "collections/drop": drop,
    "collections/truncate": truncate,
    "collections/rename": rename,
    "collections/load": load,
    "collections/refresh_load": refresh_load,
    "collections/release": release,
    "collections/alter_properties": alter_properties,
    "collections/drop_properties": drop_properties,
    "collections/fields/alter_properties": alter_field,
    "collections/fields/add": add_field,
    "collections/flush": flush,
    "collections/compact": compact,
    "collections/get_compaction_state": get_compaction_state,
}
