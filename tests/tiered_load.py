"""A collection of 3 MB of vectors, and as much of indexes, for servers whose caches hold 2 MB; and
what it must answer."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from elanus.cli.rest_client import RestClient
from tests.server import FREE_FLUSHES

DIM, ROWS, BATCHES = 64, 1_500, 8
CACHE_MB = 2
PATIENCE_S = 60.0
_WARMUP = "queryNode.segcore.tieredStorage.warmup"
_FIELDS = [
    {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
    {"fieldName": "name", "dataType": "VarChar", "elementTypeParams": {"max_length": 20}},
    {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": DIM}},
]


def settings(warmup: str) -> dict[str, object]:
    return {
        **FREE_FLUSHES,
        "localStorage.cache.maxSize": CACHE_MB,
        "dataCoord.compaction.enableAutoCompaction": "false",
        f"{_WARMUP}.vectorField": warmup,
        f"{_WARMUP}.vectorIndex": warmup,
        f"{_WARMUP}.scalarField": warmup,
    }


class Things:
    """``caches``: the directories that must never hold more than they may."""

    def __init__(self, uri: str, caches: list[Path]) -> None:
        self._client = RestClient(uri)
        self._caches = caches
        generator = np.random.default_rng(5)
        self._vectors = generator.normal(size=(ROWS * BATCHES, DIM)).astype(np.float32)

    def call(self, route: str, **body: Any) -> Any:
        return self._client.call(route, {"collectionName": "things", **body})

    def close(self) -> None:
        self._client.close()

    def fill(self) -> None:
        """With an indexed segment for each batch."""
        index = {
            "fieldName": "vector",
            "indexName": "vector",
            "indexType": "IVF_FLAT",
            "metricType": "L2",
            "params": {"nlist": 16},
        }
        self.call("collections/create", schema={"fields": _FIELDS}, indexParams=[index])
        for start in range(0, ROWS * BATCHES, ROWS):
            rows = [
                {"id": n, "name": f"name {n}", "vector": self._vectors[n]}
                for n in range(start, start + ROWS)
            ]
            self.call("entities/insert", data=rows)
            self.call("collections/flush")
        _wait(self._is_indexed)

    def _is_indexed(self) -> bool:
        (found,) = self.call("indexes/describe", indexName="vector")
        return bool(found["indexedRows"] == ROWS * BATCHES and found["indexState"] == "Finished")

    def load_anew(self) -> None:
        """So that nothing is read from what was growing."""
        self.call("collections/release")
        self.call("collections/load")
        _wait(lambda: self.call("collections/get_load_state")["loadState"] == "LoadStateLoaded")

    def check(self) -> None:
        """Searches of all segments, a query of all of a column, and deletes."""
        for asked in range(0, ROWS * BATCHES, 997):
            vector, fields = self._vectors[asked], ["name", "vector"]
            hits = self.call("entities/search", data=[vector], limit=1, outputFields=fields)
            assert hits[0]["name"] == f"name {asked}"
            assert np.allclose(hits[0]["vector"], vector)
            assert all(_size_of(cache) <= CACHE_MB << 20 for cache in self._caches)
        self.call("entities/delete", filter="id < 100")
        found = self.call("entities/query", filter='name like "name 1%"', outputFields=["count(*)"])
        expected = [n for n in range(100, ROWS * BATCHES) if str(n).startswith("1")]
        assert found == [{"count(*)": len(expected)}]


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _size_of(directory: Path) -> int:
    size_bytes = 0
    for path in directory.iterdir():
        try:
            size_bytes += path.stat().st_size
        except FileNotFoundError:
            continue  # evicted just now
    return size_bytes
