"""Vectors of every kind survive a kill: what was flushed, and what only the log has. Over REST."""

import base64
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient

DIM = 16
NAME = "kinds"
RANDOM = np.random.default_rng(5)
INTS = RANDOM.integers(-100, 100, (400, DIM)).astype(np.int8)
HALVES = RANDOM.normal(size=(400, DIM)).astype(np.float16)
BITS = RANDOM.integers(0, 256, (400, DIM // 8), np.uint8)
FIELDS = {
    "int": ("Int8Vector", "HNSW", "L2"),
    "half": ("Float16Vector", "HNSW", "COSINE"),
    "bits": ("BinaryVector", "BIN_FLAT", "HAMMING"),
    "sparse": ("SparseFloatVector", "SPARSE_INVERTED_INDEX", "IP"),
}


def row_of(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "int": INTS[number].tolist(),
        "half": HALVES[number].astype(float).tolist() if number % 5 else None,
        "bits": base64.b64encode(BITS[number].tobytes()).decode(),
        "sparse": {str(number % 7): 1.5, str(1_000_000 + number): 2.0},
    }


def create(client: RestClient) -> None:
    fields = [{"fieldName": "id", "dataType": "Int64", "isPrimary": True}]
    indexes = []
    for name, (data_type, index_type, metric) in FIELDS.items():
        dim = {} if name == "sparse" else {"elementTypeParams": {"dim": DIM}}
        field = {"fieldName": name, "dataType": data_type, "nullable": name == "half"}
        fields.append(field | dim)
        index = {"fieldName": name, "indexName": name, "indexType": index_type}
        indexes.append(index | {"metricType": metric})
    body = {"collectionName": NAME, "schema": {"fields": fields}, "indexParams": indexes}
    client.call("collections/create", body)


def search(client: RestClient, field: str, query: Any) -> list[dict[str, Any]]:
    body = {"collectionName": NAME, "annsField": field, "data": [query], "limit": 5}
    answer: list[dict[str, Any]] = client.call(
        "entities/search", body | {"consistencyLevel": "Strong", "outputFields": ["*"]}
    )
    return answer


def check(client: RestClient, numbers: list[int], gone: int) -> None:
    for number in numbers:
        row = row_of(number)
        for field, query in row.items():
            if field == "id" or query is None:
                continue
            found = search(client, field, query)
            assert found[0]["id"] == number, field
            assert found[0]["sparse"] == row["sparse"]
            assert found[0]["bits"] == row["bits"]
            assert found[0]["int"] == base64.b64encode(INTS[number].tobytes()).decode()
            half = base64.b64encode(HALVES[number].tobytes()).decode() if number % 5 else None
            assert found[0]["half"] == half
    assert search(client, "int", row_of(gone)["int"])[0]["id"] != gone


def test_vectors_of_every_kind_survive_a_kill(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        create(client)
        rows = [row_of(number) for number in range(400)]
        client.call("entities/insert", {"collectionName": NAME, "data": rows[:300]})
        client.call("collections/flush", {"collectionName": NAME})
        deadline = time.monotonic() + 20
        while "flushed " not in running.log_tail():
            assert time.monotonic() < deadline, running.log_tail()
            time.sleep(0.02)
        client.call("entities/insert", {"collectionName": NAME, "data": rows[300:]})
        client.call("entities/delete", {"collectionName": NAME, "filter": "id in [7, 350]"})
        check(client, [5, 11, 301, 399], gone=350)
        client.close()
        running.kill()
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        check(client, [5, 11, 301, 399], gone=7)
        client.close()
