"""What an array of structs in a schema may look like, with Milvus's texts."""

from elanus.access.ddl import names
from elanus.config.settings import ProxySettings
from elanus.errors import InvalidParameter, Rejected
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES

_PART_TYPES = (DataType.ARRAY, DataType.ARRAY_OF_VECTOR)


def check_structs(schema: CollectionSchema, limits: ProxySettings) -> None:
    """Raises InvalidFieldName, InvalidParameter and Rejected. The fields' own types and sizes are
    for ``check_field``."""
    for struct in schema.structs:
        names.field_name(struct.name, limits.max_name_length)
        parts = schema.parts_of[struct.name]
        if not parts:
            raise InvalidParameter(f"struct array field {struct.name} has no sub-fields")
        for part in parts:
            _check_part(part, nullable=struct.nullable)
        _check_capacities(struct.name, parts)


def _check_part(part: FieldSchema, *, nullable: bool) -> None:
    name = part.local_name
    if part.data_type not in _PART_TYPES:
        raise InvalidParameter(
            "fields in StructArrayField can only be array or array of struct, "
            f"but field {name} is {part.data_type.milvus_name}"
        )
    if part.data_type is DataType.ARRAY_OF_VECTOR and part.element_type not in ELEMENT_DTYPES:
        raise InvalidParameter(
            f"Unsupported element type {part.element_type.milvus_name} of ArrayOfVector field "
            f"{name}, only fixed dimension vector types are supported"
        )
    for kind, found in (
        ("primary key", part.is_primary),
        ("partition key", part.is_partition_key),
        ("clustering key", part.is_clustering_key),
        ("dynamic field", part.is_dynamic),
        ("autoID", part.auto_id),
    ):
        if found:
            raise Rejected(f"{kind} is not supported for struct field, field name = {name}")
    if part.nullable and not nullable:
        raise InvalidParameter(
            "sub-field in non-nullable struct cannot be nullable individually, set nullable on "
            f"the struct instead: structName={part.struct}, subFieldName={name}"
        )


def _check_capacities(struct: str, parts: tuple[FieldSchema, ...]) -> None:
    expected = parts[0].type_params.get("max_capacity")
    for part in parts:
        found = part.type_params.get("max_capacity")
        if found != expected:
            raise InvalidParameter(
                "all sub-fields in struct array field must have the same max_capacity: "
                f"structName={struct}, subFieldName={part.local_name}, max_capacity={found}, "
                f"expected={expected}"
            )
