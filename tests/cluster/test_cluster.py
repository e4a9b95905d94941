"""A cluster behaves as one server: through nginx and any proxy, on every log, and as standalone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backends import KAFKA, PULSAR, WOODPECKER, Combination, servers_of
from tests.cluster.clients import CLIENT, run_client
from tests.cluster.harness import PAIRS, READY, RunningCluster, cluster_on
from tests.cluster.programs import path_with
from tests.crash.load import SteadyLoad
from tests.server import FREE_FLUSHES, RunningServer, free_port

ROOT = Path(__file__).parents[2]
REPRESENTATIVE = ("test_hello_milvus.py", "test_consistency.py", "test_quickstart.py")
"""Files of the conformance suite for logs of which only a part is run each time."""

SETTINGS: dict[str, object] = {"log.level": "info", **FREE_FLUSHES}


@pytest.fixture(scope="module", autouse=True)
def _client() -> None:
    if not CLIENT.exists():
        pytest.skip("pymilvus 2.6 is not installed: run `make clients`")


@pytest.fixture(scope="module")
def cluster(
    etcd: Any, minio: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    directory = tmp_path_factory.mktemp("cluster") / "cluster"
    servers = {"etcd": etcd, "minio": minio}
    path = path_with(directory.parent / "bin", ["nginx"])
    with cluster_on(directory, WOODPECKER, servers, settings=SETTINGS, environment=path) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _logs_of_failures(request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed and "cluster" in request.fixturenames:
        print(request.getfixturevalue("cluster").logs())


def conform(cluster: RunningCluster, *files: str) -> None:
    """Run the conformance suite, or some of its files, through a cluster."""
    words = [f"client/{file}" for file in files] or ["client"]
    run = subprocess.run(
        [CLIENT, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider", *words],
        cwd=ROOT / "tests" / "conformance",
        env={**os.environ, "ELANUS_URI": cluster.uri, "ELANUS_OBJECTS": cluster.objects_url},
        capture_output=True,
        text=True,
        timeout=1_800,
    )
    print(run.stdout[-20_000:], run.stderr[-2_000:], sep="\n")
    assert run.returncode == 0


def test_the_conformance_suite_passes(cluster: RunningCluster) -> None:
    conform(cluster)


def test_it_answers_as_standalone_does(cluster: RunningCluster, tmp_path: Path) -> None:
    with RunningServer(tmp_path / "data") as server:
        alone = run_client("answers.py", server.uri)
    assert json.loads(run_client("answers.py", cluster.uri)) == json.loads(alone)


def test_a_change_through_one_proxy_is_seen_at_once_through_another(
    cluster: RunningCluster,
) -> None:
    """Proxies share a port; each of many connections is served by one of them."""
    print(run_client("changes.py", cluster.uri))


def test_the_status_tells_of_every_process(cluster: RunningCluster) -> None:
    told = subprocess.run(
        [
            *(sys.executable, "-m", "elanus.cli.main", "cluster", "status", "--json"),
            *("--data-dir", str(cluster.directory)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    all_processes = json.loads(told.stdout)["processes"]
    processes = [p for p in all_processes if p["role"] in PAIRS]
    assert [p["name"] for p in all_processes if p not in processes] == ["balancer"]
    assert {role: sum(p["role"] == role for p in processes) for role in PAIRS} == PAIRS
    for process in processes:
        assert process["state"] in READY
        os.kill(process["pid"], 0)
        assert ":" in process["address"]
        assert process["node_id"] > 0
    leaders = [p for p in processes if p["state"] == "leading"]
    assert len(leaders) == 1
    assert leaders[0]["term"] > 0
    assert all(p["owns"] for p in processes if p["role"] == "proxy")


def test_nodes_are_drained_and_added_under_load(cluster: RunningCluster, tmp_path: Path) -> None:
    with SteadyLoad(cluster.uri, tmp_path) as load:
        owner = next(p["name"] for p in cluster.of_role("streaming") if p["owns"])
        cluster.drain(owner)
        print(f"{owner} drained: writes were away for {load.recovers()} s")
        holder = cluster.wait_for(
            "segments on a query node",
            lambda all_: any(p["role"] == "query" and p.get("owns") for p in all_),
        )
        name = next(str(p["name"]) for p in holder if p["role"] == "query" and p.get("owns"))
        cluster.drain(name)
        print(f"{name} drained: writes were away for {load.recovers()} s")
        cluster.add("query")
        cluster.add("streaming")
        run_client("spread.py", cluster.uri)
        cluster.wait_for(
            "a new streaming node with a log",
            lambda all_: sum(p["role"] == "streaming" and bool(p.get("owns")) for p in all_) == 2,
        )
        print(load.finish())
    log = (cluster.directory / f"{owner}.log").read_text()
    assert "not everything was handed over" not in log
    assert "not everything was handed over" not in (cluster.directory / f"{name}.log").read_text()


@pytest.mark.parametrize("combination", [KAFKA, PULSAR], ids=str)
@pytest.mark.parametrize(
    "files", [REPRESENTATIVE, pytest.param((), marks=pytest.mark.faults)], ids=["part", "whole"]
)
@pytest.mark.timeout(3_600)
def test_other_logs_carry_a_cluster(
    combination: Combination,
    files: tuple[str, ...],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    servers = servers_of(combination, request)
    place = tmp_path / f"cluster-{free_port()}"
    path = path_with(tmp_path / "bin", ["nginx"])
    with (
        cluster_on(place, combination, servers, PAIRS, SETTINGS, path) as cluster,
        RunningServer(tmp_path / "data") as server,
    ):
        alone = run_client("answers.py", server.uri)
        assert json.loads(run_client("answers.py", cluster.uri)) == json.loads(alone)
        conform(cluster, *files)
