"""Group-by of a search: what is asked for, checked and typed.

Rules and texts are Milvus's. A name that is no field's is a key of the dynamic field, if there is
one; ``name["a"]["b"]`` leads into a document, as ``json_path`` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from elanus.access.ddl.scalar_kinds import json_pointer
from elanus.access.dql import pairs as kv
from elanus.engine.index.scalar.base import path_of
from elanus.errors import FieldNotFound, InvalidParameter, Rejected, Unimplemented
from elanus.model.reads import Grouping
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

_GROUPED_TYPES = frozenset(
    {
        DataType.BOOL,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.VARCHAR,
        DataType.TIMESTAMPTZ,
        DataType.JSON,
    }
)
_CAST_TYPES = _GROUPED_TYPES - {DataType.JSON, DataType.TIMESTAMPTZ}
_TYPES_BY_NAME = {data_type.milvus_name: data_type for data_type in DataType}
_NATIVE_NAMES = {
    DataType.BINARY_VECTOR: "VECTOR_BINARY",
    DataType.FLOAT_VECTOR: "VECTOR_FLOAT",
    DataType.FLOAT16_VECTOR: "VECTOR_FLOAT16",
    DataType.BFLOAT16_VECTOR: "VECTOR_BFLOAT16",
    DataType.SPARSE_FLOAT_VECTOR: "VECTOR_SPARSE_U32_F32",
    DataType.INT8_VECTOR: "VECTOR_INT8",
}
"""What Milvus's messages call the types that they print in another way than elsewhere."""


@dataclass(frozen=True, slots=True)
class GroupBy:
    """As a request asks for it. ``json_path`` and ``json_type`` are empty if it names none."""

    field_name: str
    size: int = 1
    is_strict: bool = False
    json_path: str = ""
    json_type: str = ""
    strict_cast: bool = False


@dataclass(frozen=True, slots=True)
class GroupField:
    """grouping: for the query. output: the field as which the values are sent."""

    grouping: Grouping
    output: FieldSchema
    is_strict: bool

    @property
    def has_second_round(self) -> bool:
        return self.is_strict and self.grouping.size > 1


def parse_group_by(given: Mapping[str, str], max_size: int) -> GroupBy | None:
    """``given``: parameters of a search or of a ranking; None if they ask for no groups. Raises
    InvalidParameter, Rejected or Unimplemented."""
    name = given.get("group_by_field", "").strip()
    if not name:
        names = [each.strip() for each in given.get("group_by_fields", "").split(",")]
        names = list(filter(None, names))
        if len(names) > 1:
            raise Unimplemented("several group_by_fields are not supported yet")
        name = names[0] if names else ""
    size = _group_size(given.get("group_size"), max_size)
    is_strict = kv.read_flag(given, "strict_group_size")
    if not name:
        return None
    return GroupBy(
        field_name=name,
        size=size,
        is_strict=is_strict,
        json_path=given.get("json_path", ""),
        json_type=given.get("json_type", ""),
        strict_cast=kv.read_flag(given, "strict_cast"),
    )


def resolve_group_by(group_by: GroupBy, schema: CollectionSchema) -> GroupField:
    """Raises FieldNotFound, InvalidParameter or Rejected."""
    field, path = _field_and_path(group_by, schema)
    if field.data_type not in _GROUPED_TYPES:
        name = _NATIVE_NAMES.get(field.data_type, field.data_type.milvus_name.upper())
        raise Rejected(f"unsupported data type {name} for group by operator")
    cast = _cast_type(group_by) if field.data_type is DataType.JSON else None
    output = field
    if field.data_type is DataType.JSON:
        output = FieldSchema(
            name=field.name,
            field_id=field.field_id,
            data_type=cast or DataType.VARCHAR,
            nullable=True,
        )
    grouping = Grouping(
        field_name=field.name,
        size=group_by.size,
        path=path,
        cast=cast,
        strict_cast=group_by.strict_cast,
    )
    return GroupField(grouping, output, group_by.is_strict)


def check_groupable(searched: FieldSchema, *, is_iterator: bool, is_range: bool) -> None:
    """Whether hits of this search of a vector field can be grouped. Raises InvalidParameter or
    Rejected."""
    if is_iterator:
        raise InvalidParameter(
            "Not allowed to do groupBy when doing iteration", expected="", actual=""
        )
    if is_range:
        raise InvalidParameter(
            "Not allowed to do range-search when doing search-group-by", expected="", actual=""
        )
    if searched.data_type is DataType.ARRAY_OF_VECTOR:
        raise InvalidParameter(
            "group by is not supported for vector array (embedding list) fields, "
            f"fieldName: {searched.name}"
        )
    if searched.data_type is DataType.BINARY_VECTOR:
        raise Rejected("not support search_group_by operation based on binary vector column")


def _group_size(text: str | None, max_size: int) -> int:
    if text is None:
        return 1
    try:
        size = int(text)
    except ValueError as error:
        raise InvalidParameter(f"failed to parse input group size:{text}") from error
    if size <= 0:
        raise InvalidParameter(f"input group size:{size} is negative, failed to do search_groupby")
    if size > max_size:
        raise InvalidParameter(
            f"input group size:{size} exceeds configured max group size:{max_size}"
        )
    return size


def _field_and_path(
    group_by: GroupBy, schema: CollectionSchema
) -> tuple[FieldSchema, tuple[str, ...]]:
    """The field, and the subscripts that lead to the value in a document."""
    name = group_by.field_name
    has_subscripts = "[" in name and "]" in name
    field = schema.by_name.get(name.split("[")[0] if has_subscripts else name)
    key: tuple[str, ...] = ()
    if field is None:
        field = next((each for each in schema.fields if each.is_dynamic), None)
        if field is None:
            raise FieldNotFound("groupBy field not found in schema", name)
        key = () if has_subscripts else (name,)
    if group_by.json_path and field.data_type is not DataType.JSON:
        raise InvalidParameter(f"json_path is for a JSON field, and {field.name} is none")
    if group_by.json_path:
        return field, path_of(json_pointer(field, group_by.json_path))
    if has_subscripts and field.data_type is DataType.JSON:
        return field, path_of(json_pointer(field, name))
    return field, key


def _cast_type(group_by: GroupBy) -> DataType | None:
    """The type that values of documents are read as; a name that is no type's counts as none."""
    cast = _TYPES_BY_NAME.get(group_by.json_type)
    if cast is not None and cast not in _CAST_TYPES:
        raise Rejected(f"unsupported json_type {cast.milvus_name.upper()} for JSON group by")
    return cast
