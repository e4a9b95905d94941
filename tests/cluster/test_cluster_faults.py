"""A cluster under load survives the sudden death, and the long silence, of any of its processes.

Nothing acknowledged is lost or doubled, a failed write is whole or absent, a Strong read sees all
that was acknowledged before it, and the cluster is healthy by itself at the end.
``CHAOS_S`` is the length of the part with random kills, ``CHAOS_SEED`` its seed.
"""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.backends import WOODPECKER
from tests.cluster.harness import RunningCluster, cluster_on
from tests.crash.load import SteadyLoad

pytestmark = pytest.mark.faults

CHAOS_S = float(os.environ.get("CHAOS_S", "40"))
CHAOS_SEED = int(os.environ.get("CHAOS_SEED", "1"))
PAUSE_S = (2.0, 5.0)
TTL_S = 3
FROZEN_S = 2.5 * TTL_S
SETTINGS: dict[str, object] = {
    "common.session.ttl": TTL_S,
    "dataCoord.minSegmentNumRowsToEnableIndex": 200,
    "log.level": "info",
}
ROLES = ("proxy", "coordinator", "streaming", "query", "data")


def victim(cluster: RunningCluster, role: str, chosen: random.Random) -> str:
    """A process of the role; of the coordinators the one that leads."""
    if role == "coordinator":
        return cluster.leader()
    return str(chosen.choice([p["name"] for p in cluster.of_role(role) if p["pid"]]))


def kill_at_random(cluster: RunningCluster, load: SteadyLoad) -> dict[str, float]:
    """Each role in turn, in a new random order each time; the longest gap in writes by role."""
    chosen = random.Random(CHAOS_SEED)
    worst: dict[str, float] = {}
    deadline = time.monotonic() + CHAOS_S
    while time.monotonic() < deadline:
        for role in chosen.sample(ROLES, len(ROLES)):
            cluster.kill(victim(cluster, role, chosen))
            time.sleep(chosen.uniform(*PAUSE_S))
            worst[role] = max(worst.get(role, 0.0), load.recovers(10))
    return worst


def freeze(cluster: RunningCluster, load: SteadyLoad, name: str) -> float:
    pid = cluster.pause(name)
    try:
        time.sleep(FROZEN_S)
    finally:
        cluster.resume(pid)
    return load.recovers()


def test_any_process_may_die_or_fall_silent_under_load(
    etcd: Any, minio: Any, tmp_path: Path
) -> None:
    servers = {"etcd": etcd, "minio": minio}
    with (
        cluster_on(tmp_path / "cluster", WOODPECKER, servers, settings=SETTINGS) as cluster,
        SteadyLoad(cluster.uri, tmp_path, CHAOS_SEED) as load,
    ):
        for role, gap_s in kill_at_random(cluster, load).items():
            print(f"{role} killed: writes were away for at most {gap_s:.1f} s")
        cluster.wait_until_ready()
        owner = next(p["name"] for p in cluster.of_role("streaming") if p["owns"])
        for name in (owner, cluster.leader()):
            gap_s = freeze(cluster, load, name)
            print(f"{name} frozen for {FROZEN_S} s: writes were away for {gap_s:.1f} s")
        cluster.wait_until_ready()
        print(load.finish())
