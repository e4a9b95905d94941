"""A server on an object store whose local disk holds a part of what is loaded."""

import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.backends import Combination, servers_of, settings_of
from tests.server import FREE_FLUSHES, RunningServer

from elanus.cli.rest_client import RestClient

DIM, ROWS, BATCHES = 64, 1_500, 8
CACHE_MB = 1
"""Of vectors alone there are 3 MB."""
FIELDS = [
    {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
    {"fieldName": "name", "dataType": "VarChar", "elementTypeParams": {"max_length": 20}},
    {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": DIM}},
]


def _metric(server: RunningServer, name: str) -> float:
    url = f"http://127.0.0.1:{server.management_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def _size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


@pytest.mark.parametrize("warmup", ["sync", "disable"])
def test_a_collection_larger_than_the_cache_is_served_whole(
    tmp_path: Path, warmup: str, request: pytest.FixtureRequest
) -> None:
    combination = Combination("sqlite", "remote", "local")
    servers = servers_of(combination, request)
    place = settings_of(combination, servers, f"tiered-{warmup}")
    tiered = "queryNode.segcore.tieredStorage.warmup"
    place |= {
        **FREE_FLUSHES,
        "localStorage.cache.maxSize": CACHE_MB,
        "dataCoord.compaction.enableAutoCompaction": False,
        f"{tiered}.vectorField": warmup,
        f"{tiered}.scalarField": warmup,
    }
    vectors = np.random.default_rng(5).normal(size=(ROWS * BATCHES, DIM)).astype(np.float32)
    with RunningServer(tmp_path / "data", place) as server:
        client = RestClient(server.uri)

        def call(route: str, **body: Any) -> Any:
            return client.call(route, {"collectionName": "things", **body})

        index = {"fieldName": "vector", "indexType": "FLAT", "metricType": "L2"}
        call("collections/create", schema={"fields": FIELDS}, indexParams=[index])
        for start in range(0, ROWS * BATCHES, ROWS):
            rows = [
                {"id": n, "name": f"name {n}", "vector": vectors[n]}
                for n in range(start, start + ROWS)
            ]
            call("entities/insert", data=rows)
            call("collections/flush")
        for asked in range(0, ROWS * BATCHES, 997):
            hits = call(
                "entities/search", data=[vectors[asked]], limit=1, outputFields=["name", "vector"]
            )
            assert hits[0]["name"] == f"name {asked}"
            assert np.allclose(hits[0]["vector"], vectors[asked])
            assert _size_of(tmp_path / "data" / "cache") <= CACHE_MB << 20
        call("entities/delete", filter="id < 100")
        found = call("entities/query", filter='name like "name 1%"', outputFields=["count(*)"])
        expected = [n for n in range(100, ROWS * BATCHES) if str(n).startswith("1")]
        assert found == [{"count(*)": len(expected)}]
        assert _metric(server, 'elanus_object_cache_files_total{event="evicted"}') > 0
        limit = _metric(server, 'elanus_object_cache_bytes{kind="limit"}')
        assert _metric(server, 'elanus_object_cache_bytes{kind="loaded"}') <= limit
        client.close()
