"""Query nodes of a real cluster die, come and go under searching, and no answer is lost."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.backends import WOODPECKER
from tests.cluster.harness import Processes, RunningCluster, cluster_on

LOAD = Path(__file__).parent / "replica_load.py"
PYTHON = Path(__file__).parents[2] / ".clients" / "2.6" / "bin" / "python"
SEGMENTS = 8
TIMEOUT_S = 300.0
MOVED_WITHIN_S = 30.0
COUNTS = {"proxy": 1, "coordinator": 1, "streaming": 1, "query": 2, "data": 1}
SETTINGS: dict[str, object] = {
    "common.session.ttl": 3,
    "dataCoord.compaction.enableAutoCompaction": "false",
}


class Reads:
    """The tally of ``replica_load.py``, as it grows."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str] = queue.Queue()
        self.last: dict[str, Any] = {}
        self.pump = threading.Thread(target=self._pump)
        self.pump.start()

    def _pump(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _next(self) -> bool:
        line = self._lines.get(timeout=TIMEOUT_S)
        if line:
            self.last = json.loads(line)
        return bool(line)

    def go_on(self, reads: int = 100) -> dict[str, Any]:
        """The tally after so many more reads."""
        while not self._lines.empty():
            assert self._next()
        while not self.last:
            assert self._next()
        wanted = self.last["reads"] + reads
        while self.last["reads"] < wanted:
            assert self._next(), "the client ended"
        return self.last

    def finish(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        while self._next():
            pass
        assert self.process.wait(30) == 0
        return self.last


@contextmanager
def reading(cluster: RunningCluster, directory: Path, replicas: int) -> Iterator[Reads]:
    if not PYTHON.exists():
        pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
    with (
        (directory / "reads.log").open("w+") as errors,
        subprocess.Popen(
            [PYTHON, LOAD, cluster.uri, str(replicas)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        reads = Reads(process)
        try:
            yield reads
        finally:
            process.kill()
            reads.pump.join()
            errors.seek(0)
            print(errors.read()[-3000:])


def held(processes: Processes) -> dict[str, int]:
    """Segments by query node."""
    return {p["name"]: len(p.get("owns", ())) for p in processes if p["role"] == "query"}


def timed(cluster: RunningCluster, what: str, is_so: Callable[[dict[str, int]], bool]) -> float:
    started_s = time.monotonic()
    cluster.wait_for(what, lambda processes: is_so(held(processes)))
    return time.monotonic() - started_s


def test_query_nodes_die_come_and_go_under_searching(etcd: Any, minio: Any, tmp_path: Path) -> None:
    servers = {"etcd": etcd, "minio": minio}
    with (
        cluster_on(tmp_path / "c", WOODPECKER, servers, COUNTS, SETTINGS) as cluster,
        reading(cluster, tmp_path, replicas=2) as reads,
    ):
        reads.go_on()
        assert held(cluster.status()) == {"query-1": SEGMENTS, "query-2": SEGMENTS}

        cluster.kill("query-1")
        print("after a kill:", reads.go_on(300))
        cluster.wait_until_ready()
        restored_s = timed(cluster, "copies made up", lambda h: h["query-1"] == SEGMENTS)
        print(f"copies made up {restored_s:.1f} s after the node was back:", reads.go_on())

        added = cluster.add("query")
        moved_s = timed(cluster, "load moved", lambda h: h.get(added, 0) >= SEGMENTS // 2)
        print(f"load on the new node after {moved_s:.1f} s:", reads.go_on())
        timed(cluster, "superfluous copies gone", lambda h: sum(h.values()) == 2 * SEGMENTS)

        cluster.drain("query-2")
        left = held(cluster.status())
        assert left.get("query-1") == left.get(added) == SEGMENTS, left
        print("after a drain:", reads.go_on())

        tally = reads.finish()
        print("at the end:", tally)
        assert tally["failed"] == tally["wrong"] == 0, tally
        assert moved_s < MOVED_WITHIN_S
