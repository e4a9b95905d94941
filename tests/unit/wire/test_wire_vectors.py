"""Vectors of every kind are compared with what the stock classes write and read."""

import struct

import numpy as np
import pyarrow as pa
import pytest

from elanus.errors import InvalidParameter
from elanus.model.schema import FieldSchema, arrow_type
from elanus.model.types import DataType
from elanus.model.vectors import ELEMENT_DTYPES, narrowed, vectors_of, widened
from elanus.wire.columns import decode_column, encode_column
from elanus.wire.placeholders import decode_queries, encode_queries
from elanus.wire.protocol import schema

FIELD_DATA = "milvus.proto.schema.FieldData"
FIXED = [kind for kind in ELEMENT_DTYPES if kind is not DataType.FLOAT_VECTOR]
HOLDER = {
    DataType.BINARY_VECTOR: "binary_vector",
    DataType.FLOAT16_VECTOR: "float16_vector",
    DataType.BFLOAT16_VECTOR: "bfloat16_vector",
    DataType.INT8_VECTOR: "int8_vector",
}
SPARSE_ROWS = [{3: 0.5, 70_000: 1.25}, {}, {0: 2.0}]


def make_field(kind, dim=16, nullable=False):
    params = {} if kind is DataType.SPARSE_FLOAT_VECTOR else {"dim": str(dim)}
    return FieldSchema(
        name="v", data_type=kind, field_id=101, type_params=params, nullable=nullable
    )


def sparse_bytes(row):
    return b"".join(struct.pack("<If", *entry) for entry in row.items())


@pytest.mark.parametrize("kind", FIXED)
def test_vectors_of_fixed_size_survive_both_ways(stock, kind):
    field = make_field(kind)
    size = ELEMENT_DTYPES[kind].itemsize * (2 if kind is DataType.BINARY_VECTOR else 16)
    data = np.random.default_rng(1).integers(0, 60, 5 * size, dtype=np.uint8).tobytes()
    sent = stock(FIELD_DATA)(type=int(kind), field_name="v")
    sent.vectors.dim = 16
    setattr(sent.vectors, HOLDER[kind], data)
    column = decode_column(schema.FieldData.FromString(sent.SerializeToString()))
    assert (column.count, column.dim, column.holder) == (5, 16, HOLDER[kind])
    assert column.values.dtype == ELEMENT_DTYPES[kind]
    assert column.values.tobytes() == data
    array = pa.FixedSizeListArray.from_arrays(pa.array(column.values.reshape(-1)), size_of(field))
    read = stock(FIELD_DATA).FromString(encode_column(field, array).SerializeToString())
    assert read.vectors.dim == 16
    assert getattr(read.vectors, HOLDER[kind]) == data
    # A slice, and nulls: only what is there is sent.
    masked = array.take(pa.array([None, 4, 1, None])).slice(1)
    read = stock(FIELD_DATA).FromString(
        encode_column(make_field(kind, nullable=True), masked).SerializeToString()
    )
    assert list(read.valid_data) == [True, True, False]
    assert getattr(read.vectors, HOLDER[kind]) == data[4 * size :] + data[size : 2 * size]


def size_of(field):
    return arrow_type(field).list_size


def test_sparse_vectors_survive_both_ways(stock):
    field = make_field(DataType.SPARSE_FLOAT_VECTOR)
    sent = stock(FIELD_DATA)(type=104, field_name="v")
    sent.vectors.sparse_float_vector.contents.extend(map(sparse_bytes, SPARSE_ROWS))
    column = decode_column(schema.FieldData.FromString(sent.SerializeToString()))
    assert column.values.type == arrow_type(field)
    plain = [{e["index"]: e["value"] for e in row} for row in column.values.to_pylist()]
    assert plain == SPARSE_ROWS
    read = stock(FIELD_DATA).FromString(encode_column(field, column.values).SerializeToString())
    assert list(read.vectors.sparse_float_vector.contents) == [*map(sparse_bytes, SPARSE_ROWS)]
    assert read.vectors.dim == read.vectors.sparse_float_vector.dim == 70_001
    some = column.values.take(pa.array([2, None, 0])).slice(1)
    read = stock(FIELD_DATA).FromString(encode_column(field, some).SerializeToString())
    assert list(read.vectors.sparse_float_vector.contents) == [sparse_bytes(SPARSE_ROWS[0])]


@pytest.mark.parametrize(
    ("vectors", "text"),
    [
        ({"dim": 12, "binary_vector": b"123"}, r"the num\(24\) of all bits should divide the dim"),
        ({"dim": 16, "binary_vector": b"123"}, r"the num\(24\) of all bits should divide the dim"),
        ({"dim": 2, "float16_vector": b"123"}, r"the length\(3\) of float16 data should divide"),
        ({"dim": 2, "bfloat16_vector": b"123456"}, r"the length\(3\) of bfloat16 data should divi"),
        ({"dim": 2, "int8_vector": b"123"}, r"the length\(3\) of int8 data should divide the dim"),
        ({"dim": 0, "int8_vector": b"123"}, r"the dim \(0\) of field data\(v\) should be greater"),
    ],
)
def test_data_that_does_not_divide_into_vectors_is_refused(vectors, text):
    with pytest.raises(InvalidParameter, match=text):
        decode_column(schema.FieldData(field_name="v", vectors=vectors))


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (b"1234567", "invalid data length in sparse float vector: 7"),
        (struct.pack("<IfIf", 5, 1, 5, 1), "unsorted or same indices in sparse float vector"),
        (struct.pack("<IfIf", 6, 1, 5, 1), "unsorted or same indices in sparse float vector"),
        (struct.pack("<If", 2**32 - 1, 1), r"must be less than 2\^32-1"),
        (struct.pack("<If", 1, -1), "negative value in sparse float vector"),
        (struct.pack("<If", 1, np.nan), "value 'NaN' is not a number or infinity"),
        (struct.pack("<If", 1, np.inf), r"value '\+Inf' is not a number or infinity"),
    ],
)
def test_sparse_rows_that_can_not_be_are_refused(row, text):
    good = sparse_bytes({1: 1.0, 9: 2.0})
    for rows in ([row], [good, b"", row, good]):
        sparse = {"sparse_float_vector": {"contents": rows}}
        with pytest.raises(InvalidParameter, match=text):
            decode_column(schema.FieldData(field_name="v", vectors=sparse))


@pytest.mark.parametrize("kind", [DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR])
def test_floats_ask_a_field_of_halves(kind):
    floats = np.random.default_rng(2).normal(size=(3, 16)).astype(np.float32)
    halves = narrowed(floats, kind)
    field = make_field(kind)
    for data in (encode_queries(DataType.FLOAT_VECTOR, floats), encode_queries(kind, halves)):
        np.testing.assert_array_equal(decode_queries(data, field), widened(halves))
    endless = np.full((1, 16), np.inf, np.float32)
    with pytest.raises(InvalidParameter, match=r"value .\+Inf. is not"):
        decode_queries(encode_queries(DataType.FLOAT_VECTOR, endless), field)


def test_queries_of_binary_and_sparse_fields():
    bits = np.arange(6, dtype=np.uint8).reshape(3, 2)
    data = encode_queries(DataType.BINARY_VECTOR, bits)
    np.testing.assert_array_equal(decode_queries(data, make_field(DataType.BINARY_VECTOR)), bits)
    with pytest.raises(InvalidParameter, match=r"expected vector size\(byte\) 4, actual 2"):
        decode_queries(data, make_field(DataType.BINARY_VECTOR, 32))
    with pytest.raises(InvalidParameter, match="type VECTOR_SPARSE_U32_F32, search info type VECT"):
        decode_queries(data, make_field(DataType.SPARSE_FLOAT_VECTOR))
    field = make_field(DataType.SPARSE_FLOAT_VECTOR)
    sent = {"sparse_float_vector": {"contents": [*map(sparse_bytes, SPARSE_ROWS)]}}
    column = decode_column(schema.FieldData(field_name="v", vectors=sent)).values
    asked = decode_queries(encode_queries(DataType.SPARSE_FLOAT_VECTOR, column), field)
    assert asked.equals(column)


def test_rounding_to_bfloat16_is_to_the_nearest_even():
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xFF7FFFFF], np.uint32)
    found = narrowed(bits.view(np.float32), DataType.BFLOAT16_VECTOR)
    assert found.tolist() == [0x3F80, 0x3F82, 0x3F81, 0x3F80, 0xFF80]
    nan = narrowed(np.array([np.nan], np.float32), DataType.BFLOAT16_VECTOR)
    assert np.isnan(widened(nan)).all()


def test_vectors_under_nulls_are_not_read():
    column = pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))
    assert vectors_of(column)[0].tolist() == [1, 2]
