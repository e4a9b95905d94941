"""What the simulated users store: a collection, rows that say who wrote them, and reading them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.model.catalog import CollectionInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType
from elanus.rows.routing import bucket_of
from tests.simulation.oracle import Violation

NAME = "things"
DIM = 4
KEYS_OF_A_CLIENT = 10_000
"""Client c owns the keys from c times this on."""

SCHEMA = CollectionSchema(
    name=NAME,
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="value", data_type=DataType.INT64),
        FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)}),
    ),
)


def owner_of(key: int) -> int:
    return key // KEYS_OF_A_CLIENT


def shard_of(key: int, shards: int) -> int:
    return int(bucket_of(pa.array([key], pa.int64()), shards)[0])


def vectors_of(keys: Sequence[int], op_ids: Sequence[int]) -> npt.NDArray[np.float32]:
    """float32 (rows, DIM): small whole numbers, so that distances are exact."""
    base = np.array(keys, np.int64)[:, None] * 31 + np.array(op_ids, np.int64)[:, None] * 17
    return ((base * np.arange(1, DIM + 1) ** 2) % 97).astype(np.float32)


def extra_fields(schema: CollectionSchema) -> tuple[str, ...]:
    """Fields that were added after the collection was created."""
    return tuple(f.name for f in schema.fields if f.name.startswith("extra"))


def extra_value(op_id: int, name: str) -> int:
    return op_id * 10 + int(name.removeprefix("extra"))


def batch(schema: CollectionSchema, keys: Sequence[int], op_id: int) -> pa.RecordBatch:
    """Complete rows of these keys, written by operation ``op_id``."""
    flat = vectors_of(keys, [op_id] * len(keys)).reshape(-1)
    columns: dict[str, Any] = {
        "id": pa.array(keys, pa.int64()),
        "value": pa.array([op_id] * len(keys), pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), DIM),
    }
    for name in extra_fields(schema):
        columns[name] = pa.array([extra_value(op_id, name)] * len(keys), pa.int64())
    return pa.RecordBatch.from_arrays([columns[f.name] for f in schema.fields], schema=schema.arrow)


@dataclass(frozen=True, slots=True)
class Contents:
    """All rows of one answer: key → operation, key → insert timestamp."""

    read_ts: int
    rows: dict[int, int]
    timestamps: dict[int, int]

    def of_client(self, number: int) -> tuple[dict[int, int], dict[int, int]]:
        mine = {key: op for key, op in self.rows.items() if owner_of(key) == number}
        return mine, {key: self.timestamps[key] for key in mine}


def read_contents(response: Any, written_fields: dict[int, tuple[str, ...]]) -> Contents:
    """Checks each row by itself: its key once, every field as its operation wrote it."""
    rows = response.rows
    keys: list[int] = rows.column("id").to_pylist()
    if any(left >= right for left, right in pairwise(keys)):
        raise Violation(f"keys are not ascending: {keys}")
    op_ids: list[int] = rows.column("value").to_pylist()
    for name in rows.schema.names:
        if name.startswith("extra"):
            for key, op_id, found in zip(keys, op_ids, rows.column(name).to_pylist(), strict=True):
                known = name in written_fields[op_id]
                expected = extra_value(op_id, name) if known else None
                if found != expected:
                    raise Violation(f"field {name} of row {key} is {found}, not {expected}")
        elif name == "vector":
            flat = rows.column(name).flatten().to_numpy().reshape(-1, DIM)
            if not np.array_equal(flat, vectors_of(keys, op_ids)):
                raise Violation(f"vectors of {keys} are not those that were written")
    stamps = [int(stamp) for stamp in response.timestamps]
    return Contents(
        response.read_ts,
        dict(zip(keys, op_ids, strict=True)),
        dict(zip(keys, stamps, strict=True)),
    )


def check_search(
    rows: dict[int, int],
    certain: Callable[[int], bool],
    response: Any,
    query: npt.NDArray[np.float32],
    top_k: int,
) -> None:
    """The hits against the distances to all ``rows``, of which some may be missing if they are not
    ``certain``. query: float32 (DIM,)."""
    keys, op_ids = list(rows), list(rows.values())
    distances = np.empty(0, np.float32)
    if keys:
        distances = ((vectors_of(keys, op_ids) - query) ** 2).sum(axis=1)
    by_key = dict(zip(keys, distances.tolist(), strict=True))
    found = response.hits.keys.tolist()
    if len(set(found)) != len(found) or not set(found) <= set(keys):
        raise Violation(f"hits {found} are not rows once each of {keys}")
    if [by_key[key] for key in found] != response.hits.scores.tolist():
        raise Violation(f"hits {found} have the distances {response.hits.scores.tolist()}")
    there = sorted(by_key[key] for key in keys if key in found or certain(key))
    if there[:top_k] != response.hits.scores.tolist():
        raise Violation(f"nearest are {there[:top_k]}, found {response.hits.scores.tolist()}")


def partition_id(info: CollectionInfo, name: str) -> int | None:
    partition = info.partition_by_name.get(name)
    return None if partition is None else partition.partition_id
