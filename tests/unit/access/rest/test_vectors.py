"""Vectors in JSON: each kind as the RESTful API takes and gives it."""

import base64

import numpy as np
import pytest

from elanus.model.types import DataType
from elanus.model.vectors import narrowed
from elanus.rows.unfit import Unfit
from elanus.rows.vectors import json_of_vectors, vectors_of_json

HALF, BRAIN = DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR
BINARY, INT8, SPARSE = (
    DataType.BINARY_VECTOR,
    DataType.INT8_VECTOR,
    DataType.SPARSE_FLOAT_VECTOR,
)


def encoded(*values: int) -> str:
    return base64.b64encode(bytes(values)).decode()


@pytest.mark.parametrize("kind", [HALF, BRAIN])
def test_halves_are_numbers_or_base64(kind: DataType) -> None:
    rows = [[0.1, 2, -3.5], [1e-3, 0, 7]]
    expected = narrowed(np.array(rows, np.float32), kind)
    found = vectors_of_json(kind, rows)
    np.testing.assert_array_equal(found, expected)
    texts = json_of_vectors(kind, found)
    np.testing.assert_array_equal(vectors_of_json(kind, [rows[0], texts[1]]), expected)


def test_bytes_are_numbers_or_base64() -> None:
    assert vectors_of_json(BINARY, [[0, 255], encoded(7, 8)]).tolist() == [[0, 255], [7, 8]]
    assert vectors_of_json(INT8, [[-128, 127], encoded(255, 1)]).tolist() == [[-128, 127], [-1, 1]]
    assert json_of_vectors(INT8, vectors_of_json(INT8, [[-1, 1]])) == [encoded(255, 1)]


def test_sparse_vectors_are_objects() -> None:
    rows = [{"9": 0.5, "2": 1}, {"indices": [5, 4], "values": [0.25, 2]}, {}]
    column = vectors_of_json(SPARSE, rows)
    assert json_of_vectors(SPARSE, column) == [{"2": 1, "9": 0.5}, {"4": 2, "5": 0.25}, {}]


@pytest.mark.parametrize(
    ("kind", "rows", "position"),
    [
        (HALF, [[1, 2], [1]], 1),
        (HALF, [[1, "x"]], 0),
        (HALF, ["not base64"], 0),
        (HALF, [encoded(1, 2, 3)], 0),
        (HALF, [encoded(1, 2), encoded(1, 2, 3, 4)], 1),
        (BINARY, [[1, 256]], 0),
        (BINARY, [[1, 2], [1.5, 2]], 1),
        (INT8, [[0, -129]], 0),
        (SPARSE, [{"1": 1}, [1]], 1),
        (SPARSE, [{"x": 1}], 0),
        (SPARSE, [{"-1": 1}], 0),
        (SPARSE, [{"4294967295": 1}], 0),
        (SPARSE, [{"1": "1"}], 0),
        (SPARSE, [{"indices": [1, 2], "values": [1]}], 0),
        (SPARSE, [{"indices": 1, "values": [1]}], 0),
    ],
)
def test_values_that_can_not_be_are_named(kind: DataType, rows: list, position: int) -> None:
    with pytest.raises(Unfit) as caught:
        vectors_of_json(kind, rows)
    assert caught.value.position == position
