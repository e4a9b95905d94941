"""A query node that falls silent holds no search of what another node has, and fails those of what
it alone has in time."""

import json
from pathlib import Path
from typing import Any

from tests.backends import WOODPECKER
from tests.cluster.clients import run_client
from tests.cluster.harness import Processes, cluster_on

COUNTS = {"proxy": 1, "coordinator": 1, "streaming": 1, "query": 2, "data": 1}
TIMEOUT_S = "10"
SETTINGS: dict[str, object] = {
    # Nobody is to take over from who is silent.
    "common.session.ttl": 600,
    "cluster.silenceTimeout": 0,
    "dataCoord.compaction.enableAutoCompaction": "false",
}
UNAVAILABLE = "code 2"


def test_a_frozen_query_node_holds_no_search(etcd: Any, minio: Any, tmp_path: Path) -> None:
    servers = {"etcd": etcd, "minio": minio}
    with cluster_on(tmp_path / "c", WOODPECKER, servers, COUNTS, SETTINGS) as cluster:

        def search(name: str, times: int) -> Any:
            words = ("search", name, str(times), TIMEOUT_S)
            return json.loads(run_client("frozen_search.py", cluster.uri, *words))

        run_client("frozen_search.py", cluster.uri, "fill", "double", "2")
        run_client("frozen_search.py", cluster.uri, "fill", "single", "1")
        assert search("double", 40)["outcome"] == {"right": 40}

        def segments(all_: Processes) -> dict[str, int]:
            return {p["name"]: len(p.get("owns", ())) for p in all_ if p["role"] == "query"}

        held = segments(
            cluster.wait_for("all copies", lambda all_: sum(segments(all_).values()) == 3)
        )
        holder = max(held, key=lambda name: held[name])
        for name in held:
            pid = cluster.pause(name)
            try:
                assert search("double", 60)["outcome"] == {"right": 60}
                single = search("single", 2)
            finally:
                cluster.resume(pid)
            if name == holder:
                assert single["outcome"] == {UNAVAILABLE: 2}, single
                assert all("query node" in message for message in single["messages"]), single
            else:
                assert single["outcome"] == {"right": 2}, single
        assert search("single", 20)["outcome"] == {"right": 20}
