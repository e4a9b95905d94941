"""Collection schemas and descriptions, between Milvus's messages and the model.

Decoding translates and checks the form only (known types, a default value of the field's type);
whether a schema makes sense is for the coordinator to judge. The dynamic field ``$meta`` is never
shown: ``enable_dynamic_field`` tells of it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from elanus.errors import InvalidParameter, Rejected, Unimplemented
from elanus.model.catalog import CollectionInfo, pchannel_of
from elanus.model.schema import (
    CollectionSchema,
    FieldSchema,
    FunctionSchema,
    StructSchema,
    struct_field_name,
)
from elanus.model.timestamp import physical_ms
from elanus.model.timestamptz import format_timestamps, zone_of
from elanus.model.types import DataType, FunctionType
from elanus.wire.protocol import common, milvus, parse, schema

# Types whose default value travels in each holder of ValueField, and Milvus's name of the holder.
_HOLDERS: dict[str, tuple[tuple[DataType, ...], str]] = {
    "bool_data": ((DataType.BOOL,), "DataType_Bool"),
    "int_data": ((DataType.INT8, DataType.INT16, DataType.INT32), "DataType_Int"),
    "long_data": ((DataType.INT64,), "DataType_Int64"),
    "float_data": ((DataType.FLOAT,), "DataType_Float"),
    "double_data": ((DataType.DOUBLE,), "DataType_Double"),
    "string_data": (
        (DataType.VARCHAR, DataType.TIMESTAMPTZ, DataType.GEOMETRY),
        "DataType_VarChar",
    ),
}
_HOLDER_OF = {
    data_type: holder for holder, (data_types, _) in _HOLDERS.items() for data_type in data_types
}


def pairs_to_dict(pairs: Iterable[Any]) -> dict[str, str]:
    """Repeated KeyValuePair as a dict; the last of equal keys counts."""
    return {pair.key: pair.value for pair in pairs}


def dict_to_pairs(values: Mapping[str, str]) -> list[Any]:
    """A dict as KeyValuePairs, in its order."""
    return [common.KeyValuePair(key=key, value=value) for key, value in values.items()]


def decode_schema(data: bytes) -> CollectionSchema:
    """The schema of a CreateCollectionRequest, without ``$meta`` and with the field ids as sent
    (usually 0).

    Raises InvalidParameter or Rejected for a malformed one, and Unimplemented for what is not
    served: other functions than BM25, namespaces and external collections.
    """
    message = parse(schema.CollectionSchema, data, "the collection schema")
    _refuse_unserved(message)
    fields, structs = _with_structs(message)
    return CollectionSchema(
        name=message.name,
        description=message.description,
        enable_dynamic_field=message.enable_dynamic_field,
        fields=fields,
        structs=structs,
        functions=tuple(_function(function) for function in message.functions),
    )


def _with_structs(message: Any) -> tuple[tuple[FieldSchema, ...], tuple[StructSchema, ...]]:
    """The plain fields and behind them those of the structs, and the structs."""
    fields = [field_from_message(field) for field in message.fields]
    structs = []
    for struct in message.struct_array_fields:
        structs.append(
            StructSchema(
                name=struct.name,
                field_id=struct.fieldID,
                description=struct.description,
                type_params=pairs_to_dict(struct.type_params),
                nullable=struct.nullable,
            )
        )
        for part in map(field_from_message, struct.fields):
            placed = msgspec.structs.replace(
                part,
                name=struct_field_name(struct.name, part.name),
                struct=struct.name,
                nullable=part.nullable or struct.nullable,
            )
            fields.append(placed)
    return tuple(fields), tuple(structs)


def _function(message: Any) -> FunctionSchema:
    try:
        kind = FunctionType(message.type)
    except ValueError:
        raise Unimplemented(
            f"function {message.name}: functions of type {message.type} are not supported yet"
        ) from None
    if message.params:
        raise InvalidParameter(f"{kind.name} function accepts no params, function {message.name}")
    return FunctionSchema(
        name=message.name,
        type=kind,
        input_fields=tuple(message.input_field_names),
        output_fields=tuple(message.output_field_names),
        description=message.description,
    )


def decode_field(data: bytes) -> FieldSchema:
    """The field of an AddCollectionFieldRequest; errors as :func:`decode_schema`."""
    return field_from_message(parse(schema.FieldSchema, data, "the field schema"))


def field_from_message(message: Any) -> FieldSchema:
    """A schema.FieldSchema message as the model's field. Unknown type params are kept; index
    params, an old place for the same settings, are merged into them."""
    data_type = _data_type(message.data_type)
    params = pairs_to_dict(message.index_params) | pairs_to_dict(message.type_params)
    return FieldSchema(
        name=message.name,
        data_type=data_type,
        field_id=message.fieldID,
        description=message.description,
        is_primary=message.is_primary_key,
        auto_id=message.autoID,
        is_partition_key=message.is_partition_key,
        is_clustering_key=message.is_clustering_key,
        is_dynamic=message.is_dynamic,
        nullable=message.nullable,
        default_value=_decode_default(message, data_type),
        element_type=_data_type(message.element_type),
        type_params=params,
    )


def schema_message(collection: CollectionSchema, zone: str = "UTC") -> Any:
    """A schema.CollectionSchema message, without ``$meta``; default timestamps as of ``zone``."""
    return schema.CollectionSchema(
        name=collection.name,
        description=collection.description,
        enable_dynamic_field=collection.enable_dynamic_field,
        fields=[field_message(field, zone) for field in collection.user_fields if not field.struct],
        struct_array_fields=[_struct_message(struct, collection) for struct in collection.structs],
        functions=[_function_message(function, collection) for function in collection.functions],
        version=collection.version,
    )


def _struct_message(struct: StructSchema, collection: CollectionSchema) -> Any:
    return schema.StructArrayFieldSchema(
        fieldID=struct.field_id,
        name=struct.name,
        description=struct.description,
        fields=[field_message(field) for field in collection.parts_of[struct.name]],
        type_params=dict_to_pairs(struct.type_params),
        nullable=struct.nullable,
    )


def _function_message(function: FunctionSchema, collection: CollectionSchema) -> Any:
    ids = {field.name: field.field_id for field in collection.fields}
    return schema.FunctionSchema(
        name=function.name,
        id=function.function_id,
        description=function.description,
        type=int(function.type),
        input_field_names=function.input_fields,
        input_field_ids=[ids[name] for name in function.input_fields],
        output_field_names=function.output_fields,
        output_field_ids=[ids[name] for name in function.output_fields],
    )


def field_message(field: FieldSchema, zone: str = "UTC") -> Any:
    """A schema.FieldSchema message; a default timestamp is shown as of ``zone``."""
    message = schema.FieldSchema(
        fieldID=field.field_id,
        name=field.local_name,
        is_primary_key=field.is_primary,
        description=field.description,
        data_type=int(field.data_type),
        type_params=dict_to_pairs(field.type_params),
        autoID=field.auto_id,
        element_type=int(field.element_type),
        is_dynamic=field.is_dynamic,
        is_partition_key=field.is_partition_key,
        is_clustering_key=field.is_clustering_key,
        is_function_output=field.is_function_output,
        nullable=field.nullable,
    )
    default = field.default_value
    if field.data_type is DataType.TIMESTAMPTZ and isinstance(default, int):
        [default] = format_timestamps(np.array([default], np.int64), zone_of(zone))
    if default is not None:
        setattr(message.default_value, _HOLDER_OF[field.data_type], default)
    return message


def collection_message(
    collection: CollectionInfo,
    *,
    requested_name: str = "",
    aliases: Iterable[str] = (),
    database_id: int = 0,
    request_ts: int = 0,
) -> Any:
    """A DescribeCollectionResponse. ``requested_name`` is echoed: it may be an alias."""
    return milvus.DescribeCollectionResponse(
        schema=schema_message(collection.schema, collection.timezone),
        collectionID=collection.collection_id,
        virtual_channel_names=collection.vchannels,
        physical_channel_names=[pchannel_of(vchannel) for vchannel in collection.vchannels],
        created_timestamp=collection.created_ts,
        created_utc_timestamp=physical_ms(collection.created_ts),
        shards_num=len(collection.vchannels),
        aliases=list(aliases),
        consistency_level=int(collection.consistency_level),
        collection_name=requested_name or collection.name,
        properties=dict_to_pairs(collection.properties),
        db_name=collection.database,
        num_partitions=len(collection.partitions),
        db_id=database_id,
        request_time=request_ts,
        update_timestamp=collection.updated_ts,
        update_timestamp_str=str(collection.updated_ts),
    )


def _refuse_unserved(message: Any) -> None:
    if message.external_source or message.external_spec:
        raise Unimplemented("external collections are not implemented yet")
    if message.enable_namespace:
        raise Unimplemented("namespaces are not implemented yet")


def _data_type(code: int) -> DataType:
    try:
        return DataType(code)
    except ValueError:
        raise Rejected(f"data type {code} is not valid") from None


def _decode_default(message: Any, data_type: DataType) -> bool | int | float | str | None:
    if not message.HasField("default_value"):
        return None
    holder = message.default_value.WhichOneof("data")
    if holder is None:
        return None
    if data_type not in _HOLDER_OF:
        raise InvalidParameter(
            f"type not support default_value, type:{data_type.milvus_name}, name:{message.name}"
        )
    data_types, holder_name = _HOLDERS.get(holder, ((), holder))
    if data_type not in data_types:
        raise InvalidParameter(
            f"type ({data_type.milvus_name}) of field ({message.name}) is not equal to "
            f"the type({holder_name}) of default_value"
        )
    value: bool | int | float | str = getattr(message.default_value, holder)
    return value
