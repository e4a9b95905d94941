"""The slow reference: what a segment holds and answers, row by row in plain Python."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from elanus.model.reads import Hits, Rows, Snapshot
from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.timestamp import MAX_TIMESTAMP
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import vector_column
from elanus.storage.formats.columns import statistics_of

DIM = 4


def schema_with(key: DataType, **more: Any) -> CollectionSchema:
    """pk, a nullable number, a text with a default, JSON, a vector."""
    fields = (
        FieldSchema(name="pk", data_type=key, is_primary=True, type_params={"max_length": "100"}),
        FieldSchema(name="number", data_type=DataType.INT32, nullable=True),
        FieldSchema(
            name="text",
            data_type=DataType.VARCHAR,
            default_value="none",
            type_params={"max_length": "100"},
        ),
        FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True),
        FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)}),
    )
    return CollectionSchema(name="things", fields=fields, enable_dynamic_field=True, **more)


def batch_of(schema: CollectionSchema, keys: list[Any], vectors: np.ndarray) -> pa.RecordBatch:
    """Rows whose number is null for every third and whose other fields follow from the position."""
    numbers = [None if i % 3 == 2 else i % 7 for i in range(len(keys))]
    texts = [f"text {i % 5}" for i in range(len(keys))]
    meta = [json.dumps({"i": i}).encode() for i in range(len(keys))]
    by_name = schema.by_name
    return pa.RecordBatch.from_arrays(
        [
            pa.array(keys, arrow_type(by_name["pk"])),
            pa.array(numbers, pa.int32()),
            pa.array(texts, pa.string()),
            pa.array(meta, pa.binary()),
            vector_column(np.ascontiguousarray(vectors, np.float32)),
        ],
        schema=schema.arrow,
    )


@dataclass
class Row:
    key: Any
    vector: np.ndarray
    number: int | None
    ts: int
    deleted: int = MAX_TIMESTAMP


class Reference:
    def __init__(self) -> None:
        self.rows: list[Row] = []

    def append(self, batch: pa.RecordBatch, ts: int) -> None:
        for row in batch.to_pylist():
            vector = np.array(row["vector"], np.float32)
            self.rows.append(Row(row["pk"], vector, row["number"], ts))

    def delete(self, keys: list[Any], ts: int) -> int:
        fresh = 0
        for row in self.rows:
            if row.key in keys and row.ts < ts:
                fresh += row.deleted == MAX_TIMESTAMP
                row.deleted = min(row.deleted, ts)
        return fresh

    def visible(self, snapshot: Snapshot, at_least: int | None = None) -> list[Row]:
        return [
            row
            for row in self.rows
            if snapshot.expire_before_ts < row.ts <= snapshot.read_ts < row.deleted
            and (at_least is None or (row.number is not None and row.number >= at_least))
        ]

    def scores(self, rows: list[Row], query: np.ndarray, metric: MetricType) -> list[float]:
        q = query.astype(np.float64)
        result = []
        for row in rows:
            v = row.vector.astype(np.float64)
            if metric is MetricType.L2:
                result.append(float(((q - v) ** 2).sum()))
            else:
                lengths = np.linalg.norm(q) * np.linalg.norm(v)
                scale = 1.0 if metric is MetricType.IP else (1 / lengths if lengths else 0.0)
                result.append(float(q @ v) * scale)
        return result


def listed(rows: Rows | Hits) -> list[tuple[Any, int]]:
    keys = rows.keys.tolist() if isinstance(rows.keys, np.ndarray) else rows.keys.to_pylist()
    return list(zip(keys, rows.timestamps.tolist(), strict=True))


@dataclass
class ArrowColumns:
    """SegmentColumns over arrays in memory."""

    rows: pa.RecordBatch
    timestamps: np.ndarray
    without: frozenset[str] = frozenset()

    @property
    def row_count(self) -> int:
        return self.rows.num_rows

    def has_column(self, name: str) -> bool:
        return name in self.rows.schema.names and name not in self.without

    def column(self, name: str) -> pa.Array:
        return self.rows.column(name)

    def bounds(self, name: str) -> tuple[Any, Any] | None:
        bounds = statistics_of(self.column(name)) if self.has_column(name) else (None, None)
        return None if bounds[0] is None else bounds

    def vectors(self, name: str) -> np.ndarray:
        column = self.rows.column(name)
        return np.asarray(column.flatten()).reshape(len(column), -1)
