"""The coordinator's own checks of a schema, field ids, and the question whether two requests to
create a collection are the same."""

import itertools

import msgspec

from elanus.errors import InvalidParameter, Rejected
from elanus.model.catalog import DEFAULT_PARTITION, CollectionInfo
from elanus.model.geometry import wkbs_of
from elanus.model.schema import (
    DYNAMIC_FIELD,
    FIRST_FIELD_ID,
    SYSTEM_FIELDS,
    CollectionSchema,
    FieldSchema,
)
from elanus.model.timestamptz import parse_timestamps, zone_of
from elanus.model.types import ConsistencyLevel, DataType

_RESERVED = (*SYSTEM_FIELDS, DYNAMIC_FIELD, "$namespace_id")
_INTEGER_BITS = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
_NO_DEFAULT = (DataType.JSON, DataType.ARRAY)


def check_schema(schema: CollectionSchema) -> None:
    """Raises Rejected or InvalidParameter."""
    names = [f.name for f in schema.user_fields] + [s.name for s in schema.structs]
    if any(name in _RESERVED for name in names):
        raise Rejected(f"schema contains system field: {', '.join(_RESERVED)}")
    for field in schema.user_fields:
        check_field(field)


def check_field(field: FieldSchema) -> None:
    """Whether the field may be nullable and have its default value."""
    name = f"type:{field.data_type.milvus_name}, name:{field.name}"
    if field.nullable and field.is_primary:
        raise InvalidParameter(f"primary field not support null, {name}")
    default = field.default_value
    if default is None:
        return
    if field.is_primary:
        raise InvalidParameter(f"primary field not support default_value, {name}")
    if field.data_type.is_vector or field.data_type in _NO_DEFAULT:
        raise InvalidParameter(f"type not support default_value, {name}")
    bits = _INTEGER_BITS.get(field.data_type)
    if bits is not None:
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        if not isinstance(default, int) or not low <= default <= high:
            raise InvalidParameter(f"[{default} out of range {low} <= value <= {high}]")
    if field.data_type is DataType.GEOMETRY:
        wkbs_of([str(default)], field.name)
    if field.data_type is DataType.VARCHAR:
        length = len(str(default).encode())
        if length > field.max_length:
            raise InvalidParameter(
                f"the length ({length}) of string exceeds max length ({field.max_length})",
                expected="valid length string",
                actual="string length exceeds max length",
            )


def with_default_time(field: FieldSchema, zone: str) -> FieldSchema:
    """``field`` with a default timestamp in microseconds, as rows have it. Raises InvalidParameter
    for a text that is no timestamp; ``zone`` is that of one without an offset."""
    default = field.default_value
    if field.data_type is not DataType.TIMESTAMPTZ or not isinstance(default, str):
        return field
    moment = int(parse_timestamps([default], zone_of(zone))[0])
    return msgspec.structs.replace(field, default_value=moment)


def with_default_times(schema: CollectionSchema, zone: str) -> CollectionSchema:
    """:func:`with_default_time` of every field."""
    fields = tuple(with_default_time(field, zone) for field in schema.fields)
    return msgspec.structs.replace(schema, fields=fields)


def with_field_ids(schema: CollectionSchema) -> CollectionSchema:
    """Ids from 100 in schema order: plain fields, ``$meta``, each struct and its fields."""
    structs = {struct.name: struct for struct in schema.structs}
    field_ids = itertools.count(FIRST_FIELD_ID)
    numbered = []
    for name, fields in itertools.groupby(sorted(schema.fields, key=_place), lambda f: f.struct):
        if name:
            structs[name] = msgspec.structs.replace(structs[name], field_id=next(field_ids))
        numbered += [msgspec.structs.replace(f, field_id=next(field_ids)) for f in fields]
    return msgspec.structs.replace(schema, fields=tuple(numbered), structs=tuple(structs.values()))


def with_field(schema: CollectionSchema, field: FieldSchema) -> CollectionSchema:
    """``schema`` with one more field, the next id and the next version, at its place."""
    field_id = max(f.field_id for f in schema.fields) + 1
    fields = [*schema.fields, msgspec.structs.replace(field, field_id=field_id)]
    return msgspec.structs.replace(
        schema,
        fields=tuple(sorted(fields, key=_place)),
        enable_dynamic_field=schema.enable_dynamic_field or field.is_dynamic,
        version=schema.version + 1,
    )


def _place(field: FieldSchema) -> tuple[bool, bool]:
    """Plain fields, ``$meta``, fields of structs."""
    return bool(field.struct), field.is_dynamic


def dynamic_field() -> FieldSchema:
    """The ``$meta`` field, as it is made when a collection has a dynamic field."""
    return FieldSchema(
        name=DYNAMIC_FIELD,
        data_type=DataType.JSON,
        description="dynamic schema",
        is_dynamic=True,
        nullable=True,
        default_value="{}",
    )


def partition_names(partitions: int) -> list[str]:
    """``_default``, or numbered ones with a partition key (``partitions`` > 0)."""
    if partitions == 0:
        return [DEFAULT_PARTITION]
    return [f"{DEFAULT_PARTITION}_{number}" for number in range(partitions)]


def is_same_request(
    existing: CollectionInfo,
    schema: CollectionSchema,
    shards: int,
    partitions: int,
    consistency_level: ConsistencyLevel,
    properties: dict[str, str],
) -> bool:
    """Whether creating the existing collection was asked for in these very words."""
    wanted = with_field_ids(schema)
    return (
        existing.schema.fields == wanted.fields
        and existing.schema.structs == wanted.structs
        and existing.schema.functions == wanted.functions
        and existing.schema.description == wanted.description
        and existing.schema.enable_dynamic_field == wanted.enable_dynamic_field
        and len(existing.vchannels) == shards
        and (partitions == 0 or len(existing.partitions) == partitions)
        and existing.consistency_level == consistency_level
        and existing.properties == properties
    )
