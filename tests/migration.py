"""What tests of migrations share: a varied content, what users see of it, the command itself."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from elanus.cli.rest_client import RestClient
from tests.server import RunningServer

DIMENSION = 8
FLUSHED_ROWS, GROWING_ROWS = 1_200, 300
SERVER_SETTINGS: dict[str, object] = {
    "dataCoord.minSegmentNumRowsToEnableIndex": 100,
    "rootCoord.dmlChannelNum": 3,
    "msgChannel.chanNamePrefix.cluster": "here",
}
_UNSTABLE = {"state", "indexState", "indexedRows", "pendingIndexRows", "totalRows", "failReason"}


def vectors(count: int, seed: int) -> list[list[float]]:
    return np.random.default_rng(seed).random((count, DIMENSION), dtype=np.float32).tolist()


def rows(first: int, count: int, seed: int) -> list[dict[str, Any]]:
    return [
        {"id": first + n, "vector": vector, "word": f"w{n % 7}"}
        for n, vector in enumerate(vectors(count, seed))
    ]


def populate(server: RunningServer) -> None:
    """Flushed and indexed rows, rows and deletes in the log only, partitions, an alias, a second
    database, an empty and a dropped collection."""
    client = RestClient(server.uri)
    try:
        _create(client, "things", shards=2)
        client.call("partitions/create", {"collectionName": "things", "partitionName": "odd"})
        client.call("aliases/create", {"collectionName": "things", "aliasName": "stuff"})
        client.call("collections/create", {"collectionName": "gone", "dimension": DIMENSION})
        insert(client, "gone", rows(0, 50, seed=3))
        insert(client, "things", rows(0, FLUSHED_ROWS, seed=1))
        client.call("collections/drop", {"collectionName": "gone"})
        delete(client, "things", "id in [1, 2, 3]")
        client.call("collections/flush", {"collectionName": "things"})
        _wait_for_index(client, "things", FLUSHED_ROWS)
        insert(client, "things", rows(10_000, GROWING_ROWS, seed=2), partition="odd")
        delete(client, "things", "id in [7, 10007]")
        client.call("entities/upsert", {"collectionName": "things", "data": rows(100, 10, seed=4)})
        client.call("databases/create", {"dbName": "second"})
        _create(client, "small", database="second")
        insert(client, "small", rows(0, 20, seed=5), database="second")
        _create(client, "empty", database="second")
    finally:
        client.close()


def _create(client: RestClient, name: str, *, shards: int = 1, database: str = "default") -> None:
    fields = [
        {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
        {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": DIMENSION}},
        {"fieldName": "word", "dataType": "VarChar", "elementTypeParams": {"max_length": 20}},
    ]
    index = {"fieldName": "vector", "indexName": "by_l2", "metricType": "L2", "indexType": "HNSW"}
    body = {
        "dbName": database,
        "collectionName": name,
        "schema": {"fields": fields},
        "indexParams": [{**index, "params": {"M": 8, "efConstruction": 64}}],
        "params": {"shardsNum": shards},
    }
    client.call("collections/create", body)


def insert(
    client: RestClient,
    name: str,
    data: list[dict[str, Any]],
    *,
    database: str = "default",
    partition: str = "_default",
) -> None:
    place = {"dbName": database, "collectionName": name, "partitionName": partition}
    client.call("entities/insert", {**place, "data": data})


def delete(client: RestClient, name: str, condition: str) -> None:
    client.call("entities/delete", {"collectionName": name, "filter": condition})


def _wait_for_index(client: RestClient, name: str, indexed_rows: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        (index,) = client.call("indexes/describe", {"collectionName": name, "indexName": "by_l2"})
        if index["indexedRows"] >= indexed_rows:
            return
        assert time.monotonic() < deadline, index
        time.sleep(0.02)


def observe(uri: str) -> dict[str, Any]:
    """All that users can see, so that two servers can be compared."""
    client = RestClient(uri)
    try:
        return {
            f"{database}/{name}": _observe_collection(client, database, name)
            for database in sorted(client.call("databases/list"))
            for name in sorted(client.call("collections/list", {"dbName": database}))
        }
    finally:
        client.close()


def _observe_collection(client: RestClient, database: str, name: str) -> dict[str, Any]:
    place = {"dbName": database, "collectionName": name}
    strong = {**place, "consistencyLevel": "Strong"}
    everything = {**strong, "filter": "id >= 0", "outputFields": ["*"], "limit": 16_384}
    partitions = sorted(client.call("partitions/list", place))
    return {
        "description": _stable(client.call("collections/describe", place)),
        "count": client.call("entities/query", {**strong, "outputFields": ["count(*)"]}),
        "rows": sorted(client.call("entities/query", everything), key=lambda row: row["id"]),
        "partitions": {
            partition: sorted(
                row["id"]
                for row in client.call(
                    "entities/query",
                    {**everything, "outputFields": ["id"], "partitionNames": [partition]},
                )
            )
            for partition in partitions
        },
        "search": client.call(
            "entities/search",
            {**strong, "data": vectors(20, seed=9), "limit": 5, "annsField": "vector"},
        ),
        "filtered": client.call(
            "entities/search",
            {**strong, "data": vectors(5, seed=8), "limit": 5, "filter": 'word == "w3"'},
        ),
    }


def _stable(value: Any) -> Any:
    """Without what changes while indexes are built."""
    if isinstance(value, dict):
        return {key: _stable(inner) for key, inner in value.items() if key not in _UNSTABLE}
    if isinstance(value, list):
        return [_stable(inner) for inner in value]
    return value


# --- the command ----------------------------------------------------------------------------------


def settings_file(path: Path, settings: dict[str, object]) -> Path:
    """An elanus.yaml of ``settings``, whose keys have dots."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[leaf] = value
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def migrate(*options: object, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``elanus migrate``, with its output as text."""
    command = [sys.executable, "-m", "elanus.cli.main", "migrate", *map(str, options)]
    environment = {**os.environ, "ELANUS_FAILPOINTS": failpoints}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def migrate_directory(
    source: Path, target: Path, *options: str, failpoints: str = ""
) -> subprocess.CompletedProcess[str]:
    """From one standalone's directory to another."""
    places = ("--data-dir", source, "--to-set", f"localStorage.path={target}")
    return migrate(*places, *options, failpoints=failpoints)
