"""A cluster under load survives whatever happens to its processes and to what it depends on.

Eight clients insert, upsert, delete, query and search through two proxies behind nginx, while
segments are flushed, compacted and indexed. Processes are killed and frozen, a machine is lost, the
metadata, the objects and the log are out of reach for a while. Every key's history must be
linearizable: nothing acknowledged is lost, doubled or rises again, no Strong read is stale. Errors
say to try again, and the cluster is healthy by itself at the end.

``CHAOS_S`` is the length of the part with faults, ``CHAOS_SEED`` their seed, ``CHAOS_CUT_S`` how
long a service is out of reach. Prints what each kind of fault has cost.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from elanus.config.settings import Settings
from tests.backends import WOODPECKER, Combination, settings_of
from tests.cluster.faults import Faults
from tests.cluster.harness import PAIRS, RunningCluster, adjoining_ports
from tests.cluster.load import ChaosLoad
from tests.deploy.shipped import nginx_files
from tests.services.tcp_proxy import TcpProxy

pytestmark = pytest.mark.faults

Own = Callable[..., Any]

CHAOS_S = float(os.environ.get("CHAOS_S", "45"))
CHAOS_SEED = int(os.environ.get("CHAOS_SEED", "1"))
CHAOS_CUT_S = float(os.environ.get("CHAOS_CUT_S", "30"))
CALM_S = 3.0
LEASE_S = float(Settings().common.session.ttl)
SETTINGS: dict[str, object] = {
    "dataCoord.minSegmentNumRowsToEnableIndex": 200,
    "log.level": "info",
    "proxy.reusePort": "false",
}


@contextmanager
def services(
    combination: Combination, own_service: Own
) -> Iterator[tuple[dict[str, Any], dict[str, TcpProxy]]]:
    """Servers of this test's own, and the cables to them."""
    from tests.services.etcd import Etcd
    from tests.services.minio import MinioServer

    servers: dict[str, Any] = {"etcd": own_service(Etcd), "minio": own_service(MinioServer)}
    with ExitStack() as opened:
        cables = {
            name: opened.enter_context(TcpProxy(server.endpoint))
            for name, server in servers.items()
        }
        yield servers, cables


def through(cables: Mapping[str, TcpProxy]) -> dict[str, str]:
    return {name: cable.address for name, cable in cables.items()}


def test_nothing_is_lost_whatever_fails(own_service: Own, tmp_path: Path) -> None:
    from tests.services.nginx import Nginx

    with services(WOODPECKER, own_service) as (servers, cables):
        settings = settings_of(WOODPECKER, servers, "chaos", through=through(cables))
        ports = adjoining_ports(PAIRS["proxy"])
        nginx = own_service(Nginx, files=nginx_files("elanus.conf", ports))
        with (
            RunningCluster(
                tmp_path / "cluster", {**settings, **SETTINGS}, port=ports[0]
            ) as cluster,
            ChaosLoad(nginx.address, tmp_path, CHAOS_SEED) as load,
        ):
            faults = Faults(cluster, load, cables, CHAOS_SEED, lease_s=LEASE_S)
            started_s = time.monotonic()
            try:
                faults.run(CHAOS_S, CHAOS_CUT_S)
            finally:
                print(faults.table())
            cluster.wait_until_ready()
            time.sleep(CALM_S)
            wrong = load.finish()
            print(f"{time.monotonic() - started_s:.0f} s: {load.history.summary()}")
            assert not wrong, "\n".join(wrong)
