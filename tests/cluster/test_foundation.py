"""A cluster that is given nothing starts what it stands on, and watches it as its own processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.clients import run_client
from tests.cluster.harness import RunningCluster
from tests.cluster.programs import path_with

pytestmark = pytest.mark.services

COUNTS = {"proxy": 2, "coordinator": 1, "streaming": 1, "query": 1, "data": 1}
PROGRAMS = {"etcd", "objects", "balancer"}


def check_answers(cluster: RunningCluster) -> None:
    answers = json.loads(run_client("answers.py", cluster.uri))
    assert answers["count"] == answers["expected_count"]


def test_it_starts_and_keeps_alive_what_it_stands_on(tmp_path: Path) -> None:
    environment = path_with(tmp_path / "bin", ["etcd", "minio", "nginx"])
    cluster = RunningCluster(tmp_path / "cluster", {}, COUNTS, environment)
    with cluster:
        assert {p["name"] for p in cluster.status() if "node_id" not in p} == PROGRAMS
        check_answers(cluster)
        run_client("spread.py", cluster.uri)
        for name in PROGRAMS:
            killed = cluster.kill(name)
            cluster.wait_for(
                f"{name} again",
                lambda all_, name=name, killed=killed: any(  # type: ignore[misc]
                    p["name"] == name and p["pid"] != killed and p["state"] == "serving"
                    for p in all_
                ),
            )
        cluster.wait_until_ready()
        check_answers(cluster)
        added = cluster.add("proxy")
        cluster.wait_until_ready()
        cluster.drain("proxy-1")
        cluster.drain("proxy-2")
        assert [p["name"] for p in cluster.of_role("proxy")] == [added]
        check_answers(cluster)
    with cluster:
        assert "spread" in run_client("list_collections.py", cluster.uri).split()


def test_without_an_object_store_and_nginx_it_shares_a_directory_and_a_port(tmp_path: Path) -> None:
    environment = path_with(tmp_path / "bin", ["etcd"])
    cluster = RunningCluster(tmp_path / "cluster", {}, COUNTS, environment)
    with cluster:
        assert [p["name"] for p in cluster.status() if "node_id" not in p] == ["etcd"]
        check_answers(cluster)
        run_client("spread.py", cluster.uri)
    with cluster:
        assert "spread" in run_client("list_collections.py", cluster.uri).split()
        check_answers(cluster)


def test_without_etcd_it_says_what_to_do(tmp_path: Path) -> None:
    started = subprocess.run(
        [*(sys.executable, "-m", "elanus.cli.main", "cluster", "up"), "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, **path_with(tmp_path / "bin", [])},
        timeout=60,
    )
    assert started.returncode == 1
    assert "install it" in started.stderr
    assert "--etcd host:port" in started.stderr
