"""A server under load survives whatever happens to the services that it depends on.

Nothing acknowledged is lost, nothing is doubled, a failed write is whole or absent, and writes go
on by themselves once the fault is over. ``ELANUS_OUTAGE_S`` is the length of the longest outage. It
takes a quarter of an hour: `make test-faults`.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.backends import KAFKA, PULSAR, WOODPECKER, settings_of
from tests.crash.load import SteadyLoad
from tests.server import RunningServer
from tests.services.tcp_proxy import TcpProxy

pytestmark = pytest.mark.faults

OUTAGE_S = float(os.environ.pop("ELANUS_OUTAGE_S", "60"))
SHORT_S = 12.0
FAST = {"dataCoord.minSegmentNumRowsToEnableIndex": 200, "log.level": "info"}
OwnService = Callable[..., Any]


@contextmanager
def serving(directory: Path, settings: dict[str, object]) -> Iterator[RunningServer]:
    with RunningServer(directory / "data", {**FAST, **settings}) as server:
        try:
            yield server
        except BaseException:
            print(server.log_tail())
            raise


def endure(load: SteadyLoad, what: str, begin: Callable[[], Any], end: Callable[[], Any]) -> None:
    """A fault of some seconds under load; prints how long writes were away altogether."""
    begin()
    time.sleep(SHORT_S)
    end()
    print(f"{what}: writes were away for {load.recovers():.1f} s")


def test_etcd_fails_and_comes_back(own_service: OwnService, tmp_path: Path) -> None:
    from tests.services.etcd import Etcd
    from tests.services.minio import MinioServer

    etcd, minio = own_service(Etcd), own_service(MinioServer)
    with TcpProxy(etcd.endpoint) as cable:
        settings = settings_of(
            WOODPECKER, {"etcd": etcd, "minio": minio}, "faults", through={"etcd": cable.address}
        )
        with serving(tmp_path, settings) as server, SteadyLoad(server.uri, tmp_path) as load:
            etcd.kill()
            etcd.start()
            print(f"etcd killed and restarted: away for {load.recovers():.1f} s")
            etcd.kill()
            time.sleep(OUTAGE_S)
            etcd.start()
            print(f"etcd away for {OUTAGE_S:.0f} s: writes for {load.recovers():.1f} s")
            endure(load, "network to etcd cut", cable.cut, cable.heal)
            endure(load, "network to etcd silent", cable.blackhole, cable.heal)
            print(load.finish())


def test_the_object_store_fails_and_comes_back(own_service: OwnService, tmp_path: Path) -> None:
    from tests.services.etcd import Etcd
    from tests.services.http_faults import HttpFaults
    from tests.services.minio import MinioServer

    etcd, minio = own_service(Etcd), own_service(MinioServer)
    with HttpFaults(minio.address) as faults, TcpProxy(faults.endpoint) as cable:
        settings = settings_of(
            WOODPECKER, {"etcd": etcd, "minio": minio}, "faults", through={"minio": cable.address}
        )
        with serving(tmp_path, settings) as server, SteadyLoad(server.uri, tmp_path) as load:
            endure(load, "object store killed", minio.kill, minio.start)
            endure(load, "object store slow", lambda: faults.delay(2_000), faults.heal)
            endure(load, "503 to half of it", lambda: faults.refuse(0.5), faults.heal)
            endure(load, "half of the replies lost", lambda: faults.lose_replies(0.5), faults.heal)
            endure(load, "network to the object store cut", cable.cut, cable.heal)
            endure(load, "network to the object store silent", cable.blackhole, cable.heal)
            print(load.finish())


def test_kafka_fails_and_comes_back(
    own_service: OwnService, etcd: Any, minio: Any, tmp_path: Path
) -> None:
    from tests.services.kafka import Kafka

    kafka = own_service(Kafka)
    servers = {"etcd": etcd, "minio": minio, "kafka": kafka}
    settings = settings_of(KAFKA, servers, f"kafka-{uuid4().hex[:8]}")
    with serving(tmp_path, settings) as server, SteadyLoad(server.uri, tmp_path) as load:
        endure(load, "broker killed", kafka.kill, kafka.start)
        endure(load, "broker frozen", kafka.pause, kafka.resume)
        print(load.finish())


def test_pulsar_fails_and_comes_back(
    own_service: OwnService, etcd: Any, minio: Any, tmp_path: Path
) -> None:
    from tests.services.pulsar import Pulsar

    pulsar = own_service(Pulsar)
    servers = {"etcd": etcd, "minio": minio, "pulsar": pulsar}
    settings = settings_of(PULSAR, servers, f"pulsar-{uuid4().hex[:8]}")
    with serving(tmp_path, settings) as server, SteadyLoad(server.uri, tmp_path) as load:
        endure(load, "broker killed", pulsar.kill, pulsar.start)
        endure(load, "broker frozen", pulsar.pause, pulsar.resume)
        print(load.finish())
