"""Arrays of structs survive a kill: what was flushed, and what only the log has. Over REST."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient

DIM = 8
NAME = "clips"
RANDOM = np.random.default_rng(5)
VECTORS = [RANDOM.normal(size=(n, DIM)).astype(np.float32) for n in RANDOM.integers(1, 5, 120)]


def row_of(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "clips": [
            {"word": f"w{number}_{at}", "second": number + at, "emb": vector.tolist()}
            for at, vector in enumerate(VECTORS[number])
        ],
    }


def create(client: RestClient) -> None:
    capacity = {"max_capacity": 4}
    parts = [
        {
            "fieldName": "word",
            "dataType": "Array",
            "elementDataType": "VarChar",
            "elementTypeParams": {"max_length": 20, **capacity},
        },
        {
            "fieldName": "second",
            "dataType": "Array",
            "elementDataType": "Int64",
            "elementTypeParams": capacity,
        },
        {
            "fieldName": "emb",
            "dataType": "ArrayOfVector",
            "elementDataType": "FloatVector",
            "elementTypeParams": {"dim": DIM, **capacity},
        },
    ]
    schema = {
        "fields": [{"fieldName": "id", "dataType": "Int64", "isPrimary": True}],
        "structFields": [{"fieldName": "clips", "fields": parts}],
    }
    index = {"fieldName": "clips[emb]", "indexType": "HNSW", "metricType": "MAX_SIM_IP"}
    client.call(
        "collections/create",
        {"collectionName": NAME, "schema": schema, "indexParams": [index]},
    )


def check(client: RestClient, numbers: list[int], gone: int) -> None:
    for number in (*numbers, gone):
        query = VECTORS[number]
        best = {
            other: float((query @ vectors.T).max(axis=1).sum())
            for other, vectors in enumerate(VECTORS)
            if other not in (7, 110)
        }
        body = {"collectionName": NAME, "annsField": "clips[emb]", "data": [query.tolist()]}
        body |= {"limit": 5, "consistencyLevel": "Strong", "outputFields": ["*"]}
        hits = client.call("entities/search", body)
        expected = sorted(best, key=best.__getitem__, reverse=True)[:5]
        assert [hit["id"] for hit in hits] == expected
        for hit in hits:
            assert hit["distance"] == pytest.approx(best[hit["id"]], rel=1e-4)
            written = row_of(hit["id"])["clips"]
            emb = [np.float32(clip.pop("emb")).tolist() for clip in written]
            assert [np.float32(clip.pop("emb")).tolist() for clip in hit["clips"]] == emb
            assert hit["clips"] == written


def test_arrays_of_structs_survive_a_kill(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        create(client)
        rows = [row_of(number) for number in range(120)]
        client.call("entities/insert", {"collectionName": NAME, "data": rows[:100]})
        client.call("collections/flush", {"collectionName": NAME})
        deadline = time.monotonic() + 20
        while "flushed " not in running.log_tail():
            assert time.monotonic() < deadline, running.log_tail()
            time.sleep(0.02)
        client.call("entities/insert", {"collectionName": NAME, "data": rows[100:]})
        client.call("entities/delete", {"collectionName": NAME, "filter": "id in [7, 110]"})
        check(client, [5, 11, 101, 119], gone=110)
        client.close()
        running.kill()
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        check(client, [5, 11, 101, 119], gone=7)
        described = client.call("collections/describe", {"collectionName": NAME})
        [struct] = described["structFields"]
        assert [part["name"] for part in struct["fields"]] == ["word", "second", "emb"]
        client.call("collections/drop", {"collectionName": NAME})
        client.close()
