"""Whether a schema makes sense, checked in the order and with the texts of Milvus's proxy.

What Milvus leaves to its coordinator (nulls, default values, properties) is checked by ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from elanus.access.ddl import names
from elanus.access.ddl.fields import check_field
from elanus.access.ddl.functions import with_functions
from elanus.access.ddl.structs import check_structs
from elanus.config.settings import Settings
from elanus.engine.text.fields import check_text_fields
from elanus.errors import IllegalSchema, InvalidParameter, Rejected
from elanus.model.schema import DYNAMIC_FIELD, CollectionSchema, FieldSchema
from elanus.model.types import DataType

DEFAULT_KEY_PARTITIONS = 16
_KEY_TYPES = (DataType.INT64, DataType.VARCHAR)

dynamic_field = FieldSchema(
    name=DYNAMIC_FIELD,
    data_type=DataType.JSON,
    is_dynamic=True,
    nullable=True,
    default_value="{}",
    description="dynamic schema",
)
"""The hidden field of a collection with dynamic fields, without its id."""


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """What a user asks CreateCollection for. ``partitions`` 0 means: not said."""

    name: str
    schema: CollectionSchema
    shards: int
    partitions: int
    properties: dict[str, str]


def resolve(request: CollectionRequest, settings: Settings) -> CollectionRequest:
    """The request with trimmed name, defaults and ``$meta``. Raises the errors of the checks."""
    limits = settings.proxy
    schema = request.schema
    shards = request.shards if request.shards > 0 else 1
    if shards > limits.max_shard_num:
        raise Rejected(
            f"maximum shards's number should be limited to {limits.max_shard_num}, but got {shards}"
        )
    _check_counts(schema, limits.max_field_num, limits.max_vector_field_num)
    name = names.collection_name(request.name, limits.max_name_length)
    if schema.name.strip() != name:
        raise InvalidParameter(
            f"the schema is named {schema.name!r}, the collection {name!r}",
            expected="collection name matches schema name",
            actual="don't match",
        )
    check_structs(schema, limits)
    _check_primary(schema.fields)
    _check_flags(schema.fields)
    _check_partition_key(schema.fields)
    partitions = _partitions(request.partitions, schema, settings.root_coord.max_partition_num)
    _check_clustering_key(schema.fields)
    for field in schema.fields:
        check_field(field, name, limits)
    _check_duplicates([f.name for f in schema.fields] + [s.name for s in schema.structs])
    check_text_fields(schema.fields)
    schema = with_functions(schema)
    fields = schema.fields
    if schema.enable_dynamic_field:
        fields = (*fields, dynamic_field)  # put in its place with the ids
    return replace(
        request,
        name=name,
        schema=msgspec.structs.replace(schema, name=name, fields=fields),
        shards=shards,
        partitions=partitions,
    )


def _check_counts(schema: CollectionSchema, max_fields: int, max_vectors: int) -> None:
    if len(schema.fields) > max_fields:
        raise Rejected(
            f"maximum field's number should be limited to {max_fields}, "
            f"but got {len(schema.fields)}"
        )
    vectors = len(schema.vector_fields)
    if vectors == 0:
        raise InvalidParameter("schema does not contain vector field")
    if vectors > max_vectors:
        raise Rejected(
            f"maximum vector field's number should be limited to {max_vectors}, but got {vectors}"
        )


def _listed(fields: Sequence[FieldSchema]) -> str:
    return ", ".join(field.name for field in fields)


def _check_primary(fields: Sequence[FieldSchema]) -> None:
    primaries = [field for field in fields if field.is_primary]
    if not primaries:
        raise Rejected("primary key is not specified")
    if len(primaries) > 1:
        raise Rejected(f"there are more than one primary key, field name = {_listed(primaries)}")
    if primaries[0].data_type not in _KEY_TYPES:
        raise Rejected(
            "the data type of primary key should be Int64 or VarChar, "
            f"but field {primaries[0].name} is {primaries[0].data_type.milvus_name}"
        )


def _check_flags(fields: Sequence[FieldSchema]) -> None:
    for field in fields:
        if field.is_dynamic:
            raise Rejected(
                f"cannot explicitly set a field as a dynamic field, field name = {field.name}"
            )
        if field.auto_id and not field.is_primary:
            raise Rejected(
                f"only primary field can speficy AutoID with true, field name = {field.name}"
            )


def _check_partition_key(fields: Sequence[FieldSchema]) -> None:
    keys = [field for field in fields if field.is_partition_key]
    if len(keys) > 1:
        raise Rejected(f"there are more than one partition key, field name = {_listed(keys)}")
    for key in keys:
        if key.is_primary:
            raise Rejected(
                f"the partition key field must not be primary field, field name = {key.name}"
            )
        if key.data_type not in _KEY_TYPES:
            raise Rejected(
                "the data type of partition key should be Int64 or VarChar, "
                f"but field {key.name} is {key.data_type.milvus_name}"
            )
        if key.nullable:
            raise InvalidParameter(
                f"partition key field not support nullable, field name = {key.name}"
            )


def _partitions(asked: int, schema: CollectionSchema, maximum: int) -> int:
    if schema.partition_key is None:
        if asked > 0:
            raise Rejected(
                "num_partitions should only be specified with partition key field enabled"
            )
        return 0
    if asked < 0:
        raise Rejected(
            "the specified partitions should be greater than 0 if partition key is used, "
            f"but got {asked}"
        )
    if asked > maximum:
        raise Rejected(f"partition number ({asked}) exceeds max configuration ({maximum})")
    return asked or DEFAULT_KEY_PARTITIONS


def _check_clustering_key(fields: Sequence[FieldSchema]) -> None:
    keys = [field for field in fields if field.is_clustering_key]
    if len(keys) > 1:
        raise IllegalSchema(
            f"there are more than one clustering key, field name = {_listed(keys)}: "
            "illegal collection schema"
        )
    for key in keys:
        if key.data_type.is_vector:
            raise IllegalSchema(
                f"a vector field can't be the clustering key, field name = {key.name}"
            )


def _check_duplicates(used: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in used:
        if name in seen:
            raise Rejected(f"duplicated field name {name} found")
        seen.add(name)
