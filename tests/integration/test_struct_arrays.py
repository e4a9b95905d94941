"""Arrays of structs survive a kill: what was flushed, and what only the log has. Over REST, as are
their single elements."""

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


def create(client: RestClient, metric: str = "MAX_SIM_IP", *, nullable: bool = False) -> None:
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
        "structFields": [{"fieldName": "clips", "nullable": nullable, "fields": parts}],
    }
    index = {"fieldName": "clips[emb]", "indexType": "HNSW", "metricType": metric}
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


def flush(client: RestClient, running: RunningServer) -> None:
    client.call("collections/flush", {"collectionName": NAME})
    deadline = time.monotonic() + 20
    while "flushed " not in running.log_tail():
        assert time.monotonic() < deadline, running.log_tail()
        time.sleep(0.02)


def test_arrays_of_structs_survive_a_kill(tmp_path: Path) -> None:
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        create(client)
        rows = [row_of(number) for number in range(120)]
        client.call("entities/insert", {"collectionName": NAME, "data": rows[:100]})
        flush(client, running)
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


def check_elements(client: RestClient, rows: list[dict[str, Any]]) -> None:
    options = {"collectionName": NAME, "consistencyLevel": "Strong", "outputFields": ["id"]}

    def query(text: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.call("entities/query", {**options, "filter": text})
        return found

    nulls = [row["id"] for row in rows if row.get("clips") is None]
    assert [row["id"] for row in query("clips is null")] == nulls
    places = [
        {"id": row["id"], "offset": place}
        for row in rows
        for place, clip in enumerate(row.get("clips") or ())
        if clip["second"] % 3 == 0
    ]
    assert query("element_filter(clips, $[second] % 3 == 0)") == places
    vector = VECTORS[5][0]
    body = {**options, "annsField": "clips[emb]", "data": [vector.tolist()], "limit": 4}
    scores = {
        (row["id"], place): float(vector @ np.float32(clip["emb"]))
        for row in rows
        for place, clip in enumerate(row.get("clips") or ())
        if clip["second"] > 30
    }
    hits = client.call(
        "entities/search", {**body, "filter": "element_filter(clips, $[second] > 30)"}
    )
    best = sorted(scores, key=scores.__getitem__, reverse=True)[:4]
    assert [(hit["id"], hit["offset"]) for hit in hits] == best
    assert [hit["distance"] for hit in hits] == pytest.approx([scores[at] for at in best], rel=1e-4)


def test_elements_and_nulls_survive_a_kill(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [row_of(number) for number in range(120)]
    rows[3], rows[110] = {"id": 3, "clips": None}, {"id": 110}
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        create(client, "IP", nullable=True)
        client.call("entities/insert", {"collectionName": NAME, "data": rows[:100]})
        flush(client, running)
        client.call("entities/insert", {"collectionName": NAME, "data": rows[100:]})
        check_elements(client, rows)
        client.close()
        running.kill()
    with RunningServer(tmp_path / "data") as running:
        client = RestClient(running.uri)
        check_elements(client, rows)
        rows[4] = {"id": 4, "clips": None}
        client.call("entities/upsert", {"collectionName": NAME, "data": [rows[4]]})
        check_elements(client, rows)
        [struct] = client.call("collections/describe", {"collectionName": NAME})["structFields"]
        assert struct["nullable"] is True
        client.close()
