"""A worker that falls silent is replaced although its lease goes on, and is used again when it is
back. Prints how long it was missed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backends import WOODPECKER
from tests.cluster.clients import run_client
from tests.cluster.harness import Processes, RunningCluster, cluster_on

COUNTS = {"proxy": 1, "coordinator": 1, "streaming": 2, "query": 2, "data": 2}
TIMEOUT_S = "60"
SETTINGS: dict[str, object] = {
    # Whoever takes over can't have waited for the end of a lease.
    "common.session.ttl": 600,
    "dataCoord.compaction.enableAutoCompaction": "false",
}
COLLECTIONS = ("one", "two")
"""Each has one shard and one segment, of which there is one copy."""


def fill(cluster: RunningCluster, name: str) -> None:
    run_client("frozen_search.py", cluster.uri, "fill", name, "1")


def is_found(cluster: RunningCluster, name: str) -> bool:
    words = ("search", name, "3", TIMEOUT_S)
    outcome: Any = json.loads(run_client("frozen_search.py", cluster.uri, *words))["outcome"]
    return bool(outcome == {"right": 3})


def named(processes: Processes, name: str) -> dict[str, Any]:
    return next(each for each in processes if each["name"] == name)


@pytest.mark.timeout(300)
def test_a_silent_worker_of_any_role_is_replaced_and_comes_back(
    etcd: Any, minio: Any, tmp_path: Path
) -> None:
    servers = {"etcd": etcd, "minio": minio}
    with cluster_on(tmp_path / "c", WOODPECKER, servers, COUNTS, SETTINGS) as cluster:
        for name in COLLECTIONS:
            fill(cluster, name)
        for role in ("streaming", "query", "data"):
            members = cluster.of_role(role)
            victim = max(members, key=lambda each: len(each["owns"]))
            assert victim["owns"] or role == "data"
            begin_s = time.monotonic()
            pid = cluster.pause(victim["name"])
            try:
                assert all(is_found(cluster, name) for name in COLLECTIONS)
                found_s = time.monotonic() - begin_s
                cluster.wait_for(
                    f"no session of the silent {role} node",
                    lambda all_, victim=victim: "node_id" not in named(all_, victim["name"]),
                )
                print(f"{role} node frozen: all was found within {found_s:.1f} s")
                fill(cluster, f"beside_{role}")
            finally:
                cluster.resume(pid)
            cluster.wait_for(
                f"a new life of the {role} node",
                lambda all_, victim=victim, pid=pid: (
                    named(all_, victim["name"]).get("node_id", 0) > victim["node_id"]
                    and named(all_, victim["name"])["state"] == "serving"
                    and named(all_, victim["name"])["pid"] == pid
                ),
            )
            assert all(is_found(cluster, name) for name in (*COLLECTIONS, f"beside_{role}"))
        cluster.wait_for(
            "logs on both streaming nodes",
            lambda all_: all(each["owns"] for each in all_ if each["role"] == "streaming"),
        )
