"""What a field of a schema may look like, for the types that are served.

Nulls and default values are the coordinator's to judge.
"""

import math

from elanus.access.ddl import names
from elanus.config.settings import ProxySettings
from elanus.errors import InvalidParameter, Rejected, Unimplemented
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType

MIN_DIMENSION = 2
MAX_CAPACITY = 4_096

_SCALARS = (
    DataType.BOOL,
    DataType.INT8,
    DataType.INT16,
    DataType.INT32,
    DataType.INT64,
    DataType.FLOAT,
    DataType.DOUBLE,
    DataType.VARCHAR,
)
_VECTORS = (
    DataType.FLOAT_VECTOR,
    DataType.FLOAT16_VECTOR,
    DataType.BFLOAT16_VECTOR,
    DataType.INT8_VECTOR,
    DataType.BINARY_VECTOR,
    DataType.SPARSE_FLOAT_VECTOR,
)
SERVED_TYPES = frozenset(
    {
        *_SCALARS,
        DataType.ARRAY,
        DataType.ARRAY_OF_VECTOR,
        DataType.JSON,
        DataType.GEOMETRY,
        DataType.TIMESTAMPTZ,
        *_VECTORS,
    }
)
ELEMENT_TYPES = frozenset(_SCALARS)


def check_field(field: FieldSchema, collection: str, limits: ProxySettings) -> None:
    """Raises what Milvus says of a field that can't be: InvalidFieldName, Rejected,
    InvalidParameter; Unimplemented for a type that is not served yet."""
    names.field_name(field.local_name, limits.max_name_length)
    _check_type(field)
    if field.data_type.is_vector:
        is_list = field.data_type is DataType.ARRAY_OF_VECTOR
        _check_dimension(field.of_elements if is_list else field, limits.max_dimension)
    if DataType.VARCHAR in (field.data_type, field.element_type):
        _check_max_length(field, collection, limits.max_var_char_length)
    if field.data_type in (DataType.ARRAY, DataType.ARRAY_OF_VECTOR):
        _check_max_capacity(field, collection)
    _check_default(field)


def _check_type(field: FieldSchema) -> None:
    data_type = field.data_type
    if data_type is DataType.STRING:
        raise Rejected(
            "string data type not supported yet, please use VarChar type instead, "
            f"field name = {field.name}"
        )
    if data_type is DataType.NONE:
        raise Rejected(f"data type 0 is not valid, field name = {field.name}")
    if data_type not in SERVED_TYPES:
        raise Unimplemented(
            f"data type {data_type.milvus_name} of field {field.name} is not supported yet"
        )
    if data_type is DataType.ARRAY_OF_VECTOR and not field.struct:
        raise InvalidParameter(
            f"array of vector can only be in the struct array field, field name: {field.name}"
        )
    if data_type is not DataType.ARRAY:
        return
    if field.element_type is DataType.NONE:
        raise Rejected(f"element data type None is not valid, field name = {field.name}")
    if field.element_type not in ELEMENT_TYPES:
        raise Rejected(
            f"element type {field.element_type.milvus_name} is not supported, "
            f"field name = {field.name}"
        )


def _check_dimension(field: FieldSchema, maximum: int) -> None:
    """``maximum``: of numbers; a binary vector may have eight times as many bits."""
    if field.data_type is DataType.SPARSE_FLOAT_VECTOR:
        if "dim" in field.type_params:
            raise Rejected(
                f"dim should not be specified for sparse vector field {field.name}"
                f"({field.field_id})"
            )
        return
    text = field.type_params.get("dim")
    if text is None:
        raise Rejected(
            f"dimension is not defined in field type params of field {field.name}, "
            "check type param `dim` for vector field"
        )
    dim = _integer(text, "dim", field.name)
    if dim < MIN_DIMENSION:
        raise Rejected(
            f"invalid dimension: {dim}. should be in range {MIN_DIMENSION} ~ {maximum}, "
            f"field name = {field.name}"
        )
    is_binary = field.data_type is DataType.BINARY_VECTOR
    kind, maximum = ("binary", 8 * maximum) if is_binary else ("float", maximum)
    if dim > maximum:
        raise Rejected(
            f"invalid dimension: {dim} of field {field.name}. {kind} vector dimension should be "
            f"in range {MIN_DIMENSION} ~ {maximum}"
        )
    if is_binary and dim % 8:
        raise Rejected(
            f"invalid dimension: {dim} of field {field.name}. binary vector dimension should be "
            "multiple of 8. "
        )


def _check_max_length(field: FieldSchema, collection: str, maximum: int) -> None:
    """Of a VarChar, or of an Array of VarChar."""
    text = field.type_params.get("max_length")
    if text is None:
        raise Rejected(
            f"type param(max_length) should be specified for the field({field.name}) "
            f"of collection {collection}"
        )
    length = _integer(text, "max_length", field.name)
    if not 0 < length <= maximum:
        raise InvalidParameter(
            f"the maximum length specified for the field({field.name}) should be in "
            f"(0, {maximum}], but got {length} instead"
        )


def _check_max_capacity(field: FieldSchema, collection: str) -> None:
    """Of an Array or ArrayOfVector."""
    text = field.type_params.get("max_capacity")
    if text is None:
        raise Rejected(
            f"type param(max_capacity) should be specified for array field {field.name} "
            f"of collection {collection}"
        )
    capacity = _integer(text, "max_capacity", field.name)
    if not 0 < capacity <= MAX_CAPACITY:
        raise Rejected(
            f"the maximum capacity specified for a Array should be in (0, {MAX_CAPACITY}], "
            f"but got {capacity}, field name = {field.name}"
        )


def _integer(text: str, parameter: str, field: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Rejected(
            f"the value for {parameter} of field {field} must be an integer, but got {text!r}"
        ) from None


def _check_default(field: FieldSchema) -> None:
    value = field.default_value
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidParameter(
            f"value '{value}' is not a number or infinity, default_value of field {field.name}"
        )
