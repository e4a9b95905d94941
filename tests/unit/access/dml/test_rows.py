"""Columns become complete rows, or a message that says what is wrong with them."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.errors import ElanusError, InvalidParameter
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType
from elanus.rows.build import (
    build_rows,
    by_field,
    check_num_rows,
    generated_keys,
    generates_keys,
)
from elanus.wire.columns import WireColumn

DIM = 2
JSON_MAX_LENGTH = 64
HOLDERS: dict[DataType, tuple[str, Any]] = {
    DataType.BOOL: ("bool_data", np.bool_),
    DataType.INT8: ("int_data", np.int32),
    DataType.INT16: ("int_data", np.int32),
    DataType.INT32: ("int_data", np.int32),
    DataType.INT64: ("long_data", np.int64),
    DataType.FLOAT: ("float_data", np.float32),
    DataType.DOUBLE: ("double_data", np.float64),
}


def field(name: str, data_type: DataType, **options: Any) -> FieldSchema:
    params = {"dim": str(DIM), "max_length": "8", "max_capacity": "3"}
    return FieldSchema(name=name, data_type=data_type, type_params=params, **options)


def schema(*fields: FieldSchema, key: DataType = DataType.INT64, auto_id: bool = False) -> Any:
    primary = field("id", key, is_primary=True, auto_id=auto_id)
    dynamic = any(each.is_dynamic for each in fields)
    return CollectionSchema(name="c", fields=(primary, *fields), enable_dynamic_field=dynamic)


def column(
    name: str, data_type: DataType, values: list[Any], valid: list[bool] | None = None
) -> WireColumn:
    """A column as a client sends it: ``values`` are the valid ones only."""
    mask = None if valid is None else np.array(valid, np.bool_)
    if data_type in HOLDERS:
        holder, dtype = HOLDERS[data_type]
        return WireColumn(name, data_type, holder, np.array(values, dtype), mask)
    if data_type is DataType.VARCHAR:
        return WireColumn(name, data_type, "string_data", pa.array(values, pa.string()), mask)
    if data_type is DataType.JSON:
        return WireColumn(name, data_type, "json_data", pa.array(values, pa.binary()), mask)
    if data_type is DataType.ARRAY:
        rows = pa.array(values, pa.list_(pa.int32()))
        holder = "int_data" if any(values) else ""
        return WireColumn(name, data_type, "array_data", rows, mask, element_holder=holder)
    vectors = np.array(values, np.float32).reshape(len(values), -1)
    return WireColumn(name, data_type, "float_vector", vectors, mask, dim=DIM)


def dynamic(values: list[bytes]) -> WireColumn:
    array = pa.array(values, pa.binary())
    return WireColumn("", DataType.JSON, "json_data", array, is_dynamic=True)


def build(collection: CollectionSchema, columns: list[WireColumn], num_rows: int) -> Any:
    return build_rows(
        by_field(columns, collection), collection, num_rows, json_max_length=JSON_MAX_LENGTH
    )


# --- against a row-by-row reference ---------------------------------------------------------------

VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.BOOL: st.booleans(),
    DataType.INT8: st.integers(-140, 140),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.FLOAT: st.floats(width=32),
    DataType.DOUBLE: st.floats(),
    DataType.VARCHAR: st.text(max_size=6),
    DataType.JSON: st.sampled_from([b"1", b'{"a":1}', b"[]", b"{", b"", b'"' + b"x" * 70 + b'"']),
    DataType.ARRAY: st.lists(st.integers(-5, 5), max_size=4),
    DataType.FLOAT_VECTOR: st.lists(st.floats(width=32), min_size=DIM, max_size=DIM),
}
DEFAULTS = {DataType.BOOL: True, DataType.INT32: 7, DataType.VARCHAR: "d", DataType.DOUBLE: 0.5}


def is_good(data_type: DataType, value: Any) -> bool:
    if data_type is DataType.INT8:
        return -128 <= value <= 127
    if data_type in (DataType.FLOAT, DataType.DOUBLE):
        return bool(np.isfinite(value))
    if data_type is DataType.VARCHAR:
        return len(value.encode()) <= 8
    if data_type is DataType.ARRAY:
        return len(value) <= 3
    if data_type is DataType.FLOAT_VECTOR:
        return bool(np.isfinite(value).all())
    if data_type is DataType.JSON:
        try:
            json.loads(value)
        except ValueError:
            return False
        return len(value) <= JSON_MAX_LENGTH
    return True


@given(st.data())
def test_a_column_equals_the_row_by_row_reference(data: st.DataObject) -> None:
    data_type = data.draw(st.sampled_from(sorted(VALUES)))
    nullable = data_type is not DataType.FLOAT_VECTOR and data.draw(st.booleans())
    default = DEFAULTS.get(data_type) if data.draw(st.booleans()) else None
    num_rows = data.draw(st.integers(1, 6))
    takes_nulls = nullable or default is not None
    valid = [not takes_nulls or data.draw(st.booleans()) for _ in range(num_rows)]
    values = [data.draw(VALUES[data_type]) for ok in valid if ok]
    options = {"element_type": DataType.INT32} if data_type is DataType.ARRAY else {}
    collection = schema(field("x", data_type, nullable=nullable, default_value=default, **options))
    columns = [
        column("x", data_type, values, valid if takes_nulls else None),
        column("id", DataType.INT64, list(range(num_rows))),
    ]
    if not all(is_good(data_type, value) for value in values):
        with pytest.raises(InvalidParameter):
            build(collection, columns, num_rows)
        return
    rows = build(collection, columns, num_rows)
    left = iter(values)
    expected = [next(left) if ok else default for ok in valid]
    assert rows.schema == collection.arrow
    assert rows.column("x").to_pylist() == expected
    assert rows.column("id").to_pylist() == list(range(num_rows))


# --- what is filled in ----------------------------------------------------------------------------


def test_absent_columns_are_filled_with_default_null_or_an_empty_object() -> None:
    collection = schema(
        field("d", DataType.INT32, default_value=7),
        field("n", DataType.VARCHAR, nullable=True),
        field("both", DataType.DOUBLE, nullable=True, default_value=0.5),
        field("$meta", DataType.JSON, is_dynamic=True),
    )
    rows = build(collection, [column("id", DataType.INT64, [1, 2])], 2)
    assert rows.to_pylist() == [
        {"id": key, "d": 7, "n": None, "both": 0.5, "$meta": b"{}"} for key in (1, 2)
    ]


def test_a_column_of_nulls_alone_needs_no_values() -> None:
    collection = schema(field("n", DataType.VARCHAR, nullable=True))
    nothing = WireColumn("n", DataType.VARCHAR, "", None, np.array([False, False]))
    rows = build(collection, [column("id", DataType.INT64, [1, 2]), nothing], 2)
    assert rows.column("n").to_pylist() == [None, None]


def test_vectors_are_not_copied() -> None:
    collection = schema(field("v", DataType.FLOAT_VECTOR))
    sent = column("v", DataType.FLOAT_VECTOR, [[1, 2], [3, 4]])
    rows = build(collection, [sent, column("id", DataType.INT64, [1, 2])], 2)
    kept = rows.column("v").flatten().to_numpy()
    assert np.shares_memory(kept, sent.values)


def test_generated_keys_are_consecutive_and_text_for_a_varchar_key() -> None:
    assert generated_keys(field("id", DataType.INT64), 10, 3).to_pylist() == [10, 11, 12]
    assert generated_keys(field("id", DataType.VARCHAR), 9, 2).to_pylist() == ["9", "10"]


@pytest.mark.parametrize(
    ("auto_id", "given_too", "properties", "expected"),
    [
        (False, True, {}, False),
        (True, False, {}, True),
        (True, True, {"allow_insert_auto_id": "True"}, False),
    ],
)
def test_who_makes_the_keys(
    auto_id: bool, given_too: bool, properties: dict[str, str], expected: bool
) -> None:
    columns = {"id": column("id", DataType.INT64, [1])} if given_too else {}
    assert generates_keys(schema(auto_id=auto_id), columns, properties) is expected


def test_keys_that_the_server_makes_are_refused() -> None:
    columns = {"id": column("id", DataType.INT64, [1])}
    with pytest.raises(InvalidParameter, match="can not assign primary field data when auto id"):
        generates_keys(schema(auto_id=True), columns, {})


# --- what is refused ------------------------------------------------------------------------------

KEYS = column("id", DataType.INT64, [1, 2])
STATIC = schema(
    field("v", DataType.FLOAT_VECTOR),
    field("n", DataType.INT32, nullable=True),
    field("w", DataType.VARCHAR, nullable=True),
    field("tiny", DataType.INT8, nullable=True),
    field("f", DataType.FLOAT, nullable=True),
    field("j", DataType.JSON, nullable=True),
    field("a", DataType.ARRAY, nullable=True, element_type=DataType.INT8),
    field("$meta", DataType.JSON, is_dynamic=True),
)
VECTORS = column("v", DataType.FLOAT_VECTOR, [[1, 2], [3, 4]])
BAD: list[tuple[list[WireColumn], str]] = [
    ([KEYS], r"fieldSchema\(v\) has no corresponding fieldData pass in: invalid parameter"),
    ([KEYS, VECTORS, KEYS], "duplicated field id found"),
    (
        [KEYS, VECTORS, column("x", DataType.INT32, [1, 2])],
        r"more fieldData has pass in.*\[expected=9\]\[actual=10\]",
    ),
    (
        [KEYS, column("v", DataType.FLOAT_VECTOR, [[1, 2]])],
        r"the num_rows \(1\) of field \(v\) is not equal to passed num_rows \(2\)",
    ),
    (
        [KEYS, column("v", DataType.FLOAT_VECTOR, [[1, 2, 3], [4, 5, 6]])],
        r"the dim \(3\) of field data\(v\) is not equal to schema dim \(2\)",
    ),
    (
        [KEYS, column("v", DataType.FLOAT_VECTOR, [[1, 2], [float("nan"), 4]])],
        "value 'NaN' is not a number or infinity",
    ),
    (
        [KEYS, VECTORS, column("f", DataType.FLOAT, [1, float("-inf")])],
        "value '-Inf' is not a number or infinity",
    ),
    (
        [KEYS, VECTORS, column("w", DataType.INT64, [1, 2])],
        r"field 'w' is illegal, array type mismatch: invalid parameter\[expected=need string",
    ),
    (
        [KEYS, VECTORS, column("w", DataType.VARCHAR, ["ok", "äääää"])],
        "length of varchar field w exceeds max length, row number: 1, length: 10, max length: 8",
    ),
    (
        [KEYS, VECTORS, column("tiny", DataType.INT8, [1, 128])],
        r"the 1th element \(128\) out of range: \[-128, 127\]",
    ),
    (
        [KEYS, VECTORS, column("n", DataType.INT32, [1, 2], [True, False])],
        r"the length of field is wrong.*\[expected=1\]\[actual=2\]",
    ),
    (
        [KEYS, VECTORS, column("n", DataType.INT32, [1], [True])],
        r"the length of valid_data of field\(n\) is wrong: .*\[expected=2\]\[actual=1\]",
    ),
    (
        [KEYS, column("v", DataType.FLOAT_VECTOR, [[1, 2]], [True, False])],
        r"the length of valid_data of field\(v\) is wrong",
    ),
    (
        [KEYS, VECTORS, column("j", DataType.JSON, [b"1", b'"' + b"x" * 70 + b'"'])],
        r"the length \(72\) of json field \(j\) exceeds max length \(64\)",
    ),
    ([KEYS, VECTORS, column("j", DataType.JSON, [b"1", b"{"])], "field j is not valid JSON"),
    (
        [KEYS, VECTORS, column("a", DataType.ARRAY, [[1], [1, 2, 3, 4]])],
        r"the length \(4\) of 1th array exceeds max capacity \(3\): "
        r"invalid parameter\[expected=valid length array\]",
    ),
    ([KEYS, VECTORS, column("a", DataType.ARRAY, [[1], [200]])], r"\(200\) out of range"),
    ([KEYS, VECTORS, dynamic([b"{}", b"[1]"])], "dynamic field should be a JSON object"),
    ([KEYS, VECTORS, dynamic([b"{}", b"{"])], "not valid JSON"),
    (
        [KEYS, VECTORS, dynamic([b"{}", b'{"w": 1}'])],
        "dynamic field name cannot include the static field name: w",
    ),
    (
        [KEYS, VECTORS, dynamic([b"{}", b'{"$meta": 1}'])],
        r"dynamic field name cannot include the static field name: \$meta",
    ),
]


@pytest.mark.parametrize(("columns", "message"), BAD, ids=[text[:40] for _, text in BAD])
def test_bad_columns(columns: list[WireColumn], message: str) -> None:
    with pytest.raises(ElanusError, match=message) as caught:
        build(STATIC, columns, 2)
    assert caught.value.code == 1100


def test_no_rows_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="num_rows should be greater than 0") as caught:
        check_num_rows(0)
    assert caught.value.message.endswith("[expected=invalid num_rows][actual=0]")


def test_an_empty_dynamic_row_is_an_empty_object() -> None:
    rows = build(STATIC, [KEYS, VECTORS, dynamic([b"", b'{"k": 1}'])], 2)
    assert rows.column("$meta").to_pylist() == [b"{}", b'{"k": 1}']


def test_arrays_that_are_all_empty_have_the_type_of_the_field() -> None:
    rows = build(STATIC, [KEYS, VECTORS, column("a", DataType.ARRAY, [[], []])], 2)
    assert rows.column("a").to_pylist() == [[], []]
    assert rows.schema == STATIC.arrow
