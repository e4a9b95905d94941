"""``output_fields``: which columns are meant."""

import pytest

from elanus.access.dql.output import Output, resolve_output
from elanus.errors import ElanusError
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

FIELDS = (
    FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
    FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "2"}),
    FieldSchema(name="doc", data_type=DataType.JSON),
)
META = FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True)
STATIC = CollectionSchema(name="c", fields=FIELDS)
DYNAMIC = CollectionSchema(name="c", fields=(*FIELDS, META), enable_dynamic_field=True)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ([], Output((), ())),
        ([" v ", "id"], Output(("id", "v"), ("v", "id"))),
        (["*"], Output(("id", "v", "doc", "$meta"), ("id", "v", "doc", "$meta"))),
        (["size"], Output(("$meta",), ("size",), ("size",))),
        (['$meta["size"]', "$meta['a b']"], Output(("$meta",), ("size", "a b"), ("size", "a b"))),
        (["size", "$meta"], Output(("$meta",), ("size", "$meta"))),
        (["*", "size"], Output(("id", "v", "doc", "$meta"), ("id", "v", "doc", "$meta", "size"))),
    ],
)
def test_names(requested: list[str], expected: Output) -> None:
    assert resolve_output(requested, DYNAMIC) == expected


def test_queries_add_the_primary_key() -> None:
    assert resolve_output(["v"], STATIC, with_key=True) == Output(("id", "v"), ("v", "id"))


@pytest.mark.parametrize(
    ("name", "schema", "message"),
    [
        ("size", STATIC, "field size not exist"),
        ('doc["a"]', DYNAMIC, 'parse output field name failed: doc["a"]'),
        ('$meta["a"]["b"]', DYNAMIC, "parse output field name failed: "),
        ("a b", DYNAMIC, "parse output field name failed: a b"),
        ("", DYNAMIC, "parse output field name failed: "),
    ],
)
def test_names_that_are_refused(name: str, schema: CollectionSchema, message: str) -> None:
    with pytest.raises(ElanusError) as caught:
        resolve_output([name], schema)
    assert message in caught.value.message
