"""Two servers on one storage: the second stands by, takes over, and the first can do no harm."""

import os
import signal
import time
from pathlib import Path
from uuid import uuid4

import pytest

from elanus.cli.rest_client import RestClient, ServerError
from tests.backends import KAFKA, PULSAR, WOODPECKER, Combination, servers_of, settings_of
from tests.server import RunningServer

LEASE_S = 3
NAME = "things"


def insert(client: RestClient, *ids: int) -> None:
    rows = [{"id": number, "vector": [number, 1.0]} for number in ids]
    client.call("entities/insert", {"collectionName": NAME, "data": rows})


def ids_of(client: RestClient) -> list[int]:
    query = {
        "collectionName": NAME,
        "filter": "id >= 0",
        "outputFields": ["id"],
        "limit": 1000,
        "consistencyLevel": "Strong",
    }
    return sorted(row["id"] for row in client.call("entities/query", query))


@pytest.mark.parametrize("combination", [WOODPECKER, KAFKA, PULSAR], ids=str)
def test_a_paused_server_finds_itself_replaced(
    combination: Combination, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    servers = servers_of(combination, request)
    settings = settings_of(combination, servers, f"takeover{uuid4().hex[:8]}")
    settings["common.session.ttl"] = LEASE_S
    first = RunningServer(tmp_path / "first", settings)
    second = RunningServer(tmp_path / "second", settings)
    with first, second.starting():
        assert first.process is not None
        assert second.process is not None
        client = RestClient(first.uri)
        client.call("collections/create", {"collectionName": NAME, "dimension": 2})
        insert(client, 1, 2, 3)
        os.kill(first.process.pid, signal.SIGSTOP)
        second.wait_until_healthy()  # once the first one's lease has run out
        successor = RestClient(second.uri)
        assert ids_of(successor) == [1, 2, 3]
        insert(successor, 4)
        os.kill(first.process.pid, signal.SIGCONT)
        with pytest.raises(ServerError):
            insert(client, 666)
        with pytest.raises(ServerError):
            ids_of(client)
        insert(successor, 5)
        assert ids_of(successor) == [1, 2, 3, 4, 5]
        successor.close()
        client.close()
        second.kill()
        first.wait_until_healthy()  # it stands by, and is the next to serve
        client = RestClient(first.uri)
        deadline = time.monotonic() + 60
        while True:
            try:
                assert ids_of(client) == [1, 2, 3, 4, 5]
                break
            except ServerError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        insert(client, 6)
        client.close()
