"""Every process of a cluster is replaced under load: by itself, and by one of the next version."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.backends import WOODPECKER
from tests.cluster.clients import run_client
from tests.cluster.harness import PAIRS, SINGLES, RunningCluster, cluster_on
from tests.cluster.newer import NewerProcess, build_newer
from tests.cluster.programs import path_with
from tests.cluster.test_replicas import reading
from tests.crash.load import SteadyLoad

SETTINGS: dict[str, object] = {"log.level": "info"}
ORDER = ("coordinator", "data", "query", "streaming", "proxy")


def test_every_process_is_restarted_in_order_under_load(
    etcd: Any, minio: Any, tmp_path: Path
) -> None:
    servers = {"etcd": etcd, "minio": minio}
    path = path_with(tmp_path / "bin", ["nginx"])
    with (
        cluster_on(tmp_path / "c", WOODPECKER, servers, PAIRS, SETTINGS, path) as cluster,
        SteadyLoad(cluster.uri, tmp_path) as load,
        reading(cluster, tmp_path, replicas=2) as reads,
    ):
        reads.go_on()
        for role in ORDER:
            for name in [str(p["name"]) for p in cluster.of_role(role)]:
                cluster.restart(name)
                gap_s = load.recovers(10)
                print(f"{name} restarted: writes were away for at most {gap_s} s,", reads.last)
                reads.go_on(20)
        tally = reads.finish()
        print("reads:", tally)
        print("writes:", load.finish())
        assert tally["failed"] == tally["wrong"] == 0, tally
    for log in sorted(cluster.directory.glob("*-?.log")):
        assert "not everything was handed over" not in log.read_text(), log.name


def answers(uri: str) -> Any:
    return json.loads(run_client("answers.py", uri))


def test_two_versions_work_together_whichever_role_has_which(
    etcd: Any, minio: Any, tmp_path: Path
) -> None:
    """An upgrade, role by role: each step adds a process of the next version and takes the old
    one's work away; clients go through proxies of both versions after each."""
    build = build_newer(tmp_path / "build")
    servers = {"etcd": etcd, "minio": minio}
    with (
        cluster_on(tmp_path / "c", WOODPECKER, servers, SINGLES, SETTINGS) as cluster,
        ExitStack() as newer,
    ):
        settings = {"mq.type": "woodpecker", **cluster.settings}
        expected = answers(cluster.uri)
        assert expected["count"] == expected["expected_count"]

        proxy = newer.enter_context(NewerProcess(build, "proxy", settings, tmp_path))
        assert answers(proxy.uri) == expected
        assert "added method not known" in proxy.log

        for role in ("query", "streaming", "data", "coordinator"):
            process = newer.enter_context(NewerProcess(build, role, settings, tmp_path))
            cluster.drain(f"{role}-1")
            assert answers(proxy.uri) == expected, f"{role} is of the next version"
            assert answers(cluster.uri) == expected, f"{role} is, the proxy is not"
            if role == "streaming":
                assert "added method called" in process.log

        # And back: processes of this version among those of the next one.
        for role in ("coordinator", "data", "streaming", "query"):
            cluster.add(role)
        _wait_for_states(cluster)
        newer.pop_all().close()
        assert answers(cluster.uri) == expected


def _wait_for_states(cluster: RunningCluster) -> None:
    cluster.wait_for(
        "processes of this version",
        lambda all_: all(p["state"] in {"serving", "standby", "leading"} for p in all_),
    )
