"""The slow oracle of vector search: one row after another in plain Python, for every kind."""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import BINARY_METRICS, DENSE_METRICS, DataType, MetricType
from elanus.model.vectors import (
    SPARSE_TYPE,
    narrowed,
    sparse_column,
    vector_column,
    vectors_of,
    widened,
)

DIM = 16
DENSE = (
    DataType.FLOAT_VECTOR,
    DataType.FLOAT16_VECTOR,
    DataType.BFLOAT16_VECTOR,
    DataType.INT8_VECTOR,
)
KINDS = [
    *((kind, metric) for kind in DENSE for metric in DENSE_METRICS),
    *((DataType.BINARY_VECTOR, metric) for metric in BINARY_METRICS),
    (DataType.SPARSE_FLOAT_VECTOR, MetricType.IP),
]
"""Every kind of vectors with every metric that it has for its own sake: BM25 needs a text."""


def schema_with(kind: DataType, nullable: bool = False) -> CollectionSchema:
    params = {} if kind is DataType.SPARSE_FLOAT_VECTOR else {"dim": str(DIM)}
    return CollectionSchema(
        name="things",
        fields=(
            FieldSchema(name="pk", data_type=DataType.INT64, is_primary=True),
            FieldSchema(name="number", data_type=DataType.INT64),
            FieldSchema(name="vector", data_type=kind, type_params=params, nullable=nullable),
        ),
    )


def random_vectors(
    kind: DataType, rows: int, random: np.random.Generator, nulls: bool = False
) -> pa.Array:
    """A column of few distinct values, so that scores tie; zero and empty vectors among them."""
    valid = random.random(rows) > 0.3 if nulls else None
    if kind is DataType.SPARSE_FLOAT_VECTOR:
        return _random_sparse(rows, random, valid)
    if kind is DataType.BINARY_VECTOR:
        bits = random.random((rows, DIM)) < random.choice([0.0, 0.1, 0.5], (rows, 1))
        return vector_column(np.packbits(bits, axis=1), valid)
    numbers = random.integers(-1, 2, (rows, DIM)).astype(np.float32)
    if kind is DataType.INT8_VECTOR:
        return vector_column(numbers.astype(np.int8), valid)
    return vector_column(narrowed(numbers, kind), valid)


def _random_sparse(rows: int, random: np.random.Generator, valid: Any) -> pa.Array:
    lists = [
        np.sort(random.choice(12, random.integers(0, 6), replace=False)) * 1_000_003 % 2**32
        for _ in range(rows)
    ]
    lists = [np.sort(row) for row in lists]
    offsets = np.cumsum([0, *map(len, lists)])
    indices = np.concatenate(lists).astype(np.uint32)
    values = random.integers(0, 4, len(indices)).astype(np.float32)
    column = sparse_column(offsets, indices, values)
    if valid is None:
        return column
    return column.take(pa.array(np.arange(rows), mask=~valid))


def as_queries(kind: DataType, column: pa.Array) -> Any:
    """A column without nulls as ``VectorQuery.vectors``."""
    if kind is DataType.SPARSE_FLOAT_VECTOR:
        return column
    found = vectors_of(column)
    return found if kind is DataType.BINARY_VECTOR else widened(found)


def plain_rows(kind: DataType, column: pa.Array) -> list[Any]:
    """Each row as Python values: numbers, bits, or a dict; None where there is none."""
    if column.type == SPARSE_TYPE:
        return [
            None if row is None else {entry["index"]: entry["value"] for entry in row}
            for row in column.to_pylist()
        ]
    filled = vectors_of(column)
    if kind is DataType.BINARY_VECTOR:
        plain = np.unpackbits(filled, axis=1).tolist()
    else:
        plain = widened(filled).astype(float).tolist()
    return [row if there else None for row, there in zip(plain, column.is_valid(), strict=True)]


def score(metric: MetricType, query: Any, row: Any) -> float | None:
    """As users see it; None if the row can't be a hit."""
    if isinstance(query, dict):
        found = sum(weight * row.get(index, 0) for index, weight in query.items())
        return found or None
    pairs = list(zip(query, row, strict=True))
    dot = sum(x * y for x, y in pairs)
    both, either = sum(x and y for x, y in pairs), sum(1 for x, y in pairs if x or y)
    match metric:
        case MetricType.L2:
            return sum((x - y) ** 2 for x, y in pairs)
        case MetricType.IP:
            return dot
        case MetricType.COSINE:
            lengths = math.sqrt(sum(x * x for x in query) * sum(y * y for y in row))
            return dot / lengths if lengths else 0.0
        case MetricType.HAMMING:
            return sum(x != y for x, y in pairs)
        case MetricType.JACCARD:
            return 1 - both / either if either else 1.0
        case MetricType.SUBSTRUCTURE:
            return 0.0 if both == sum(query) else None
        case MetricType.SUPERSTRUCTURE:
            return 0.0 if both == sum(row) else None
