"""Creating a collection: by a schema, or quickly by a dimension alone.

Creation, indexes and loading are separate RPCs: what went well before an error stays.
"""

from functools import partial
from typing import Any

from elanus.access.rest.bodies import Body, as_texts
from elanus.access.rest.call import RestCall
from elanus.access.rest.errors import MissingParameters
from elanus.access.rest.functions import function_message
from elanus.access.rest.indexes import create_request
from elanus.access.rest.structs import struct_schema
from elanus.errors import InvalidParameter
from elanus.model.schema import struct_field_name
from elanus.model.types import ConsistencyLevel, DataType
from elanus.rows.texts import as_text, json_name
from elanus.wire.protocol import milvus, schema
from elanus.wire.schema import dict_to_pairs

DEFAULT_METRIC = "COSINE"
_TYPES = {data_type.milvus_name: data_type for data_type in DataType}
_LEVELS = {level.name.capitalize(): level for level in ConsistencyLevel}
_PROPERTIES = {
    "ttlSeconds": "collection.ttl.seconds",
    "partitionKeyIsolation": "partitionkey.isolation",
    "mmap.enabled": "mmap.enabled",
    "timezone": "timezone",
}
_INT_BOUNDS = {
    DataType.INT8: 1 << 7,
    DataType.INT16: 1 << 15,
    DataType.INT32: 1 << 31,
    DataType.INT64: 1 << 63,
}
_DEFAULT_HOLDERS: dict[DataType, tuple[str, tuple[type, ...]]] = {
    DataType.BOOL: ("bool_data", (bool,)),
    DataType.INT8: ("int_data", (int,)),
    DataType.INT16: ("int_data", (int,)),
    DataType.INT32: ("int_data", (int,)),
    DataType.INT64: ("long_data", (int,)),
    DataType.FLOAT: ("float_data", (int, float)),
    DataType.DOUBLE: ("double_data", (int, float)),
    DataType.VARCHAR: ("string_data", (str,)),
    DataType.TIMESTAMPTZ: ("string_data", (str,)),
    DataType.GEOMETRY: ("string_data", (str,)),
}


async def create(call: RestCall) -> dict[str, Any]:
    body = call.body
    name = body.required_text("collectionName")
    if body.part("schema").array("fields"):
        collection = schema_message(name, body)
        indexes = body.parts("indexParams")
    else:
        collection = quick_schema_message(name, body)
        indexes = [_quick_index(body)]
    await call.send("CreateCollection", creation_request(collection, body.part("params")))
    fields = {field.name for field in collection.fields}
    for struct in collection.struct_array_fields:
        fields |= {struct_field_name(struct.name, field.name) for field in struct.fields}
    for index in indexes:
        if index.required_text("fieldName") not in fields:
            field = index.text("fieldName")
            raise MissingParameters(f"`{field}` hasn't defined in schema, it is required there")
    for index in indexes:
        await call.send("CreateIndex", create_request(name, index))
    if indexes:
        await call.rpc("LoadCollection", collection_name=name)
    return {"data": {}}


def creation_request(collection: Any, params: Body) -> Any:
    """A CreateCollectionRequest for a schema message and the ``params`` of the body."""
    has_key = any(field.is_partition_key for field in collection.fields)
    properties = {
        key: as_text(params.get(given)) for given, key in _PROPERTIES.items() if given in params
    }
    level = consistency_level(params)
    return milvus.CreateCollectionRequest(
        collection_name=collection.name,
        schema=collection.SerializeToString(),
        shards_num=params.integer("shardsNum", 1),
        num_partitions=params.integer("partitionsNum", 0) if has_key else 0,
        consistency_level=int(ConsistencyLevel.BOUNDED if level is None else level),
        properties=dict_to_pairs(properties),
    )


def consistency_level(body: Body) -> ConsistencyLevel | None:
    """The ``consistencyLevel`` by its name, None if there is none. Raises InvalidParameter."""
    name = body.text("consistencyLevel")
    if not name:
        return None
    if name not in _LEVELS:
        raise InvalidParameter(
            "consistencyLevel can only be [Strong, Session, Bounded, Eventually, Customized], "
            "default: Bounded",
            expected="a consistency level",
            actual=name,
        )
    return _LEVELS[name]


def quick_schema_message(name: str, body: Body) -> Any:
    """A schema of a primary key and a vector. Raises InvalidParameter."""
    if body.part("schema").array("functions"):
        raise InvalidParameter("functions are not supported for quickly create collection")
    params = body.part("params")
    dimension = body.integer("dimension", 0)
    if dimension == 0:
        raise InvalidParameter(
            "dimension is required for quickly create collection(default metric type: "
            f"{DEFAULT_METRIC})",
            expected="dimension",
            actual="",
        )
    primary = schema.FieldSchema(
        name=body.text("primaryFieldName") or "id",
        is_primary_key=True,
        data_type=int(DataType.INT64),
        autoID=body.flag("autoID"),
    )
    id_type = body.text("idType") or "Int64"
    if id_type in ("VarChar", "Varchar"):
        primary.data_type = int(DataType.VARCHAR)
        if "max_length" in params:
            length = as_text(params.get("max_length"))
            primary.type_params.extend(dict_to_pairs({"max_length": length}))
    elif id_type != "Int64":
        raise InvalidParameter(
            "idType can only be [Int64, VarChar], default: Int64",
            expected="Int64 or VarChar",
            actual=id_type,
        )
    vector = schema.FieldSchema(
        name=_quick_vector(body),
        data_type=int(DataType.FLOAT_VECTOR),
        type_params=dict_to_pairs({"dim": str(dimension)}),
    )
    return schema.CollectionSchema(
        name=name,
        description=body.text("description"),
        fields=[primary, vector],
        enable_dynamic_field=params.flag("enableDynamicField", True),
    )


def schema_message(name: str, body: Body) -> Any:
    """The schema.CollectionSchema message of ``schema``. Raises InvalidParameter."""
    given = body.part("schema")
    auto_id = given.flag("autoID")
    return schema.CollectionSchema(
        name=name,
        description=body.text("description") or given.text("description"),
        fields=[field_message(field, auto_id=auto_id) for field in given.parts("fields")],
        struct_array_fields=[
            struct_schema(struct, partial(field_message, auto_id=False))
            for struct in given.parts("structFields")
        ],
        functions=[function_message(function) for function in given.parts("functions")],
        enable_dynamic_field=given.flag("enableDynamicField"),
    )


def field_message(field: Body, *, auto_id: bool) -> Any:
    """A schema.FieldSchema message; ``auto_id`` is for the primary key. Raises InvalidParameter
    for a type or a default value that can't be."""
    name = field.required_text("fieldName")
    data_type = _data_type(field, "dataType", "data type")
    is_primary = field.flag("isPrimary")
    message = schema.FieldSchema(
        name=name,
        description=field.text("description"),
        data_type=int(data_type),
        is_primary_key=is_primary,
        autoID=auto_id and is_primary,
        is_partition_key=field.flag("isPartitionKey"),
        is_clustering_key=field.flag("isClusteringKey"),
        nullable=field.flag("nullable"),
        type_params=dict_to_pairs(as_texts(field.mapping("elementTypeParams"))),
    )
    if data_type is DataType.ARRAY or "elementDataType" in field:
        message.element_type = int(_data_type(field, "elementDataType", "element data type"))
    if "defaultValue" in field:
        holder, value = _default(name, data_type, field.get("defaultValue"))
        setattr(message.default_value, holder, value)
    return message


def _quick_vector(body: Body) -> str:
    return body.text("vectorFieldName") or "vector"


def _quick_index(body: Body) -> Body:
    field = _quick_vector(body)
    metric = body.text("metricType") or DEFAULT_METRIC
    return Body(
        {
            "fieldName": field,
            "indexName": field,
            "indexType": "AUTOINDEX",
            "metricType": metric,
        }
    )


def _data_type(field: Body, key: str, what: str) -> DataType:
    name = field.required_text(key)
    if name not in _TYPES:
        raise InvalidParameter(f"invalid parameter, {what} {name} is invalid(case sensitive).")
    return _TYPES[name]


def _default(name: str, data_type: DataType, value: Any) -> tuple[str, Any]:
    """The member of ValueField and its value."""
    holder, kinds = _DEFAULT_HOLDERS.get(data_type, ("", ()))
    if type(value) not in kinds:
        raise _bad_default(name, data_type, f"of the JSON type {json_name(value)}")
    bound = _INT_BOUNDS.get(data_type)
    if bound is not None and not -bound <= value < bound:
        raise _bad_default(name, data_type, f"{value}, which is out of range")
    return holder, value


def _bad_default(name: str, data_type: DataType, found: str) -> InvalidParameter:
    return InvalidParameter(
        f"convert defaultValue fail, err:the default value of field {name} of type "
        f"{data_type.milvus_name} can't be {found}"
    )


ROUTES = {"collections/create": create}
