"""A cluster under load survives whatever happens to its processes and to what it depends on.

Eight clients insert, upsert, delete, query and search through two proxies behind nginx, while
segments are flushed, compacted and indexed. Processes are killed and frozen, a machine is lost, the
metadata, the objects and the log are out of reach for a while. Every key's history must be
linearizable: nothing acknowledged is lost, doubled or rises again, no Strong read is stale. Errors
say to try again, and the cluster is healthy by itself at the end.

Prints what each kind of fault has cost. ``CHAOS_S`` is the length of the long run, ``CHAOS_SEED``
its seed, ``CHAOS_CUT_S`` how long a service is out of reach in it, ``CHAOS_WAL`` its log.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from elanus.config.settings import Settings
from tests.backends import KAFKA, WOODPECKER, Combination, settings_of
from tests.cluster.faults import Faults
from tests.cluster.harness import PAIRS, RunningCluster, adjoining_ports
from tests.cluster.load import ChaosLoad
from tests.deploy.shipped import nginx_files
from tests.services.ports import free_port
from tests.services.tcp_proxy import TcpProxy

Own = Callable[..., Any]

CHAOS_S = float(os.environ.get("CHAOS_S", "120"))
CHAOS_SEED = int(os.environ.get("CHAOS_SEED", "1"))
CHAOS_CUT_S = float(os.environ.get("CHAOS_CUT_S", "30"))
CHAOS_WAL = {"woodpecker": WOODPECKER, "kafka": KAFKA}[os.environ.get("CHAOS_WAL", "woodpecker")]
LEASE_S = float(Settings().common.session.ttl)
SHORT_CUT_S = LEASE_S + 2
CALM_S = 3.0
SETTINGS: dict[str, object] = {
    "dataCoord.minSegmentNumRowsToEnableIndex": 200,
    "log.level": "info",
    "proxy.reusePort": "false",
}


@contextmanager
def services(
    combination: Combination, own_service: Own
) -> Iterator[tuple[dict[str, object], dict[str, TcpProxy]]]:
    """Servers of this test's own: the settings that lead there, through the cables."""
    from tests.services.etcd import Etcd
    from tests.services.kafka import Kafka
    from tests.services.minio import MinioServer

    servers: dict[str, Any] = {"etcd": own_service(Etcd), "minio": own_service(MinioServer)}
    with ExitStack() as opened:
        cables = {
            name: opened.enter_context(TcpProxy(server.endpoint))
            for name, server in servers.items()
        }
        through = {name: cable.address for name, cable in cables.items()}
        if combination.mq == "kafka":
            ports = {"broker": free_port(), "controller": free_port()}
            cable = opened.enter_context(TcpProxy(f"127.0.0.1:{ports['broker']}"))

            class Cabled(Kafka):
                """Clients go on to what the broker says, which is the cable, too."""

                advertised = cable.address

            servers["kafka"] = own_service(Cabled, ports=ports)
            cables["kafka"] = cable
        settings = settings_of(combination, servers, "chaos", through=through)
        if combination.mq == "kafka":
            settings["kafka.brokerList"] = cables["kafka"].address
        yield settings, cables


def endure(
    combination: Combination,
    own_service: Own,
    directory: Path,
    run: Callable[[Faults], None],
) -> None:
    """Faults as ``run`` has them come, then the verdict."""
    from tests.services.nginx import Nginx

    with services(combination, own_service) as (settings, cables):
        ports = adjoining_ports(PAIRS["proxy"])
        nginx = own_service(Nginx, files=nginx_files("elanus.conf", ports))
        with (
            RunningCluster(
                directory / "cluster", {**settings, **SETTINGS}, port=ports[0]
            ) as cluster,
            ChaosLoad(nginx.address, directory, CHAOS_SEED) as load,
        ):
            faults = Faults(cluster, load, cables, CHAOS_SEED, lease_s=LEASE_S)
            started_s = time.monotonic()
            try:
                run(faults)
            finally:
                print(faults.table())
            cluster.wait_until_ready()
            time.sleep(CALM_S)
            wrong = load.finish()
            print(f"{time.monotonic() - started_s:.0f} s: {load.history.summary()}")
            assert not wrong, "\n".join(wrong)


def test_a_few_faults(own_service: Own, tmp_path: Path) -> None:
    def run(faults: Faults) -> None:
        for role in ("coordinator", "streaming", "query", "data", "proxy"):
            faults.kill(role)
        faults.freeze("streaming")
        faults.cut("etcd", SHORT_CUT_S)

    endure(WOODPECKER, own_service, tmp_path, run)


@pytest.mark.faults
@pytest.mark.timeout(CHAOS_S + 900)
def test_every_kind_of_fault_for_long(own_service: Own, tmp_path: Path) -> None:
    endure(CHAOS_WAL, own_service, tmp_path, lambda faults: faults.run(CHAOS_S, CHAOS_CUT_S))
