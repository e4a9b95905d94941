"""What a search costs more in a cluster than in one process, in the same run.

    python -m benchmarks.cluster [--rounds 500]

Starts a standalone server on a directory, and a cluster (one process of each role) on real etcd and
MinIO with its log on the objects. Both load the bundled words (one shard, one sealed segment with
an HNSW index); then one client searches both by turns, so that what else the machine does hits
both alike. Prints the difference of the medians for each kind of search.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.backends import WOODPECKER
from tests.cluster.harness import SINGLES, RunningCluster, cluster_on
from tests.server import RunningServer
from tests.services.etcd import Etcd
from tests.services.minio import MinioServer

CLIENT = Path(__file__).parents[1] / ".clients" / "2.6" / "bin" / "python"
SCRIPT = Path(__file__).parent / "cluster_client.py"
GOAL_MS = 1.5


def load_sample(uri: str) -> None:
    """The bundled words, indexed."""
    command = (sys.executable, "-m", "elanus.cli.main", "demo", "--uri", uri)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(rounds: int, uris: list[str]) -> dict[str, list[list[float]]]:
    """Latencies in ms by kind of search, then by server."""
    run = subprocess.run(
        [CLIENT, SCRIPT, str(rounds), *uris], check=True, stdout=subprocess.PIPE, text=True
    )
    latencies: dict[str, list[list[float]]] = json.loads(run.stdout)
    return latencies


def cpu_s(pid: int) -> float:
    """CPU time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def report(latencies: dict[str, list[list[float]]]) -> None:
    print("| search | standalone p50, ms | cluster p50, ms | more, ms | p90: more, ms |")
    print("|---|---|---|---|---|")
    for kind, (alone, cluster) in latencies.items():
        median = [statistics.median(values) for values in (alone, cluster)]
        p90 = [statistics.quantiles(values, n=10)[-1] for values in (alone, cluster)]
        print(
            f"| {kind} | {median[0]:.2f} | {median[1]:.2f} | {median[1] - median[0]:.2f} "
            f"| {p90[1] - p90[0]:.2f} |"
        )
    print(f"Goal: at most {GOAL_MS} ms more at p50.")


def run(directory: Path, rounds: int) -> None:
    with (
        Etcd(directory / "etcd") as etcd,
        MinioServer(directory / "minio") as minio,
        RunningServer(directory / "standalone") as alone,
        cluster_on(
            directory / "cluster", WOODPECKER, {"etcd": etcd, "minio": minio}, SINGLES
        ) as cluster,
    ):
        uris = [alone.uri, cluster.uri]
        for uri in uris:
            load_sample(uri)
        before = cpu_by_role(cluster, alone)
        started_s = time.monotonic()
        latencies = measure(rounds, uris)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", end=", ")
        print(f"{rounds} rounds in {time.monotonic() - started_s:.0f} s\n")
        report(latencies)
        searches = sum(len(by_server[1]) for by_server in latencies.values())
        after = cpu_by_role(cluster, alone)
        print("\nCPU of the processes, ms a search, warm-up included:", end=" ")
        print({role: round((after[role] - before[role]) / searches * 1e3, 2) for role in after})


def cpu_by_role(cluster: RunningCluster, alone: RunningServer) -> dict[str, float]:
    assert alone.process is not None
    pids = {"standalone": alone.process.pid, **{p["role"]: int(p["pid"]) for p in cluster.status()}}
    return {role: cpu_s(pid) for role, pid in pids.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=500)
    with tempfile.TemporaryDirectory(prefix="elanus-bench-") as directory:
        run(Path(directory), parser.parse_args().rounds)


if __name__ == "__main__":
    main()
