"""Rates and quotas of a real standalone, as clients meet them."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient, ServerError

ROOT = Path(__file__).parents[2]
DIMENSION = 256
INTERVAL_S = 0.2
SOON_S = 30.0

RETRIES = """
import json, sys, time
from pymilvus import MilvusClient, MilvusException
client = MilvusClient(uri=sys.argv[1], timeout=60)
client.create_collection("things", dimension=4)
def seconds(step):
    started = time.monotonic()
    step()
    return time.monotonic() - started
rows = [{"id": n, "vector": [n, 1, 2, 3]} for n in range(10)]
client.insert("things", rows)
flushes = [seconds(lambda: client.flush("things")) for _ in range(2)]
client.alter_collection_properties("things", {"collection.queryRate.max.qps": "2"})
queries = seconds(lambda: [client.query("things", ids=[1]) for _ in range(8)])
client.alter_database_properties("default", {"database.force.deny.writing": "true"})
try:
    denied = seconds(lambda: client.insert("things", rows))
    code = message = None
except MilvusException as error:
    code, message = error.code, error.message
client.alter_database_properties("default", {"database.force.deny.writing": "false"})
client.insert("things", rows)
print(json.dumps(
    {"flushes": flushes, "queries": queries, "code": code, "message": message}
))
"""


@pytest.mark.parametrize("version", ["2.6", "3.0"])
def test_pymilvus_waits_for_a_rate_and_is_told_of_a_denial(version: str, tmp_path: Path) -> None:
    python = ROOT / ".clients" / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"pymilvus {version} is not installed: run `make clients`")
    settings = {"quotaAndLimits.flushRate.collection.max": 0.5}
    with RunningServer(tmp_path / "data", settings) as server:
        run = subprocess.run(
            [python, "-c", RETRIES, server.uri],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    # One flush in two seconds, two queries a second, with two of them free at once.
    assert seen["flushes"][1] > 0.5
    assert seen["queries"] > 1.5
    assert seen["code"] == 9
    assert (
        "quota exceeded[reason=access has been disabled by the administrator]" in (seen["message"])
    )


class Store:
    """A collection filled through the RESTful API."""

    def __init__(self, server: RunningServer) -> None:
        self.client = RestClient(server.uri)
        self._next = 0

    def create(self) -> None:
        fields = [
            {"fieldName": "id", "dataType": "Int64", "isPrimary": True},
            {
                "fieldName": "v",
                "dataType": "FloatVector",
                "elementTypeParams": {"dim": str(DIMENSION)},
            },
        ]
        self.client.call(
            "collections/create", {"collectionName": "things", "schema": {"fields": fields}}
        )

    def insert(self, rows: int) -> None:
        numbers = range(self._next, self._next + rows)
        self._next += rows
        data = [{"id": n, "v": [float(n)] * DIMENSION} for n in numbers]
        self.client.call("entities/insert", {"collectionName": "things", "data": data})

    def delete(self, key: int) -> None:
        self.client.call("entities/delete", {"collectionName": "things", "filter": f"id == {key}"})

    def refusal(self) -> str:
        """Of one row's insert; empty if it is taken."""
        try:
            self.insert(1)
        except ServerError as error:
            return str(error)
        return ""

    def wait(self, what: str, is_so: Callable[[], Any]) -> None:
        deadline = time.monotonic() + SOON_S
        while not is_so():
            assert time.monotonic() < deadline, what
            time.sleep(INTERVAL_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    running: list[RunningServer] = []
    stores: list[Store] = []

    def start(**settings: object) -> Store:
        interval = {"quotaAndLimits.quotaCenterCollectInterval": INTERVAL_S}
        given = {key.replace("_", "."): value for key, value in settings.items()}
        server = RunningServer(tmp_path / "data", {**interval, **given})
        running.append(server)
        server.start()
        store = Store(server)
        stores.append(store)
        store.create()
        return store

    yield start
    for store in stores:
        store.client.close()
    for server in running:
        server.stop()


def test_a_rate_of_writes_is_held(start: Callable[..., Store]) -> None:
    store = start(quotaAndLimits_dml_enabled=True, quotaAndLimits_dml_insertRate_collection_max=0.1)
    store.insert(400)  # about 0.4 MB: more than a second's worth, which is owed then
    refused = store.refusal()
    assert "rate limit exceeded[rate=0.1]" in refused
    assert "(code 8)" in refused
    store.wait("writes go on", lambda: not store.refusal())


def test_writes_stop_when_memory_runs_short_and_go_on_when_there_is_some(
    start: Callable[..., Store],
) -> None:
    store = start(memory_limitBytes=8 << 20, streaming_growingMemoryRatio=1)
    store.wait("memory runs short", lambda: _fill(store))
    refused = store.refusal()
    assert "quota exceeded[reason=memory quota exceeded" in refused
    assert "(code 9)" in refused
    store.client.call("collections/flush", {"collectionName": "things"})
    store.wait("writes go on", lambda: not store.refusal())


def _fill(store: Store) -> bool:
    """Whether the coordinator has noticed; else another half megabyte."""
    try:
        store.insert(500)
    except ServerError as error:
        return "memory quota exceeded" in str(error)
    return False


def test_a_quota_of_disk_stops_inserts_but_no_deletes(start: Callable[..., Store]) -> None:
    store = start(quotaAndLimits_limitWriting_diskProtection_diskQuotaPerCollection=0.5)
    store.insert(600)
    assert not store.refusal(), "what is growing doesn't count"
    store.client.call("collections/flush", {"collectionName": "things"})
    store.wait("the quota is noticed", store.refusal)
    assert "quota exceeded[reason=disk quota exceeded" in store.refusal()
    store.delete(1)
    changed = {"collection.diskProtection.diskQuota.mb": "5"}
    store.client.call(
        "collections/alter_properties", {"collectionName": "things", "properties": changed}
    )
    store.wait("writes go on", lambda: not store.refusal())
