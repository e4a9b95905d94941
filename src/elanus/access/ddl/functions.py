"""Whether the functions of a schema make sense, with Milvus's texts."""

from collections.abc import Mapping

import msgspec

from elanus.engine.text.fields import has_analyzer
from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema, FunctionSchema
from elanus.model.types import DataType


def with_functions(schema: CollectionSchema) -> CollectionSchema:
    """The schema with ids for its functions and its fields marked that are their output. Raises
    InvalidParameter for functions that can't be."""
    if not schema.functions:
        return schema
    fields = {field.name: field for field in schema.fields}
    names: set[str] = set()
    outputs: set[str] = set()
    for function in schema.functions:
        if not function.name:
            raise InvalidParameter("function name cannot be empty")
        if function.name in names:
            raise InvalidParameter(f"duplicate function name: {function.name}")
        names.add(function.name)
        _check_fields(function, fields, outputs)
        _check_bm25(function, fields)
    return msgspec.structs.replace(
        schema,
        fields=tuple(
            msgspec.structs.replace(field, is_function_output=field.name in outputs)
            for field in schema.fields
        ),
        functions=tuple(
            msgspec.structs.replace(function, function_id=number)
            for number, function in enumerate(schema.functions, 100)
        ),
    )


def _check_fields(
    function: FunctionSchema, fields: Mapping[str, FieldSchema], outputs: set[str]
) -> None:
    """``outputs``: of the functions before; this one's are added."""
    for name in function.input_fields:
        if name not in fields:
            raise InvalidParameter(f"function input field not found: {name}")
    for name in function.output_fields:
        if name not in fields:
            raise InvalidParameter(f"function output field not found: {name}")
        field = fields[name]
        at = f"function {function.name}, field {name}"
        if name in function.input_fields:
            raise InvalidParameter(
                f"a single field cannot be both input and output in the same function, {at}"
            )
        if name in outputs:
            raise InvalidParameter(f"duplicate function output field: {at}")
        if field.is_primary:
            raise InvalidParameter(f"function output field cannot be primary key: {at}")
        if field.is_partition_key or field.is_clustering_key:
            raise InvalidParameter(
                f"function output field cannot be partition key or clustering key: {at}"
            )
        if field.nullable:
            raise InvalidParameter(f"function output field cannot be nullable: {at}")
        outputs.add(name)


def _check_bm25(function: FunctionSchema, fields: Mapping[str, FieldSchema]) -> None:
    inputs = [fields[name] for name in function.input_fields]
    if len(inputs) != 1 or inputs[0].data_type is not DataType.VARCHAR:
        kinds = ", ".join(field.data_type.milvus_name for field in inputs)
        raise InvalidParameter(
            "BM25 function input field must be a VARCHAR/TEXT field, "
            f"got {len(inputs)} field with type {kinds}"
        )
    if not has_analyzer(inputs[0]):
        raise InvalidParameter("BM25 function input field must set enable_analyzer to true")
    outputs = [fields[name] for name in function.output_fields]
    if len(outputs) != 1:
        raise InvalidParameter(f"BM25 function only need 1 output field, but got {len(outputs)}")
    if outputs[0].data_type is not DataType.SPARSE_FLOAT_VECTOR:
        raise InvalidParameter(
            "BM25 function output field must be a SparseFloatVector field, "
            f"but got {outputs[0].data_type.milvus_name}"
        )
