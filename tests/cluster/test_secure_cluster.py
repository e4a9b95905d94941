"""A cluster whose roles speak TLS with each other, and whose proxies share a rate."""

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from elanus.cli.cluster import certificate_settings
from elanus.cli.rest_client import RestClient, ServerError
from elanus.errors import NotServed, Unavailable
from elanus.roles.cluster.peers import Peers
from elanus.services.interfaces import NodeService
from elanus.services.messages import NodeStatus
from elanus.services.rpc.client import stub
from elanus.transport.tls import TlsFiles
from tests.backends import WOODPECKER, settings_of
from tests.cluster.clients import run_client
from tests.cluster.harness import SINGLES, RunningCluster
from tests.server import plain_environment
from tests.services.certificates import Certificates, make_certificates

TTL_S = 4
RATE_QPS = 20
COUNTED_S = 4.0
CLIENTS = 12


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates") / "theirs")


def directory_of(certificates: Certificates, directory: Path) -> Path:
    """The certificates as ``elanus cluster up --certificates`` wants them."""
    directory.mkdir()
    shutil.copy(certificates.server_certificate, directory / "server.pem")
    shutil.copy(certificates.server_key, directory / "server.key")
    shutil.copy(certificates.authority, directory / "ca.pem")
    return directory


@pytest.fixture(scope="module")
def shared(etcd: Any, minio: Any) -> dict[str, object]:
    """The storage of this module's cluster."""
    servers = {"etcd": etcd, "minio": minio}
    chosen = settings_of(WOODPECKER, servers, f"secure-{uuid4().hex[:8]}")
    return {**chosen, "common.session.ttl": TTL_S}


@pytest.fixture(scope="module")
def cluster(
    shared: dict[str, object], ours: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningCluster]:
    place = tmp_path_factory.mktemp("secure")
    options = ("--certificates", str(directory_of(ours, place / "certificates")))
    counts = {**SINGLES, "proxy": 2}
    with RunningCluster(place / "cluster", shared, counts, options=options) as cluster:
        yield cluster


def ask(address: str, shown: Certificates | None) -> NodeStatus:
    """How the process at ``address`` is, asked by one with this certificate."""

    async def ask() -> NodeStatus:
        context = None
        if shown is not None:
            files = (shown.server_certificate, shown.server_key, shown.authority)
            context = TlsFiles(*files).client_context()
        peers = Peers(context, "localhost")
        try:
            return await stub(NodeService, peers.at(address)).describe()
        finally:
            await peers.close()

    return asyncio.run(ask())


def test_it_does_what_a_cluster_does(cluster: RunningCluster) -> None:
    assert run_client("answers.py", cluster.uri)


def test_no_role_talks_to_one_without_a_certificate_of_theirs(
    cluster: RunningCluster, ours: Certificates, theirs: Certificates
) -> None:
    for process in cluster.status():
        address = process["address"]
        assert ask(address, ours).state == process["state"]
        for stranger in (None, theirs):
            with pytest.raises((NotServed, Unavailable)):
                ask(address, stranger)


def run_stranger(
    settings: Mapping[str, object], directory: Path
) -> subprocess.CompletedProcess[str]:
    options = [f"--set={key}={value}" for key, value in settings.items()]
    return subprocess.run(
        [
            *(sys.executable, "-m", "elanus.cli.main", "run", "query"),
            *("--data-dir", str(directory), "--set=metrics.port=0", *options),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=plain_environment(),
    )


def test_a_node_without_a_certificate_of_theirs_cannot_join(
    cluster: RunningCluster, shared: dict[str, object], theirs: Certificates, tmp_path: Path
) -> None:
    of_theirs = certificate_settings(directory_of(theirs, tmp_path / "theirs"))
    strangers = {
        "speaks over TLS and this process in clear text": shared,
        "processes lets this one in": {**shared, **of_theirs},
    }
    with ThreadPoolExecutor() as threads:
        runs = {
            complaint: threads.submit(run_stranger, settings, tmp_path / str(number))
            for number, (complaint, settings) in enumerate(strangers.items())
        }
    for complaint, run in runs.items():
        assert run.result().returncode == 1
        assert complaint in run.result().stderr
    assert len(cluster.of_role("query")) == 1


def test_proxies_share_a_rate_and_the_last_one_has_all_of_it(cluster: RunningCluster) -> None:
    client = RestClient(cluster.uri)
    client.call("collections/create", {"collectionName": "rated", "dimension": 4})
    limit = {"collection.queryRate.max.qps": str(RATE_QPS)}
    client.call("collections/alter_properties", {"collectionName": "rated", "properties": limit})
    client.close()
    most = count_queries(cluster.uri)
    assert most["answered"] <= RATE_QPS * most["seconds"] + RATE_QPS + 2
    assert most["refused"] > 0
    cluster.drain("proxy-2")
    cluster.wait_for("one proxy", lambda all_: sum(p["role"] == "proxy" for p in all_) == 1)
    alone = count_queries(cluster.uri)
    assert alone["answered"] <= RATE_QPS * alone["seconds"] + RATE_QPS + 1
    assert alone["answered"] >= 0.7 * RATE_QPS * alone["seconds"], "half a share would be less"


def count_queries(uri: str) -> dict[str, float]:
    """Twelve connections that ask as fast as they get answers, for some seconds."""
    started_s = time.monotonic()

    def ask_on(_: int) -> tuple[int, int]:
        client, answered, refused = RestClient(uri), 0, 0
        while time.monotonic() - started_s < COUNTED_S:
            try:
                client.call("entities/query", {"collectionName": "rated", "filter": "id == 1"})
                answered += 1
            except ServerError as error:
                if "rate limit exceeded" not in str(error):
                    raise
                refused += 1
                time.sleep(0.02)
        client.close()
        return answered, refused

    with ThreadPoolExecutor(CLIENTS) as threads:
        counts = list(threads.map(ask_on, range(CLIENTS)))
    return {
        "answered": sum(answered for answered, _ in counts),
        "refused": sum(refused for _, refused in counts),
        "seconds": time.monotonic() - started_s,
    }
