"""Appends to the log in Pulsar, beside the bare client in the same run: ``python -m
benchmarks.wal_pulsar``. Starts a broker of its own (see ``make services-install``)."""

import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pulsar
import pulsar.asyncio
import structlog
from tests.integration.pulsar_log import CHANNEL, in_new_namespace, make_world, open_log
from tests.services.pulsar import Pulsar

from elanus.config.storage import PulsarSettings

SHAPES = {"1 x 1 kB": (1, 1_000), "100 x 1 kB": (100, 1_000), "1 x 1 MB": (1, 1 << 20)}
ROUNDS = 300
WARM_UP_ROUNDS = 30
IN_FLIGHT = 16
REPLAY_BYTES = 256 << 20

Append = Callable[[list[bytes]], Awaitable[object]]


async def measure(what: str, append: Append) -> None:
    for shape, (count, size) in SHAPES.items():
        records = [b"x" * size] * count
        for _ in range(WARM_UP_ROUNDS):
            await append(records)
        times_ms = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            await append(records)
            times_ms.append((time.perf_counter() - started) * 1_000)
        started = time.perf_counter()
        for _ in range(ROUNDS // IN_FLIGHT):
            await asyncio.gather(*(append(records) for _ in range(IN_FLIGHT)))
        seconds = time.perf_counter() - started
        rate = ROUNDS // IN_FLIGHT * IN_FLIGHT / seconds
        cuts = statistics.quantiles(times_ms, n=100)
        print(
            f"{what:<24}{shape:<12}p50 {cuts[49]:7.2f} ms  p99 {cuts[98]:7.2f} ms  "
            f"{IN_FLIGHT} in flight: {rate:8.0f} appends/s {rate * count * size / 1e6:7.1f} MB/s",
            flush=True,
        )


async def bare(settings: PulsarSettings, *, batching: bool) -> None:
    quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Warn)
    client = pulsar.asyncio.Client(settings.address, logger=quiet)
    producer = await client.create_producer(
        f"persistent://public/{settings.namespace}/bare-{batching}",
        batching_enabled=batching,
        batching_max_publish_delay_ms=1,
        max_pending_messages=10_000,
        access_mode=pulsar.ProducerAccessMode.ExclusiveWithFencing,
    )

    async def append(records: list[bytes]) -> None:
        await asyncio.gather(*(producer.send(record) for record in records))

    await measure("bare, client batches" if batching else "bare", append)
    await client.close()


async def bare_replay(settings: PulsarSettings, topic: str) -> None:
    quiet = pulsar.ConsoleLogger(pulsar.LoggerLevel.Warn)
    client = pulsar.asyncio.Client(settings.address, logger=quiet)
    reader = await client.create_reader(
        f"persistent://public/{settings.namespace}/{topic}",
        pulsar.MessageId.earliest,
        receiver_queue_size=16,
    )
    started, size = time.perf_counter(), 0
    while size < REPLAY_BYTES:
        size += len((await reader.read_next()).data())
    report_replay("bare", size, time.perf_counter() - started)
    await client.close()


def report_replay(what: str, size: int, seconds: float) -> None:
    print(f"{what:<24}replay      {size / 1e6 / seconds:7.0f} MB/s of {size / 1e6:.0f} MB")


async def run(server: Pulsar) -> None:
    world, settings = make_world(), in_new_namespace(server)
    wal = open_log(world, settings)
    for _ in range(2):
        await bare(settings, batching=False)
        await bare(settings, batching=True)
        writer = await wal.open_writer(CHANNEL, 1)
        await measure("log", lambda records, to=writer: to.append([[one] for one in records]))
    for shape, (count, size) in SHAPES.items():
        channel = "p_" + shape.replace(" ", "")
        writer = await wal.open_writer(channel, 1)
        groups = min(REPLAY_BYTES // (count * size), 20_000)
        for first in range(0, groups, IN_FLIGHT):
            await asyncio.gather(
                *(writer.append([[b"x" * size]] * count) for _ in range(first, first + IN_FLIGHT))
            )
        started, found = time.perf_counter(), 0
        async for record in wal.read(channel):
            found += record.payload.nbytes
        report_replay(f"log, {shape}", found, time.perf_counter() - started)
        if size == 1 << 20:
            await bare_replay(settings, channel)
    await wal.close()
    world.executor.close()


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory() as folder, Pulsar(Path(folder)) as server:
        asyncio.run(run(server))


if __name__ == "__main__":
    main()
