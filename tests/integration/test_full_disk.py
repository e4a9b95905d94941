"""A full data directory: writes are refused, reads go on, nothing acknowledged is lost.

The data directory is a small tmpfs of its own, which takes the right to mount. The oracle is the
list of ids whose inserts the server acknowledged.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server import RunningServer

from elanus.cli.rest_client import RestClient, ServerError

DISK_MB = 28
BALLAST_MB = 12
DIMENSION = 64
BATCH_ROWS = 1_000
ID_PAGE = 10_000
SETTINGS: dict[str, object] = {
    "dataCoord.segment.maxSize": 8,
    "wal.segmentSize": 4 << 20,
    "rootCoord.dmlChannelNum": 2,
    "dataNode.indexBuildThreads": 1,
}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of DISK_MB."""
    directory = tmp_path / "data"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "elanus-test", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        pytest.skip("needs the command mount to make a small file system")
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount a tmpfs (root): {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], timeout=20, check=True)


@pytest.fixture
def server(small_disk: Path) -> Iterator[RunningServer]:
    _occupy(small_disk / "ballast", BALLAST_MB << 20)
    running = RunningServer(small_disk, SETTINGS)
    running.start()
    try:
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.kill()


def _occupy(path: Path, size_bytes: int | None = None) -> None:
    """Write a file of ``size_bytes``, or of all that is free."""
    block = bytes(4096)
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while size_bytes is None or file.tell() < size_bytes:
            file.write(block)


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


class Writer:
    """Inserts batches of rows and remembers what was acknowledged. Ids go up from 0."""

    def __init__(self, server: RunningServer) -> None:
        self._random = np.random.default_rng(5)
        self._next = 0
        self.acknowledged: list[int] = []
        self.client = RestClient(server.uri)

    def insert(self, count: int = BATCH_ROWS) -> None:
        """Raises ServerError on a refusal; the ids are not used again."""
        ids = range(self._next, self._next + count)
        self._next += count
        vectors = self._random.random((count, DIMENSION), dtype=np.float32)
        rows = [{"id": n, "vector": vector} for n, vector in zip(ids, vectors, strict=True)]
        self.client.call("entities/insert", {"collectionName": "things", "data": rows})
        self.acknowledged += ids

    def insert_until_refused(self) -> str:
        """Fill the disk; the refusal's message."""
        for _ in range(1 + (DISK_MB << 20) // (BATCH_ROWS * DIMENSION * 4)):
            try:
                self.insert()
            except ServerError as refusal:
                return str(refusal)
        raise AssertionError("more data went in than there is room for")

    def assert_all_there_once(self) -> None:
        assert self.count() == len(self.acknowledged)
        found: list[int] = []
        for start in range(0, self._next, ID_PAGE):
            body = {
                "collectionName": "things",
                "filter": f"id >= {start} and id < {start + ID_PAGE}",
                "outputFields": ["id"],
                "limit": ID_PAGE,
                "consistencyLevel": "Strong",
            }
            found += [row["id"] for row in self.client.call("entities/query", body)]
        assert sorted(found) == self.acknowledged

    def count(self) -> int:
        body = {
            "collectionName": "things",
            "filter": "",
            "outputFields": ["count(*)"],
            "consistencyLevel": "Strong",
        }
        (row,) = self.client.call("entities/query", body)
        return int(row["count(*)"])

    def search(self) -> list[Any]:
        body = {
            "collectionName": "things",
            "data": self._random.random((2, DIMENSION), dtype=np.float32),
            "limit": 10,
            "consistencyLevel": "Strong",
        }
        return list(self.client.call("entities/search", body))


@pytest.fixture
def writer(server: RunningServer) -> Iterator[Writer]:
    made = Writer(server)
    made.client.call("collections/create", {"collectionName": "things", "dimension": DIMENSION})
    yield made
    made.client.close()


def _assert_clear(message: str) -> None:
    assert "(code 9)" in message, message
    assert "quota exceeded" in message, message
    assert "disk" in message, message


def _fill(server: RunningServer, writer: Writer) -> None:
    """Inserts until one is refused, then takes the last free byte."""
    _assert_clear(writer.insert_until_refused())
    for n in range(3):  # a flush that ends beside us may give some space back
        _occupy(server.directory / f"filler-{n}")
    assert _free_bytes(server.directory) == 0


def _give_space_back(server: RunningServer) -> None:
    for path in (server.directory / "ballast", *server.directory.glob("filler-*")):
        path.unlink(missing_ok=True)


def _start_again(server: RunningServer, writer: Writer) -> None:
    writer.client.close()  # it connects anew with the next call
    server.start()


def _assert_alive(server: RunningServer) -> None:
    assert server.process is not None
    assert server.process.poll() is None, server.log_tail()


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(
    server: RunningServer, writer: Writer
) -> None:
    _fill(server, writer)
    assert len(writer.acknowledged) >= 10 * BATCH_ROWS
    for _ in range(5):
        with pytest.raises(ServerError) as refusal:
            writer.insert()
        _assert_clear(str(refusal.value))
        assert len(writer.search()) == 20
    writer.assert_all_there_once()
    _assert_alive(server)

    _give_space_back(server)
    for _ in range(5):
        writer.insert()
    writer.client.call("collections/create", {"collectionName": "later", "dimension": DIMENSION})
    writer.client.call("collections/flush", {"collectionName": "things"})
    writer.assert_all_there_once()
    assert server.stop() == 0, server.log_tail()
    _start_again(server, writer)
    writer.assert_all_there_once()


def test_definitions_on_a_full_disk_fail_wholly_and_a_kill_loses_nothing(
    server: RunningServer, writer: Writer
) -> None:
    _fill(server, writer)
    refused: list[str] = []
    for n in range(200):  # metadata may have some room left in its files
        name = f"new{n}"
        try:
            writer.client.call(
                "collections/create", {"collectionName": name, "dimension": DIMENSION}
            )
        except ServerError as refusal:
            refused.append(name)
            _assert_clear(str(refusal))
            if len(refused) == 3:
                break
    assert len(refused) == 3
    _assert_alive(server)
    writer.assert_all_there_once()

    server.kill()
    _give_space_back(server)
    _start_again(server, writer)
    writer.assert_all_there_once()
    assert not set(refused) & set(writer.client.call("collections/list", {}))
    for name in refused:
        writer.client.call("collections/create", {"collectionName": name, "dimension": DIMENSION})
    writer.insert()
    writer.assert_all_there_once()


def test_a_start_on_a_full_disk_loses_nothing(server: RunningServer, writer: Writer) -> None:
    _fill(server, writer)
    server.kill()
    for n in range(3, 5):
        _occupy(server.directory / f"filler-{n}")
    try:
        _start_again(server, writer)
    except RuntimeError:
        assert "quota exceeded" in server.log_tail()
        assert "Traceback" not in server.log_tail()
    else:
        assert len(writer.search()) == 20
        writer.assert_all_there_once()
        server.kill()
    _give_space_back(server)
    _start_again(server, writer)
    writer.assert_all_there_once()
    writer.insert()
    assert len(writer.search()) == 20


@pytest.mark.parametrize("room_kb", [8, 16])
def test_a_start_with_hardly_any_room_ends_well_once_there_is_room(
    server: RunningServer, writer: Writer, room_kb: int
) -> None:
    """There is room for the first steps of a start and none for the next ones."""
    _fill(server, writer)
    server.kill()
    (server.directory / "filler-0").unlink()
    (server.directory / "ballast").unlink()
    _occupy(server.directory / "ballast", _free_bytes(server.directory) - (room_kb << 10))
    writer.client.close()
    started_at = len(server.log_tail())
    server.start(wait=False)
    assert server.process is not None
    deadline = time.monotonic() + 20
    while server.process.poll() is None and time.monotonic() < deadline:
        said = server.log_tail()[started_at:]
        if any(word in said for word in ("can't be opened yet", "waiting for", "is ready")):
            break
        time.sleep(0.02)
    if server.process.poll() is not None:
        assert "cannot start: no space left" in server.log_tail()
        _give_space_back(server)
        server.start()
    else:
        _give_space_back(server)
        server.wait_until_healthy()
    writer.assert_all_there_once()
    writer.insert()
    writer.assert_all_there_once()
