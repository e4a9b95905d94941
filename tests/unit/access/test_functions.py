"""Functions of a schema that can't be, each with its cause."""

import msgspec
import pytest

from elanus.access.ddl.functions import with_functions
from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema, FunctionSchema
from elanus.model.types import DataType, FunctionType

FIELDS = (
    FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
    FieldSchema(name="text", data_type=DataType.VARCHAR, type_params={"enable_analyzer": "true"}),
    FieldSchema(name="plain", data_type=DataType.VARCHAR),
    FieldSchema(name="terms", data_type=DataType.SPARSE_FLOAT_VECTOR),
    FieldSchema(name="maybe", data_type=DataType.SPARSE_FLOAT_VECTOR, nullable=True),
    FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "4"}),
)
GOOD = FunctionSchema(
    name="f", type=FunctionType.BM25, input_fields=("text",), output_fields=("terms",)
)


def changed(**values: object) -> FunctionSchema:
    return msgspec.structs.replace(GOOD, **values)


def test_outputs_are_marked() -> None:
    schema = with_functions(CollectionSchema(name="c", fields=FIELDS, functions=(GOOD,)))
    assert [field.name for field in schema.fields if field.is_function_output] == ["terms"]
    assert schema.text_of["terms"].name == "text"


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((changed(name=""),), "function name cannot be empty"),
        ((GOOD, GOOD), "duplicate function name: f"),
        ((changed(input_fields=("x",)),), "function input field not found: x"),
        ((changed(output_fields=("x",)),), "function output field not found: x"),
        ((changed(output_fields=("text",)),), "both input and output in the same function"),
        ((GOOD, changed(name="g")), "duplicate function output field"),
        ((changed(output_fields=("id",)),), "function output field cannot be primary key"),
        ((changed(output_fields=("maybe",)),), "function output field cannot be nullable"),
        ((changed(input_fields=("id",)),), "must be a VARCHAR/TEXT field, got 1 field with type"),
        ((changed(input_fields=("plain",)),), "must set enable_analyzer to true"),
        ((changed(output_fields=()),), "only need 1 output field, but got 0"),
        ((changed(output_fields=("vector",)),), "must be a SparseFloatVector field"),
    ],
)
def test_wrong_functions(functions: tuple[FunctionSchema, ...], message: str) -> None:
    with pytest.raises(InvalidParameter) as raised:
        with_functions(CollectionSchema(name="c", fields=FIELDS, functions=functions))
    assert message in raised.value.message
