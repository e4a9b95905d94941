"""Columns are compared with what the stock classes write and read."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.errors import InvalidParameter, Unimplemented
from elanus.model.schema import FieldSchema, arrow_type
from elanus.model.types import DataType
from elanus.wire.columns import (
    HOLDERS,
    decode_column,
    decode_ids,
    encode_column,
    ids_message,
    require_holder,
)
from elanus.wire.protocol import schema

FIELD_DATA = "milvus.proto.schema.FieldData"
IDS = "milvus.proto.schema.IDs"

ELEMENTS = {
    DataType.BOOL: st.booleans(),
    DataType.INT8: st.integers(-(2**7), 2**7 - 1),
    DataType.INT16: st.integers(-(2**15), 2**15 - 1),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.FLOAT: st.floats(width=32, allow_nan=False),
    DataType.DOUBLE: st.floats(allow_nan=False),
    DataType.VARCHAR: st.text(max_size=8),
}
SCALARS = ELEMENTS | {DataType.JSON: st.binary(max_size=8)}
ZEROS = {DataType.BOOL: False, DataType.VARCHAR: "", DataType.JSON: b""}


def _field(data_type, **more):
    return FieldSchema(name="f", data_type=data_type, field_id=101, **more)


@st.composite
def scalar_columns(draw):
    data_type = draw(st.sampled_from(sorted(SCALARS)))
    rows = draw(st.lists(st.none() | SCALARS[data_type], max_size=12))
    return data_type, rows


@st.composite
def array_columns(draw):
    element_type = draw(st.sampled_from(sorted(ELEMENTS)))
    row = st.lists(ELEMENTS[element_type], max_size=4)
    return element_type, draw(st.lists(st.none() | row, max_size=8))


@given(scalar_columns())
def test_scalars_are_read_as_sent_without_the_nulls(stock, column):
    data_type, rows = column
    present = [row for row in rows if row is not None]
    sent = stock(FIELD_DATA)(
        type=int(data_type),
        field_name="f",
        valid_data=[row is not None for row in rows],
        scalars={HOLDERS[data_type]: {"data": present}},
    )
    read = decode_column(schema.FieldData.FromString(sent.SerializeToString()))
    assert (read.name, read.data_type, read.holder) == ("f", data_type, HOLDERS[data_type])
    assert read.values.tolist() == present
    assert read.count == len(present)
    valid = None if read.valid is None else read.valid.tolist()
    assert valid == ([row is not None for row in rows] or None)
    require_holder(read, _field(data_type))


@given(scalar_columns())
def test_scalars_are_written_full_length_with_zeros_at_nulls(stock, column):
    data_type, rows = column
    field = _field(data_type, nullable=True)
    message = encode_column(field, pa.array(rows, arrow_type(field)))
    read = stock(FIELD_DATA).FromString(message.SerializeToString())
    expected = [ZEROS.get(data_type, 0) if row is None else row for row in rows]
    assert list(getattr(read.scalars, HOLDERS[data_type]).data) == expected
    assert list(read.valid_data) == [row is not None for row in rows]
    assert (read.type, read.field_name, read.field_id) == (data_type, "f", 101)


@given(array_columns())
def test_arrays_are_read_row_by_row(stock, column):
    element_type, rows = column
    present = [row for row in rows if row is not None]
    holder = HOLDERS[element_type]
    sent = stock(FIELD_DATA)(type=22, field_name="f")
    sent.scalars.array_data.SetInParent()
    for row in present:  # without element_type: clients leave it out
        getattr(sent.scalars.array_data.data.add(), holder).SetInParent()
        getattr(sent.scalars.array_data.data[-1], holder).data.extend(row)
    read = decode_column(schema.FieldData.FromString(sent.SerializeToString()))
    assert read.values.tolist() == present
    assert read.holder == "array_data"
    assert read.element_holder == (holder if present else "")
    require_holder(read, _field(DataType.ARRAY, element_type=element_type))
    assert read.values.cast(pa.list_(arrow_type(_field(element_type)))).tolist() == present


def test_array_rows_in_unusual_forms_are_read_too(stock):
    plain = b"\x22\x06\x0a\x04" + np.float32(1.5).tobytes()
    not_packed = b"\x22\x05\x0d" + np.float32(2.5).tobytes()
    field = stock("milvus.proto.schema.ArrayArray")(element_type=10)
    for row in (plain, not_packed, b"\x22\x00"):
        field.data.append(stock("milvus.proto.schema.ScalarField").FromString(row))
    rows = b"".join(b"\x0a" + bytes([len(row)]) + row for row in (plain, not_packed, b"\x22\x00"))
    read = schema.FieldData(field_name="f")
    read.scalars.array_data.MergeFromString(rows + b"\x10\x0a")
    assert decode_column(read).values.tolist() == [[1.5], [2.5], []]
    assert [list(row.float_data.data) for row in field.data] == [[1.5], [2.5], []]

    flags = schema.FieldData(field_name="f")
    flags.scalars.array_data.element_type = 1
    flags.scalars.array_data.data.add().bool_data.data.append(b"\x80\x01\x00")
    assert decode_column(flags).values.tolist() == [[True, False]]


@given(array_columns(), st.integers(0, 3))
def test_arrays_are_written_row_by_row(stock, column, skipped):
    element_type, rows = column
    field = _field(DataType.ARRAY, element_type=element_type, nullable=True)
    array = pa.array(rows, arrow_type(field))[skipped:]
    read = stock(FIELD_DATA).FromString(encode_column(field, array).SerializeToString())
    written = [list(getattr(r, HOLDERS[element_type]).data) for r in read.scalars.array_data.data]
    assert written == [row or [] for row in rows[skipped:]]
    assert all(row.WhichOneof("data") for row in read.scalars.array_data.data)
    assert read.scalars.array_data.element_type == element_type
    assert list(read.valid_data) == [row is not None for row in rows[skipped:]]


@given(st.integers(1, 5), st.integers(0, 6), st.data())
def test_vectors_survive_both_ways(stock, dim, rows, data):
    count = dim * rows
    flat = data.draw(st.lists(st.floats(width=32, allow_nan=False), min_size=count, max_size=count))
    field = _field(DataType.FLOAT_VECTOR, type_params={"dim": str(dim)})
    sent = stock(FIELD_DATA)(type=101, field_name="f", field_id=101)
    sent.vectors.dim = dim
    sent.vectors.float_vector.data.extend(flat)
    if not flat:
        sent.vectors.float_vector.SetInParent()
    read = decode_column(schema.FieldData.FromString(sent.SerializeToString()))
    assert read.values.shape == (rows, dim)
    assert read.values.ravel().tolist() == flat
    assert read.dim == dim

    column = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), dim)
    assert encode_column(field, column).SerializeToString() == sent.SerializeToString()


def test_null_vectors_are_left_out_of_the_answer(stock):
    field = _field(DataType.FLOAT_VECTOR, nullable=True, type_params={"dim": "2"})
    column = pa.array([[9, 9], [1, 2], None, [3, 4]], arrow_type(field))[1:]
    read = stock(FIELD_DATA).FromString(encode_column(field, column).SerializeToString())
    assert list(read.vectors.float_vector.data) == [1, 2, 3, 4]
    assert list(read.valid_data) == [True, False, True]


def test_chunks_and_slices_are_written_as_one_column(stock):
    field = _field(DataType.BOOL)
    column = pa.chunked_array([pa.array([True, False, True])[1:], pa.array([True])])
    read = stock(FIELD_DATA).FromString(encode_column(field, column).SerializeToString())
    assert list(read.scalars.bool_data.data) == [False, True, True]
    assert not read.valid_data


@pytest.mark.parametrize("data_type", sorted(HOLDERS))
def test_a_column_without_rows_keeps_its_type(stock, data_type):
    is_list = data_type is DataType.ARRAY_OF_VECTOR
    element_type = DataType.FLOAT_VECTOR if is_list else DataType.INT64
    field = _field(data_type, element_type=element_type, type_params={"dim": "8"})
    message = encode_column(field, pa.array([], arrow_type(field)))
    read = stock(FIELD_DATA).FromString(message.SerializeToString())
    assert read.type == data_type
    container = getattr(read, read.WhichOneof("field"))
    assert container.WhichOneof("data") == HOLDERS[data_type]


def test_the_dynamic_field_keeps_only_the_keys_asked_for(stock):
    field = FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True)
    big = b'{"a": 123456789012345678901234567890, "b": {"c": 1.0}, "\xc3\xa9": null}'
    column = pa.array([big, b"{}", b'{"b": [1]}'], pa.binary())

    def rows(keys):
        message = encode_column(field, column, dynamic_keys=keys)
        read = stock(FIELD_DATA).FromString(message.SerializeToString())
        assert read.is_dynamic
        return list(read.scalars.json_data.data)

    assert rows(None) == column.to_pylist()
    assert rows(["a", "é"]) == [
        '{"a":123456789012345678901234567890,"é":null}'.encode(),
        b"{}",
        b"{}",
    ]
    assert rows(["b"]) == [b'{"b":{"c": 1.0}}', b"{}", b'{"b":[1]}']


def test_the_wrong_holder_is_named():
    column = decode_column(schema.FieldData(type=101, field_name="v", scalars={"long_data": {}}))
    field = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "4"})
    with pytest.raises(InvalidParameter) as caught:
        require_holder(column, field)
    assert caught.value.message == (
        "field 'v' is illegal, array type mismatch: "
        "invalid parameter[expected=need float vector][actual=got long array]"
    )
    with pytest.raises(InvalidParameter, match="actual=got nil"):
        require_holder(decode_column(schema.FieldData(type=101, field_name="v")), field)
    half = {"dim": 1, "float16_vector": b"ab"}
    with pytest.raises(InvalidParameter, match="actual=got float16 vector"):
        require_holder(decode_column(schema.FieldData(field_name="v", vectors=half)), field)
    arrays = schema.FieldData(field_name="v", scalars={"array_data": {"data": [{"int_data": {}}]}})
    with pytest.raises(InvalidParameter, match=r"expected=need long array\]\[actual=got int array"):
        require_holder(decode_column(arrays), _field(DataType.ARRAY, element_type=DataType.INT64))
    with pytest.raises(Unimplemented, match="Text"):
        require_holder(column, FieldSchema(name="v", data_type=DataType.TEXT))


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ({"vectors": {"dim": 0, "float_vector": {}}}, r"dim \(0\) of field data\(f\)"),
        (
            {"vectors": {"dim": 2, "float_vector": {"data": [bytes(12)]}}},
            r"the length\(3\) of float data should divide the dim\(2\)",
        ),
        ({"type": 99}, "data type 99 of field f is not valid"),
        (
            {"scalars": {"array_data": {"data": [{"long_data": {}}, {"int_data": {}}]}}},
            r"array 1 of field f .*expected=need long array\]\[actual=got int array",
        ),
        ({"scalars": {"array_data": {"data": [{"json_data": {}}]}}}, "element type json_data"),
    ],
)
def test_values_that_cannot_be_read_are_input_errors(sent, text):
    with pytest.raises(InvalidParameter, match=text):
        decode_column(schema.FieldData(field_name="f", **sent))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)) | st.lists(st.text(max_size=6), min_size=1))
def test_primary_keys_survive_both_ways(stock, keys):
    texts = bool(keys) and isinstance(keys[0], str)
    array = pa.array(keys, pa.string() if texts else pa.int64())
    message = ids_message(array)
    read = stock(IDS).FromString(message.SerializeToString())
    assert list((read.str_id if texts else read.int_id).data) == keys
    assert decode_ids(message).equals(array)
    if not texts:
        assert ids_message(np.array(keys, np.int64)) == message
