"""The RESTful API of a real server: from HTTP to the data directory and back."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from tests.server import RunningServer

ROWS = 2_000
DIMENSION = 16


class Connection:
    """One kept-alive HTTP/1.1 connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def send(self, method: str, path: str, content: bytes = b"", **headers: str) -> tuple[int, Any]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, content, names)
        response = self._connection.getresponse()
        body = response.read()
        return response.status, orjson.loads(body) if body else None

    def close(self) -> None:
        self._connection.close()

    def __call__(self, route: str, body: Any, **headers: str) -> Any:
        content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        status, answer = self.send("POST", f"/v2/vectordb/{route}", content, **headers)
        assert status == 200
        return answer

    def ok(self, route: str, body: Any) -> Any:
        answer = self(route, body)
        assert answer["code"] == 0, answer
        return answer["data"]


@pytest.fixture(scope="module", params=["h2corn", "grpcio"])
def connection(request: Any, tmp_path_factory: Any) -> Iterator[Connection]:
    directory: Path = tmp_path_factory.mktemp(request.param) / "data"
    with RunningServer(directory, {"proxy.transport": request.param}) as server:
        made = Connection(server.port + (request.param == "grpcio"))
        yield made
        made.close()


@pytest.fixture(scope="module")
def vectors() -> Any:
    return np.random.default_rng(3).random((ROWS, DIMENSION), dtype=np.float32)


@pytest.fixture(scope="module")
def filled(connection: Connection, vectors: Any) -> Connection:
    connection.ok("collections/create", {"collectionName": "things", "dimension": DIMENSION})
    rows = [{"id": n, "vector": vector, "half": n // 2} for n, vector in enumerate(vectors)]
    written = connection.ok("entities/insert", {"collectionName": "things", "data": rows})
    assert written == {"insertCount": ROWS, "insertIds": list(range(ROWS))}
    return connection


def test_the_nearest_rows_are_found(filled: Connection, vectors: Any) -> None:
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    body = {
        "collectionName": "things",
        "data": vectors[:3],
        "limit": 5,
        "outputFields": ["half"],
        "consistencyLevel": "Strong",
    }
    answer = filled("entities/search", body)
    assert answer["topks"] == [5, 5, 5]
    exact = np.argsort(-(normal[:3] @ normal.T), axis=1)[:, :5]
    assert [hit["id"] for hit in answer["data"]] == exact.reshape(-1).tolist()
    assert all(hit["half"] == hit["id"] // 2 for hit in answer["data"])


def test_rows_come_back_with_the_digits_that_went_in(filled: Connection, vectors: Any) -> None:
    body = {"collectionName": "things", "id": [7], "consistencyLevel": "Strong"}
    text = orjson.dumps(vectors[7], option=orjson.OPT_SERIALIZE_NUMPY)
    assert filled.ok("entities/get", body) == [{"id": 7, "vector": orjson.loads(text), "half": 3}]


def test_a_flushed_collection_is_indexed_and_counted(filled: Connection) -> None:
    filled.ok("collections/flush", {"collectionName": "things"})
    assert filled.ok("collections/get_stats", {"collectionName": "things"}) == {"rowCount": ROWS}
    count = {
        "collectionName": "things",
        "outputFields": ["count(*)"],
        "consistencyLevel": "Strong",
    }
    assert filled.ok("entities/query", count) == [{"count(*)": ROWS}]
    described = filled.ok("collections/describe", {"collectionName": "things"})
    assert described["load"] == "LoadStateLoaded"
    assert [index["metricType"] for index in described["indexes"]] == ["COSINE"]


def test_errors_keep_the_connection(filled: Connection) -> None:
    assert filled("collections/describe", {"collectionName": "x"})["code"] == 100
    assert filled("entities/insert", {"collectionName": "things", "data": []})["code"] == 1802
    assert filled("users/list", {})["code"] == 10
    assert filled.send("POST", "/v2/vectordb/entities/query", b"{")[1]["code"] == 1801
    assert filled.send("GET", "/v2/vectordb/collections/list")[0] == 404
    assert filled.send("OPTIONS", "/v2/vectordb/collections/list") == (204, None)
    assert filled.ok("collections/has", {"collectionName": "things"}) == {"has": True}
