"""What :mod:`benchmarks.wal` compares: each log, and the same bytes in the same storage without it.

The bare way is the quickest that keeps the log's promise, in its order: batches that are there
together may share a sync or a flush, as a log's appends do.
"""

import asyncio
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pulsar
import pulsar.asyncio
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec.structs import replace
from obstore.store import LocalStore
from tests.integration.pulsar_log import in_new_namespace
from tests.remote_objects import remote_settings
from tests.services.base import Service
from tests.services.kafka import Kafka
from tests.services.minio import MinioServer
from tests.services.pulsar import Pulsar

from elanus.config.settings import WalSettings
from elanus.config.storage import (
    KafkaSettings,
    LogstoreSettings,
    SegmentSyncPolicySettings,
    WoodpeckerSettings,
)
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.objects.backends import make_backends
from elanus.storage.objects.base import ObjectStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.objects.remote import RemoteObjectStore
from elanus.storage.wal.base import Wal
from elanus.storage.wal.kafka import KafkaWal
from elanus.storage.wal.local import LocalWal
from elanus.storage.wal.pulsar import PulsarWal
from elanus.storage.wal.woodpecker import WoodpeckerWal

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"
CHANNEL = "p"
SIDE_BY_SIDE = 16
PIECE_BYTES = 4 << 20
SERVER_PATIENCE_MS = 60_000
KAFKA_MESSAGE_BYTES = 1_048_588


class Backend(ABC):
    """A log, and the same bytes in the same storage without it."""

    bare_name: str
    server: type[Service] | None = None

    def __init__(self, world: World, directory: Path, server: Any, interval_ms: int) -> None:
        self.world = world
        self.directory = directory
        self.running = server
        self.interval_ms = interval_ms

    @abstractmethod
    async def open(self) -> Wal: ...

    @abstractmethod
    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        """Returns when so many batches of ``records`` are durable."""

    @abstractmethod
    async def read_bare(self) -> int:
        """Read what was written bare; its bytes."""

    def requests(self) -> int | None:
        """To the object store, so far; None if there is none."""
        return None

    async def close(self) -> None:
        return None


class Local(Backend):
    bare_name = "write, fdatasync"

    async def open(self) -> Wal:
        self._path = self.directory / "bare"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return LocalWal(self.world, LocalDisk(), self.directory / "wal", WalSettings(), CLUSTER)

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        def write() -> None:
            for _ in range(batches):
                os.writev(self._file, records)
            os.fdatasync(self._file)

        await self.world.executor.run("io", write)

    async def read_bare(self) -> int:
        def read() -> int:
            with self._path.open("rb", buffering=0) as file:
                return sum(len(piece) for piece in iter(lambda: file.read(PIECE_BYTES), b""))

        return await self.world.executor.run("io", read)

    async def close(self) -> None:
        os.close(self._file)


class LocalEachSynced(Local):
    """Beside a sync for each batch, one after another."""

    bare_name = "write, fdatasync each"

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        for _ in range(batches):
            await super().write_bare(1, records)


class LocalThreads(Local):
    """Beside batches that several threads write and sync at once, in no order."""

    bare_name = "write, fdatasync on 8 threads"

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        write = super().write_bare
        await asyncio.gather(*(write(1, records) for _ in range(batches)))


class _Woodpecker(Backend):
    bare: Any

    @abstractmethod
    async def open_store(self) -> ObjectStore: ...

    async def open(self) -> Wal:
        store = await self.open_store()
        policy = SegmentSyncPolicySettings(max_interval=self.interval_ms)
        settings = WoodpeckerSettings(logstore=LogstoreSettings(segment_sync_policy=policy))
        self.wal = WoodpeckerWal(self.world, store, settings, CLUSTER)
        self.count = 0
        return self.wal

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        numbers = range(self.count, self.count + batches)
        self.count += batches
        data = b"".join(records)
        await asyncio.gather(*(self.put_bare(f"bare/{number}", data) for number in numbers))

    async def put_bare(self, key: str, data: bytes) -> None:
        await self.bare.put_async(key, data, mode="create", use_multipart=False)

    async def read_bare(self) -> int:
        async def size(number: int) -> int:
            result = await self.bare.get_async(f"bare/{number}")
            return len(await result.bytes_async())

        total = 0
        for first in range(0, self.count, SIDE_BY_SIDE):
            numbers = range(first, min(first + SIDE_BY_SIDE, self.count))
            total += sum(await asyncio.gather(*map(size, numbers)))
        return total

    def requests(self) -> int:
        return self.wal.counters.requests


class WoodpeckerOnLocal(_Woodpecker):
    bare_name = "obstore put, fsync"

    async def open_store(self) -> ObjectStore:
        self._folder = self.directory / "bare-objects"
        self._folder.mkdir()
        self.bare = LocalStore(self._folder)
        return await LocalObjectStore.open(self.world, LocalDisk(), self.directory / "objects")

    async def put_bare(self, key: str, data: bytes) -> None:
        """The bare client never syncs."""

        def sync() -> None:
            path = self._folder / key
            for each in (path, path.parent):
                descriptor = os.open(each, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)

        await super().put_bare(key, data)
        await self.world.executor.run("io", sync)


class WoodpeckerOnMinio(_Woodpecker):
    bare_name = "obstore put"
    server = MinioServer

    async def open_store(self) -> ObjectStore:
        settings = remote_settings(self.running)
        store = await RemoteObjectStore.open(self.world, settings)
        self.bare = make_backends(settings).single
        return store


class OnKafka(Backend):
    bare_name = "produce, flush"
    server = Kafka

    async def open(self) -> Wal:
        self._brokers = {"bootstrap.servers": self.running.address}
        name = self.directory.name.replace("_", "-")
        self._topic = f"bare-{name}"
        topic = NewTopic(self._topic, 1, 1, config={"retention.ms": "-1"})
        admin = AdminClient(self._brokers)
        admin.create_topics([topic])[self._topic].result()
        idempotent = {"acks": "all", "enable.idempotence": True, "linger.ms": 0}
        quiet = {"log_level": 0, "message.max.bytes": KAFKA_MESSAGE_BYTES}
        self._producer = Producer(self._brokers | idempotent | quiet)
        settings = KafkaSettings(broker_list=self.running.address)
        return KafkaWal(self.world, settings, f"bench-{name}", CLUSTER)

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        for record in records * batches:
            self._producer.produce(self._topic, record)
        self._producer.flush()

    async def read_bare(self) -> int:
        consumer = Consumer(self._brokers | {"group.id": "bench"})
        end = consumer.get_watermark_offsets(TopicPartition(self._topic, 0))[1]
        consumer.assign([TopicPartition(self._topic, 0, 0)])
        offset, size_bytes = -1, 0
        while offset < end - 1:
            for message in [consumer.poll(30), *consumer.consume(1_000, 0)]:
                size_bytes += len(message.value() or b"")
                offset = message.offset()
        consumer.close()
        return size_bytes


class OnKafkaAwaited(OnKafka):
    """Beside a client whose answers come to an event loop, as a server must have them."""

    bare_name = "produce, flush on a thread"

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        def write() -> None:
            for record in records * batches:
                self._producer.produce(self._topic, record)
            self._producer.flush()

        await self.world.executor.run("io", write)


class OnPulsar(Backend):
    bare_name = "send"
    server = Pulsar

    async def open(self) -> Wal:
        settings = in_new_namespace(self.running)
        self._settings = replace(settings, request_timeout=SERVER_PATIENCE_MS)
        quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Warn)
        self._client = pulsar.asyncio.Client(self._settings.address, logger=quiet)
        self._topic = f"persistent://public/{self._settings.namespace}/bare"
        self._producer: Any = None
        self._size_bytes = 0
        return PulsarWal(self.world, self._settings, CHANNEL, CLUSTER)

    async def write_bare(self, batches: int, records: list[bytes]) -> None:
        if self._producer is None:  # the client's own batches help only with several records
            self._producer = await self._client.create_producer(
                self._topic,
                batching_enabled=len(records) > 1,
                batching_max_publish_delay_ms=1,
                max_pending_messages=10_000,
                access_mode=pulsar.ProducerAccessMode.ExclusiveWithFencing,
            )
        await asyncio.gather(*(self._producer.send(record) for record in records * batches))
        self._size_bytes += sum(map(len, records)) * batches

    async def read_bare(self) -> int:
        reader = await self._client.create_reader(
            self._topic, pulsar.MessageId.earliest, receiver_queue_size=1_000
        )
        found = 0
        while found < self._size_bytes:
            found += len((await reader.read_next()).data())
        return found

    async def close(self) -> None:
        await self._client.close()


BACKENDS: dict[str, type[Backend]] = {
    "local": Local,
    "local-each-synced": LocalEachSynced,
    "local-threads": LocalThreads,
    "woodpecker-local": WoodpeckerOnLocal,
    "woodpecker-minio": WoodpeckerOnMinio,
    "kafka": OnKafka,
    "kafka-awaited": OnKafkaAwaited,
    "pulsar": OnPulsar,
}
