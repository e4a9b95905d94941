import numpy as np
import pytest

from elanus.errors import InvalidParameter
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType
from elanus.wire.placeholders import (
    PlaceholderType,
    decode_placeholders,
    decode_queries,
    encode_texts,
    encode_vectors,
)

FIELD = FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "4"})
GROUP = "milvus.proto.common.PlaceholderGroup"


def _group(stock, kind, values):
    group = stock(GROUP)()
    group.placeholders.add(tag="$0", type=kind, values=values)
    return group.SerializeToString()


def test_query_vectors_are_rows(stock):
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    data = _group(stock, 101, [row.tobytes() for row in rows])
    vectors = decode_queries(data, FIELD)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    np.testing.assert_array_equal(vectors, rows)
    assert encode_vectors(rows) == data


@pytest.mark.parametrize("largest", [1.0, 3e38])
def test_one_vector_is_a_row(stock, largest):
    row = np.float32([[0.5, -2.0, largest, 0.0]])
    data = _group(stock, 101, [row.tobytes()])
    vectors = decode_queries(data, FIELD)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.flags.aligned
    np.testing.assert_array_equal(vectors, row)


def test_a_vector_of_another_type_is_not_taken_for_one_of_the_field(stock):
    with pytest.raises(InvalidParameter, match="VECTOR_FLOAT"):
        decode_queries(_group(stock, 105, [bytes(16)]), FIELD)


def test_texts_are_utf8(stock):
    data = _group(stock, 21, ["größe".encode(), b""])
    queries = decode_placeholders(data)
    assert queries.type is PlaceholderType.VARCHAR
    assert queries.texts() == ["größe", ""]
    assert encode_texts(["größe", ""]) == data
    with pytest.raises(InvalidParameter, match="UTF-8"):
        decode_placeholders(_group(stock, 21, [b"\xff"])).texts()


def test_no_queries_are_zero_rows(stock):
    assert decode_queries(_group(stock, 101, []), FIELD).shape == (0, 4)


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        (101, [bytes(16), bytes(12)], r"expected vector size\(byte\) 16, actual 12\."),
        (
            100,
            [bytes(16)],
            "field v - type VECTOR_FLOAT, search info type VECTOR_BINARY",
        ),
        (21, [b"text"], "search info type VARCHAR"),
        (999, [b"x"], "placeholder type 999 is not valid"),
        (101, [np.float32([0, np.nan, 0, 0]).tobytes()], "value 'NaN' is not a number or"),
        (101, [np.float32([0, 0, 0, -np.inf]).tobytes()], "value '-Inf' is not a number or"),
    ],
)
def test_queries_that_do_not_fit_the_field_are_refused(stock, kind, values, text):
    with pytest.raises(InvalidParameter, match=text):
        decode_queries(_group(stock, kind, values), FIELD)


@pytest.mark.parametrize("data", [b"", b"\x0a\x40abc", b"\xff\xff"])
def test_groups_that_cannot_be_read_are_refused(data):
    with pytest.raises(InvalidParameter, match="placeholder group"):
        decode_queries(data, FIELD)
