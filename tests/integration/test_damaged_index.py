"""Index files that are damaged on disk: named, not used, and built again by themselves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient

ROWS, DIMENSION = 2_000, 16
PATIENCE_S = 60.0


def _wait(condition: Callable[[], bool], server: RunningServer) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.05)


def _index_files(directory: Path) -> set[Path]:
    stored = (directory / "objects" / "index_files").rglob("*")
    return {path for path in stored if path.is_file()}


def _call(server: RunningServer, route: str, body: dict[str, Any]) -> Any:
    """On a connection of its own: the server closes those that idle while an index is built."""
    client = RestClient(server.uri)
    try:
        return client.call(route, {"collectionName": "things", **body})
    finally:
        client.close()


def _is_indexed(server: RunningServer) -> bool:
    found = _call(server, "indexes/describe", {"indexName": "vector"})
    return bool(found[0]["indexedRows"] == ROWS and found[0]["indexState"] == "Finished")


def _assert_found(server: RunningServer, vectors: np.ndarray) -> None:
    hits = _call(server, "entities/search", {"data": vectors[[17, 1_017]], "limit": 1})
    assert [hit["id"] for hit in hits] == [17, 1_017]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize(("index_type", "damage"), [("HNSW", _flip), ("SCANN", _truncate)])
def test_a_damaged_index_is_named_and_built_again(
    tmp_path: Path, index_type: str, damage: Callable[[Path], None]
) -> None:
    vectors = np.random.default_rng(7).random((ROWS, DIMENSION), dtype=np.float32)
    rows = [{"id": n, "vector": vector} for n, vector in enumerate(vectors)]
    server = RunningServer(tmp_path / "data")
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": DIMENSION}},
    ]
    index = {"fieldName": "vector", "indexType": index_type, "metricType": "L2"}
    with server:
        created = {"schema": {"fields": fields}, "indexParams": [index]}
        _call(server, "collections/create", created)
        _call(server, "entities/insert", {"data": rows})
        _call(server, "collections/flush", {})
        _wait(lambda: bool(_index_files(server.directory)) and _is_indexed(server), server)
    (damaged,) = _index_files(server.directory)
    damage(damaged)
    with server:
        _assert_found(server, vectors)
        _wait(lambda: len(_index_files(server.directory) - {damaged}) == 1, server)
        _wait(lambda: _is_indexed(server), server)
        assert damaged.name in server.log_tail()
        _assert_found(server, vectors)


def test_a_damaged_token_index_is_named_and_built_again(tmp_path: Path) -> None:
    server = RunningServer(tmp_path / "data")
    matched = {"max_length": 100, "enable_analyzer": True, "enable_match": True}
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "words", "dataType": "VarChar", "elementTypeParams": matched},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": 2}},
    ]
    index = {"fieldName": "vector", "indexType": "FLAT", "metricType": "L2"}
    rows = [{"id": n, "words": f"word{n % 100}", "vector": [n, 0]} for n in range(ROWS)]

    def assert_found() -> None:
        query = {"filter": 'text_match(words, "WORD17")', "outputFields": ["id"], "limit": 100}
        found = _call(server, "entities/query", query)
        assert sorted(row["id"] for row in found) == list(range(17, ROWS, 100))

    with server:
        _call(
            server,
            "collections/create",
            {"schema": {"fields": fields}, "indexParams": [index]},
        )
        _call(server, "entities/insert", {"data": rows})
        _call(server, "collections/flush", {})
        _wait(lambda: bool(_index_files(server.directory)), server)
        assert_found()
    (damaged,) = _index_files(server.directory)
    _flip(damaged)
    with server:
        assert_found()
        _wait(lambda: len(_index_files(server.directory) - {damaged}) == 1, server)
        assert damaged.name in server.log_tail()
        assert_found()
