"""Rows in JSON to columns, through the core's own checks, and back."""

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.access.rest.results import query_rows
from elanus.errors import InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType
from elanus.rows.build import build_rows, by_field
from elanus.rows.objects import WriteMode, field_messages
from elanus.rows.unfit import InsertDataError
from elanus.wire.columns import decode_column
from elanus.wire.results import field_messages as encode_rows

SCALARS = {
    "bool": DataType.BOOL,
    "int8": DataType.INT8,
    "int16": DataType.INT16,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
    "float": DataType.FLOAT,
    "double": DataType.DOUBLE,
    "text": DataType.VARCHAR,
}
PARAMS = {"dim": "3", "max_length": "200", "max_capacity": "8"}


def make_field(name: str, data_type: DataType, **options: Any) -> FieldSchema:
    return FieldSchema(name=name, data_type=data_type, type_params=PARAMS, **options)


PRIMARY = make_field("id", DataType.INT64, is_primary=True)
VECTOR = make_field("vector", DataType.FLOAT_VECTOR)
META = make_field("$meta", DataType.JSON, is_dynamic=True)
EVERYTHING = CollectionSchema(
    name="everything",
    enable_dynamic_field=True,
    fields=(
        PRIMARY,
        VECTOR,
        *(make_field(name, kind, nullable=True) for name, kind in SCALARS.items()),
        *(
            make_field(f"{name}s", DataType.ARRAY, element_type=kind, nullable=True)
            for name, kind in SCALARS.items()
        ),
        make_field("json", DataType.JSON, nullable=True),
        make_field("level", DataType.INT32, default_value=7),
        META,
    ),
)


def schema_of(*fields: FieldSchema, dynamic: bool = False) -> CollectionSchema:
    fields = (PRIMARY, VECTOR, *fields, *((META,) if dynamic else ()))
    return CollectionSchema(name="c", fields=fields, enable_dynamic_field=dynamic)


def row(**values: Any) -> dict[str, Any]:
    return {"id": 1, "vector": [1, 2, 3], **values}


def convert(rows: list[Any], schema: CollectionSchema, mode: WriteMode | None = None) -> list[Any]:
    return field_messages(rows, schema, {}, mode or WriteMode())


def stored(rows: list[Any], schema: CollectionSchema) -> Any:
    """The complete rows that the core makes of ``rows``."""
    columns = [decode_column(message) for message in convert(rows, schema)]
    return build_rows(by_field(columns, schema), schema, len(rows), json_max_length=65_536)


def answered(rows: list[Any], schema: CollectionSchema) -> list[Any]:
    """What a query answers, as JSON text and back, for rows that were inserted."""
    messages = encode_rows(schema, stored(rows, schema), list(schema.by_name))
    found = query_rows(messages, int64_as_text=False)
    parsed: list[Any] = orjson.loads(orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY))
    return parsed


def integers(bits: int) -> Any:
    return st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


FLOATS32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: dict[str, Any] = {
    "bool": st.booleans(),
    "int8": integers(8),
    "int16": integers(16),
    "int32": integers(32),
    "int64": integers(64),
    "float": FLOATS32,
    "double": FLOATS,
    "text": TEXTS,
}
WRAPPERS = {
    "bool": "BoolData", "int8": "IntData", "int16": "IntData", "int32": "IntData",
    "int64": "LongData", "float": "FloatData", "double": "DoubleData", "text": "StringData",
}  # fmt: skip
JSON = st.recursive(
    st.one_of(st.booleans(), integers(64), FLOATS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=5,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"id": integers(64), "vector": st.lists(FLOATS32, min_size=3, max_size=3)},
        optional={
            **{name: st.none() | value for name, value in VALUES.items()},
            **{
                f"{name}s": st.none() | st.lists(value, max_size=4)
                for name, value in VALUES.items()
            },
            "json": st.none() | JSON.filter(lambda value: not isinstance(value, str)),
            "level": st.none() | integers(32),
            "extra": JSON,
            "other extra": JSON,
        },
    ),
    min_size=1,
    max_size=5,
)


@given(ROWS)
def test_every_row_comes_back_as_it_went_in(rows: list[dict[str, Any]]) -> None:
    for sent, got in zip(rows, answered(rows, EVERYTHING), strict=True):
        expected: dict[str, Any] = {"id": sent["id"]}
        for name in VALUES:
            expected[name] = sent.get(name)
            elements = sent.get(f"{name}s")
            wrapped = {"Data": {WRAPPERS[name]: {"data": elements}}}
            expected[f"{name}s"] = None if elements is None else wrapped
        expected["level"] = 7 if sent.get("level") is None else sent["level"]
        expected.update({key: sent[key] for key in ("extra", "other extra") if key in sent})
        json = got.pop("json")
        assert (None if json is None else orjson.loads(json)) == sent.get("json")
        for name in ("float", "floats", "vector"):  # equal as float32
            compare(got.pop(name), sent["vector"] if name == "vector" else expected.pop(name))
        assert got == expected


def compare(got: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        got, wanted = got["Data"]["FloatData"]["data"], wanted["Data"]["FloatData"]["data"]
    if wanted is None:
        assert got is None
    else:
        np.testing.assert_array_equal(np.float32(got), np.float32(wanted))


def test_float32_values_are_printed_with_their_own_digits() -> None:
    schema = schema_of(make_field("float", DataType.FLOAT))
    messages = encode_rows(
        schema, stored([row(float=0.1, vector=[0.1, 0.2, 1e-7])], schema), ["float", "vector"]
    )
    rows = query_rows(messages, int64_as_text=False)
    text = orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
    assert text == b'[{"float":0.1,"vector":[0.1,0.2,1e-7]}]'


def test_int64_can_be_answered_as_text() -> None:
    schema = schema_of(make_field("small", DataType.INT32))
    messages = encode_rows(schema, stored([row(id=1 << 60, small=3)], schema), ["id", "small"])
    assert query_rows(messages, int64_as_text=True) == [{"id": str(1 << 60), "small": 3}]


@pytest.mark.parametrize(
    ("data_type", "given", "kept"),
    [
        (DataType.INT64, "9223372036854775807", 9223372036854775807),
        (DataType.INT8, "-128", -128),
        (DataType.INT32, 3.0, 3),
        (DataType.DOUBLE, "0.25", 0.25),
        (DataType.DOUBLE, 3, 3.0),
        (DataType.FLOAT, "1e3", 1000.0),
        (DataType.BOOL, "true", True),
        (DataType.BOOL, 0, False),
        (DataType.VARCHAR, 5, "5"),
        (DataType.VARCHAR, True, "true"),
        (DataType.VARCHAR, [1], "[1]"),
        (DataType.JSON, '{"a": 1}', '{"a": 1}'),
        (DataType.JSON, "no json", '"no json"'),
    ],
)
def test_scalars_are_cast(data_type: DataType, given: Any, kept: Any) -> None:
    [found] = answered([row(field=given)], schema_of(make_field("field", data_type)))
    assert found["field"] == kept


@pytest.mark.parametrize(
    ("data_type", "given"),
    [
        (DataType.INT64, "x"),
        (DataType.INT64, 1.5),
        (DataType.INT64, True),
        (DataType.INT64, 1 << 63),
        (DataType.INT8, 128),
        (DataType.INT16, -(1 << 15) - 1),
        (DataType.DOUBLE, "one"),
        (DataType.DOUBLE, [1.0]),
        (DataType.FLOAT, True),
        (DataType.BOOL, "maybe"),
        (DataType.FLOAT_VECTOR, "text"),
        (DataType.FLOAT_VECTOR, [1, "2", 3]),
        (DataType.FLOAT_VECTOR, [1, True, 3]),
        (DataType.FLOAT_VECTOR, [1, None, 3]),
        (DataType.FLOAT_VECTOR, [1, 2]),
    ],
)
def test_a_wrong_value_is_named_with_its_row(data_type: DataType, given: Any) -> None:
    good: Any = [1, 2, 3] if data_type.is_vector else 1
    rows = [row(field=good), row(field=good), row(field=given)]
    with pytest.raises(
        InsertDataError, match="row 2 has a wrong value for the field fiel"
    ) as caught:
        convert(rows, schema_of(make_field("field", data_type)))
    assert caught.value.code == 1804
    assert caught.value.message.startswith("fail to deal the insert data, error: ")


def test_the_row_is_right_behind_nulls() -> None:
    schema = schema_of(make_field("n", DataType.INT8, nullable=True))
    with pytest.raises(InsertDataError, match="row 3 has"):
        convert([row(), row(n=1), row(n=None), row(n="x")], schema)


def test_the_row_of_a_wrong_array_element_is_named() -> None:
    schema = schema_of(make_field("n", DataType.ARRAY, element_type=DataType.INT8))
    with pytest.raises(InsertDataError, match=r"row 2 .*\[expected=Array of Int8\]"):
        convert([row(n=[1, 2]), row(n=[]), row(n=["x", 3]), row(n=[4])], schema)


@pytest.mark.parametrize(
    ("rows", "dynamic", "text"),
    [
        ([{"id": 1}], False, "missing vector field: vector"),
        ([row(), {"id": 2, "vector": None}], False, "missing vector field: vector"),
        ([row(x=1)], False, "has pass more field without dynamic schema, please check it"),
        ([row(**{"$meta": {}})], True, r"use the invalid field name\(\$meta\) when enable dynamic"),
        ([{"vector": [1, 2, 3]}], False, "row 0 has no value for the field id"),
    ],
)
def test_rows_that_do_not_fit_the_schema(rows: list[Any], dynamic: bool, text: str) -> None:
    with pytest.raises(InsertDataError, match=text):
        convert(rows, schema_of(dynamic=dynamic))


def test_a_dimension_is_for_the_core_to_refuse() -> None:
    with pytest.raises(InvalidParameter, match=r"the dim \(2\) of field data\(vector\)"):
        stored([row(vector=[1, 2])], schema_of())


def test_infinity_is_for_the_core_to_refuse() -> None:
    with pytest.raises(InvalidParameter, match=r"value '\+Inf' is not a number"):
        stored([row(vector=[1, 2, 1e300])], schema_of())
    with pytest.raises(InvalidParameter, match="value 'NaN' is not a number"):
        stored([row(x=math.nan, y="nan")], schema_of(make_field("y", DataType.FLOAT), dynamic=True))


AUTO = CollectionSchema(
    name="auto",
    fields=(make_field("id", DataType.INT64, is_primary=True, auto_id=True), VECTOR),
)


def test_generated_keys_are_not_sent() -> None:
    [vector] = convert([{"vector": [1, 2, 3]}], AUTO)
    assert vector.field_name == "vector"


def test_keys_that_are_generated_must_not_be_given_unless_allowed() -> None:
    with pytest.raises(InsertDataError, match="can not assign primary field data when auto id"):
        convert([row()], AUTO)
    allowed = field_messages([row()], AUTO, {"allow_insert_auto_id": "true"}, WriteMode())
    assert [message.field_name for message in allowed] == ["id", "vector"]
    upsert = field_messages([row()], AUTO, {}, WriteMode(upsert=True))
    assert [message.field_name for message in upsert] == ["id", "vector"]


PARTIAL = WriteMode(upsert=True, partial=True)


def test_a_partial_update_sends_only_what_is_given() -> None:
    nullable = make_field("n", DataType.INT8, nullable=True)
    [key] = convert([{"id": 1}, {"id": 2}], schema_of(nullable), PARTIAL)
    assert key.field_name == "id"
    _, nulls = convert([{"id": 1, "n": None}, {"id": 2, "n": None}], schema_of(nullable), PARTIAL)
    column = decode_column(nulls)
    assert (column.valid.tolist(), column.count) == ([False, False], 0)


def test_a_partial_update_needs_the_same_fields_in_every_row() -> None:
    nullable = make_field("n", DataType.INT8, nullable=True)
    with pytest.raises(InsertDataError, match="same fields in every row, but some have no n"):
        convert([{"id": 1, "n": 1}, {"id": 2}], schema_of(nullable), PARTIAL)
