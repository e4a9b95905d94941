"""Stops, kills and starts of a real server, and starts that have to be refused."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient

ROWS = 3_000
DIMENSION = 16


def _wait_for_flush(server: RunningServer) -> None:
    """The RESTful flush returns before the segment is in the object store."""
    deadline = time.monotonic() + 20
    while "flushed " not in server.log_tail():
        assert time.monotonic() < deadline, server.log_tail()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a killed server with a loaded collection: 2,000 rows were flushed, 1,000
    rows and two deletes are only in the log."""
    directory = tmp_path_factory.mktemp("prepared") / "data"
    with RunningServer(directory) as running:
        client = RestClient(running.uri)
        client.call("collections/create", {"collectionName": "things", "dimension": DIMENSION})
        vectors = np.random.default_rng(7).random((ROWS, DIMENSION), dtype=np.float32)
        rows = [{"id": n, "vector": vector} for n, vector in enumerate(vectors)]
        client.call("entities/insert", {"collectionName": "things", "data": rows[:2_000]})
        client.call("collections/flush", {"collectionName": "things"})
        _wait_for_flush(running)
        client.call("entities/insert", {"collectionName": "things", "data": rows[2_000:]})
        client.call("entities/delete", {"collectionName": "things", "filter": "id in [5, 2500]"})
        client.close()
        running.kill()
    return directory


@pytest.fixture
def server(prepared: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """Not started yet, on a copy of the prepared directory."""
    running = RunningServer(Path(shutil.copytree(prepared, tmp_path / "data")))
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.kill()


def _assert_serves(server: RunningServer) -> None:
    """Asked once, without patience: what is healthy answers."""
    client = RestClient(server.uri)
    state = client.call("collections/get_load_state", {"collectionName": "things"})
    assert state["loadState"] == "LoadStateLoaded"
    counted = client.call(
        "entities/query",
        {"collectionName": "things", "filter": "", "outputFields": ["count(*)"]},
    )
    assert counted == [{"count(*)": ROWS - 2}]
    vectors = np.random.default_rng(7).random((ROWS, DIMENSION), dtype=np.float32)
    hits = client.call(
        "entities/search", {"collectionName": "things", "data": vectors[[17, 2_017]], "limit": 1}
    )
    assert [hit["id"] for hit in hits] == [17, 2_017]
    client.close()


def _refusal(server: RunningServer) -> str:
    """Start ``server``, which must end by itself with an error; what it said."""
    with pytest.raises(RuntimeError):
        server.start()
    assert server.process is not None
    assert server.process.returncode not in (0, None)
    said = server.log_tail()
    assert "Traceback" not in said, said
    return said


def test_starts_after_a_kill_and_after_an_orderly_stop_serve_at_once(
    server: RunningServer,
) -> None:
    for _ in range(2):  # the prepared directory is that of a killed server
        server.start()
        _assert_serves(server)
        assert server.stop() == 0, server.log_tail()


def test_a_second_server_on_the_directory_is_refused_with_the_holder(
    server: RunningServer,
) -> None:
    server.start()
    assert server.process is not None
    said = _refusal(RunningServer(server.directory))
    assert f"in use by process {server.process.pid}" in said, said
    _assert_serves(server)


def test_a_lost_part_of_the_storage_refuses_the_start(server: RunningServer) -> None:
    for part in ("objects", "wal"):
        directory, aside = server.directory / part, server.directory.parent / part
        directory.rename(aside)
        said = _refusal(server)
        assert f"{directory} is empty or has lost its mark" in said, said
        shutil.rmtree(directory, ignore_errors=True)
        aside.rename(directory)
    server.start()
    _assert_serves(server)


def test_lost_metadata_refuses_the_start(server: RunningServer) -> None:
    for path in server.directory.glob("metadata.db*"):
        path.unlink()
    assert "metadata has no cluster id" in _refusal(server)
