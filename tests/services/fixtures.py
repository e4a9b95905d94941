"""pytest fixtures for real servers; a test that uses one is marked ``services`` by itself.

``etcd``, ``kafka`` and so on start once per test session, when the first test asks; tests share
them and use names of their own. ``own_service`` gives a test servers that it may kill.

A server that is not installed makes its tests skip, which the summary says in a line of its own.
With ``REQUIRE_SERVICES=1`` they fail instead.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import pytest

from tests.services.reaper import REAPER

if TYPE_CHECKING:
    from tests.services.azurite import Azurite
    from tests.services.base import Service
    from tests.services.etcd import Etcd
    from tests.services.gcs import GcsStandIn
    from tests.services.kafka import Kafka
    from tests.services.minio import MinioServer
    from tests.services.moto import Moto
    from tests.services.packages import Package
    from tests.services.pulsar import Pulsar
    from tests.services.seaweedfs import SeaweedFS

S = TypeVar("S", bound="Service")

FIXTURES = {
    "azurite",
    "etcd",
    "gcs",
    "kafka",
    "minio",
    "moto",
    "own_service",
    "pulsar",
    "seaweedfs",
}

ARE_REQUIRED = os.environ.get("REQUIRE_SERVICES", "") == "1"

NOT_INSTALLED = " is not installed: run `make services-install`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.services)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    REAPER.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = {report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)}
    for reason in sorted(reason for reason in reasons if reason.endswith(NOT_INSTALLED)):
        line = f"TESTS SKIPPED: {reason.removeprefix('Skipped: ')}"
        terminalreporter.write_line(line, yellow=True, bold=True)


def require(kind: "type[Service]") -> None:
    """Skip or fail the test unless the server is installed."""
    if not kind.package.installed:
        missing(kind.name)


def require_tool(package: "Package") -> None:
    """Skip or fail the test unless the program is installed."""
    if not package.installed:
        missing(package.name)


def missing(name: str) -> NoReturn:
    text = f"{name}{NOT_INSTALLED}"
    if ARE_REQUIRED:
        pytest.fail(text)
    pytest.skip(text)


def started(kind: type[S], folders: pytest.TempPathFactory) -> Iterator[S]:
    require(kind)
    with kind(folders.mktemp(kind.name)) as service:
        yield service


@pytest.fixture
def own_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """``own_service(Etcd, tls=True)`` starts a server of this test's own; it dies with the test."""
    services: list[Service] = []

    def start(kind: type[S], **options: Any) -> S:
        require(kind)
        service = kind(tmp_path_factory.mktemp(kind.name), **options)
        services.append(service)
        return service.start()

    yield start
    for service in services:
        service.kill()


# The servers' modules import their clients, which is not for every run of pytest to wait for.


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Etcd]":
    from tests.services.etcd import Etcd

    yield from started(Etcd, tmp_path_factory)


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[MinioServer]":
    from tests.services.minio import MinioServer

    yield from started(MinioServer, tmp_path_factory)


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[SeaweedFS]":
    from tests.services.seaweedfs import SeaweedFS

    yield from started(SeaweedFS, tmp_path_factory)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Moto]":
    from tests.services.moto import Moto

    yield from started(Moto, tmp_path_factory)


@pytest.fixture(scope="session")
def gcs(moto: "Moto") -> "Iterator[GcsStandIn]":
    from tests.services.gcs import GcsStandIn

    with GcsStandIn(moto) as server:
        yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Azurite]":
    from tests.services.azurite import Azurite

    yield from started(Azurite, tmp_path_factory)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Kafka]":
    from tests.services.kafka import Kafka

    yield from started(Kafka, tmp_path_factory)


@pytest.fixture(scope="session")
def pulsar(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Pulsar]":
    from tests.services.pulsar import Pulsar

    yield from started(Pulsar, tmp_path_factory)
