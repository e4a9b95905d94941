"""Kafka: one node that is broker and controller (KRaft), everything replicated once.

Not flushed to disk on every write, as no Kafka is: what a broker has acknowledged survives the end
of its process, not of its machine.

A client goes on to the address that the broker advertises. To have it go through a proxy, set
``advertised`` to the proxy's address before ``start``.
"""

import subprocess
import uuid
from pathlib import Path
from typing import ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.services.base import Service, ServiceError
from tests.services.java import java, write_properties
from tests.services.packages import JavaClasspath

HEAP_MB = 256
FORMAT_TIMEOUT_S = 60
METADATA_TIMEOUT_S = 2.0


class Kafka(Service):
    name = "kafka"
    package = JavaClasspath("kafka", "4.1.2")
    port_names: ClassVar = ("broker", "controller")
    advertised: str | None = None

    @property
    def address(self) -> str:
        """``host:port``, as bootstrap.servers and kafka.brokerList have it."""
        return f"127.0.0.1:{self.ports['broker']}"

    @property
    def _configuration(self) -> Path:
        return self.directory / "server.properties"

    def prepare(self) -> None:
        controller = f"127.0.0.1:{self.ports['controller']}"
        write_properties(
            self._configuration,
            {
                "process.roles": "broker,controller",
                "node.id": 1,
                "controller.quorum.voters": f"1@{controller}",
                "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
                "advertised.listeners": f"PLAINTEXT://{self.advertised or self.address}",
                "controller.listener.names": "CONTROLLER",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
                "metadata.max.idle.interval.ms": 0,
                "log.dirs": self.data_directory,
                "auto.create.topics.enable": "false",
                "offsets.topic.replication.factor": 1,
                "offsets.topic.num.partitions": 5,
                "transaction.state.log.replication.factor": 1,
                "transaction.state.log.num.partitions": 5,
                "transaction.state.log.min.isr": 1,
                "group.initial.rebalance.delay.ms": 0,
            },
        )
        if not (self.data_directory / "meta.properties").exists():
            self._format()

    def _format(self) -> None:
        tool = java(HEAP_MB, self.package.classpath, "kafka.tools.StorageTool")
        cluster = uuid.uuid4().hex
        result = subprocess.run(
            [*tool, "format", "--cluster-id", cluster, "--config", str(self._configuration)],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            raise ServiceError(f"kafka could not format its storage: {result.stdout[-2000:]}")

    def command(self) -> list[str]:
        quiet = ("-Dorg.slf4j.simpleLogger.showDateTime=true",)
        server = java(HEAP_MB, self.package.classpath, "kafka.Kafka", quiet)
        return [*server, str(self._configuration)]

    def is_ready(self) -> bool:
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        try:
            return bool(admin.list_topics(timeout=METADATA_TIMEOUT_S).brokers)
        except KafkaException:
            return False
