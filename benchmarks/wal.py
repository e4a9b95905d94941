"""Write-ahead logs beside the plainest way to make the same bytes durable, in the same run.

    python -m benchmarks.wal [BACKEND ...] [--cases 1x1000,64x1000] [--seconds 3] [--directory DIR]

Starts the real servers that it needs (see ``make services-install``). For each backend and batch
(records x bytes, one append): latency of an append, throughput of one appender and of 16 side by
side, requests to the object store per 1,000 appends, replay. *Bare* is the same without Elanus: the
same batches through the bare client, or into a bare file. Log and bare take turns, so that what
else the machine does hits both; a ratio is the median of the turns' ratios.

``woodpecker-minio@5`` lets an append wait 5 ms for others (segmentSyncPolicy.maxInterval). A new
backend is one more class in BACKENDS.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulsar
import pulsar.asyncio
import uvloop
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
from elanus.observability.logs import configure_logs
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
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
TURNS = 30
SIDE_BY_SIDE = 16
WARM_UP_WAVES = 5
PIECE_BYTES = 4 << 20
SERVER_PATIENCE_MS = 60_000
KAFKA_MESSAGE_BYTES = 1_048_588

Wave = Callable[[int], Awaitable[object]]
"""Makes so many batches durable, side by side."""


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
            os.writev(self._file, records)
            os.fdatasync(self._file)

        run = self.world.executor.run
        await asyncio.gather(*(run("io", write) for _ in range(batches)))

    async def read_bare(self) -> int:
        def read() -> int:
            with self._path.open("rb", buffering=0) as file:
                return sum(len(piece) for piece in iter(lambda: file.read(PIECE_BYTES), b""))

        return await self.world.executor.run("io", read)

    async def close(self) -> None:
        os.close(self._file)


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
    "woodpecker-local": WoodpeckerOnLocal,
    "woodpecker-minio": WoodpeckerOnMinio,
    "kafka": OnKafka,
    "pulsar": OnPulsar,
}
DEFAULT = [*BACKENDS, "woodpecker-minio@5", "woodpecker-minio@20"]


@dataclass
class Figures:
    """Of the log and of bare, turn by turn. ``requests``: per append."""

    width: int
    waves_s: list[float] = field(default_factory=list)
    bare_waves_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    bare_rates: list[float] = field(default_factory=list)
    requests: float | None = None

    def describe(self) -> str:
        waves_ms = sorted(1e3 * each for each in self.waves_s)
        rates = zip(self.rates, self.bare_rates, strict=True)
        requests = "-" if self.requests is None else f"{self.requests * 1e3:,.0f}"
        return (
            f"{statistics.median(waves_ms):>8.2f} {waves_ms[int(len(waves_ms) * 0.99)]:>8.2f} "
            f"{1e3 * statistics.median(self.bare_waves_s):>8.2f} "
            f"{statistics.median(self.rates):>9,.0f} {statistics.median(self.bare_rates):>9,.0f} "
            f"{statistics.median(ours / bare for ours, bare in rates):>6.0%} {requests:>8}"
        )


async def run_for(seconds: float, wave: Wave, width: int, times_s: list[float]) -> float:
    """Wave after wave; batches per second."""
    started_s = now_s = time.perf_counter()
    waves = 0
    while now_s < started_s + seconds:
        await wave(width)
        begun_s, now_s = now_s, time.perf_counter()
        times_s.append(now_s - begun_s)
        waves += 1
    return waves * width / (now_s - started_s)


async def compare(backend: Backend, ours: Wave, bare: Wave, width: int, seconds: float) -> Figures:
    for _ in range(WARM_UP_WAVES):
        await bare(width)
        await ours(width)
    figures = Figures(width)
    before = backend.requests()
    for _ in range(TURNS):
        rate = await run_for(seconds / TURNS, bare, width, figures.bare_waves_s)
        figures.bare_rates.append(rate)
        figures.rates.append(await run_for(seconds / TURNS, ours, width, figures.waves_s))
    after = backend.requests()
    if before is not None and after is not None:
        figures.requests = (after - before) / (len(figures.waves_s) * width)
    return figures


async def measure(title: str, backend: Backend, records: list[bytes], seconds: float) -> None:
    wal = await backend.open()
    writer = await wal.open_writer(CHANNEL, 1)
    batch = [[record] for record in records]

    async def ours(width: int) -> None:
        await asyncio.gather(*(writer.append(batch) for _ in range(width)))

    async def bare(width: int) -> None:
        await backend.write_bare(width, records)

    for width, share in ((1, 1.0), (SIDE_BY_SIDE, 0.5)):
        figures = await compare(backend, ours, bare, width, seconds * share)
        print(f"{title} {width:>3} {figures.describe()}   {backend.bare_name}", flush=True)
    started_s, size_bytes = time.perf_counter(), 0
    async for record in wal.read(CHANNEL):
        size_bytes += len(record.payload)
    read_s = time.perf_counter()
    bare_bytes = await backend.read_bare()
    rate = size_bytes / (read_s - started_s) / 1e6
    bare_rate = bare_bytes / (time.perf_counter() - read_s) / 1e6
    print(
        f"{title} replay {rate:,.0f} MB/s of {size_bytes / 1e6:,.0f} MB,"
        f" bare {bare_rate:,.0f} MB/s of {bare_bytes / 1e6:,.0f} MB",
        flush=True,
    )
    await wal.close()
    await backend.close()


@asynccontextmanager
async def new_world() -> AsyncIterator[World]:
    world = World(
        clock=SystemClock(),
        random=random.Random(),
        executor=ThreadExecutor(),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )
    yield world
    await world.tasks.close()
    world.executor.close()


async def measure_cases(
    name: str, cases: list[str], seconds: float, directory: Path | None
) -> None:
    kind, _, interval_ms = name.partition("@")
    make = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="elanus-wal-", dir=directory) as folder:
        server = None if make.server is None else make.server(Path(folder) / "server").start()
        try:
            for case in cases:
                count, _, size_bytes = case.partition("x")
                records = [random.Random(1).randbytes(int(size_bytes))] * int(count)
                async with new_world() as world:
                    place = Path(tempfile.mkdtemp(dir=folder))
                    backend = make(world, place, server, int(interval_ms or 0))
                    await measure(f"{name:<19} {case:>9}", backend, records, seconds)
        finally:
            if server is not None:
                server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backends", nargs="*", default=DEFAULT, metavar="BACKEND")
    parser.add_argument("--cases", default="1x1000,64x1000,1x64000,1x1000000")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each way to write")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    chosen = parser.parse_args()
    configure_logs("warning", "text")
    print(
        f"{'log':<19} {'batch':>9} {'by':>3} {'p50 ms':>8} {'p99 ms':>8} {'bare p50':>8} "
        f"{'batch/s':>9} {'bare/s':>9} {'ratio':>6} {'req/1000':>8}   bare"
    )
    for name in chosen.backends:
        cases = chosen.cases.split(",")
        uvloop.run(measure_cases(name, cases, chosen.seconds, chosen.directory))
    sys.stdout.flush()
    os._exit(0)  # client libraries may abort when the interpreter ends


if __name__ == "__main__":
    main()
