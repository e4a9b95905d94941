"""Pulsar: broker and one bookie in a process, metadata in RocksDB, no ZooKeeper, no functions.

The bookie notes its port in its folder and takes it again; it is not among ``ports``.

A client goes on to the address that the broker advertises. To have it go through a proxy, set
``advertised`` to the proxy's ``host:port`` before ``start``.
"""

import time
from pathlib import Path
from typing import ClassVar, Self

from tests.services.base import Service, ServiceError, answers
from tests.services.java import java, write_properties
from tests.services.packages import JavaClasspath

HEAP_MB = 384
DIRECT_MEMORY_MB = 256

FLAP = b"/ledgers/available/127.0.0.1"
"""What the log has in a line of each change of the bookie's registration."""
FLAP_WATCH_S = 0.5
FLAPS_ALLOWED = 20
STARTS = 8

OPENED = (
    "java.base/java.lang",
    "java.base/java.nio",
    "java.base/java.util.zip",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.platform",
    "java.base/sun.net",
    "java.management/sun.management",
    "jdk.management/com.sun.management.internal",
)


class Pulsar(Service):
    name = "pulsar"
    package = JavaClasspath("pulsar", "4.0.7")
    port_names: ClassVar = ("broker", "http")
    start_timeout_s = 240.0
    advertised: str | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.ports['broker']}"

    @property
    def address(self) -> str:
        return f"pulsar://{self.endpoint}"

    @property
    def http_address(self) -> str:
        """Where the administration's REST interface is."""
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def _configuration(self) -> Path:
        return self.directory / "standalone.conf"

    def start(self) -> Self:
        """Again while the bookie's registration flaps.

        After a kill the registration of the bookie's former life may still be in the metadata.
        Then the bookie removes it as foreign, sees the removal of "its own", registers again, and
        so on, often without an end; meanwhile the broker finds no bookie. Only a standalone server
        knows this: elsewhere a registration ends with its session.
        """
        for _ in range(STARTS):
            super().start()
            if not self._registration_flaps():
                return self
            self.kill()
        raise ServiceError(f"{self.name}'s bookie registers without an end\n{self.log_tail()}")

    def _registration_flaps(self) -> bool:
        before = self.log_file.stat().st_size
        time.sleep(FLAP_WATCH_S)
        with self.log_file.open("rb") as log:
            log.seek(before)
            return log.read().count(FLAP) > FLAPS_ALLOWED

    def prepare(self) -> None:
        write_properties(
            self._configuration,
            {
                "clusterName": "standalone",
                "brokerServicePort": self.ports["broker"],
                "webServicePort": self.ports["http"],
                "bindAddress": "127.0.0.1",
                "advertisedListeners": f"only:pulsar://{self.advertised or self.endpoint}",
                "internalListenerName": "only",
                "managedLedgerDefaultEnsembleSize": 1,
                "managedLedgerDefaultWriteQuorum": 1,
                "managedLedgerDefaultAckQuorum": 1,
                "brokerDeleteInactiveTopicsEnabled": "false",
                "loadBalancerEnabled": "false",
                "webSocketServiceEnabled": "false",
                "numHttpServerThreads": 4,
                "listeningInterface": "lo",
                "allowLoopback": "true",
            },
        )

    def command(self) -> list[str]:
        options = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENED]
        options += [
            f"-XX:MaxDirectMemorySize={DIRECT_MEMORY_MB}m",
            "-Dio.netty.tryReflectionSetAccessible=true",
            "-Dpulsar.allocator.pooled=false",
        ]
        starter = "org.apache.pulsar.PulsarStandaloneStarter"
        server = java(HEAP_MB, self.package.classpath, starter, options)
        folders = [
            f"--{part}-dir={self.data_directory / part}" for part in ("bookkeeper", "metadata")
        ]
        without = ["--no-functions-worker", "--no-stream-storage"]
        return [*server, f"--config={self._configuration}", *folders, *without]

    def is_ready(self) -> bool:
        """The namespace of users is the last thing that a start makes."""
        return answers(f"{self.http_address}/admin/v2/brokers/ready") and answers(
            f"{self.http_address}/admin/v2/namespaces/public/default"
        )
