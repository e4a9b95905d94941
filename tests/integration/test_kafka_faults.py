"""A log in Kafka while brokers die, networks break and older writers wake up.

A load appends numbers one after the other. What failed may be in the log or not; then it opens the
log again at its term and goes on, as the owner of a pchannel does. Afterwards nothing that was
acknowledged is missing, nothing is there twice, and the order is that of the calls.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from tests.contract.test_wal_contract import CLUSTER, contents
from tests.services.kafka import Kafka
from tests.services.tcp_proxy import TcpProxy
from tests.worlds import running_world

from elanus.config.storage import KafkaSettings
from elanus.errors import FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.wal.base import WalWriter
from elanus.storage.wal.kafka import KafkaWal

if TYPE_CHECKING:
    from tests.services.base import Service

APPENDER = Path(__file__).parent / "kafka_appender.py"
REQUEST_TIMEOUT_MS = 3_000
PATIENCE_S = 60

OwnService = Callable[..., "Service"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


class ProxiedKafka(Kafka):
    """Tells its clients the address of a proxy in front of it; ``direct_address`` goes past it."""

    port_names = (*Kafka.port_names, "direct")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.proxy = TcpProxy(self.address)
        self.direct_address = f"127.0.0.1:{self.ports['direct']}"

    def prepare(self) -> None:
        super().prepare()
        changes = {
            "listeners": f"listeners=DIRECT://{self.direct_address},",
            "advertised.listeners": f"advertised.listeners=DIRECT://{self.direct_address},"
            f"PLAINTEXT://{self.proxy.address}",
            "listener.security.protocol.map": "listener.security.protocol.map=DIRECT:PLAINTEXT,",
        }
        file = self.directory / "server.properties"
        lines = []
        for line in file.read_text().splitlines():
            key, _, value = line.partition("=")
            change = changes.get(key, f"{key}=")
            lines.append(change if key.startswith("advertised") else change + value)
        file.write_text("\n".join([*lines, "inter.broker.listener.name=DIRECT", ""]))

    def kill(self) -> None:
        super().kill()
        self.proxy.close()


class Load:
    """Appends to the log ``p`` of a cluster of its own until told to stop."""

    def __init__(self, world: World, brokers: str) -> None:
        self.prefix = f"faults-{uuid4().hex[:8]}"
        self.settings = KafkaSettings(broker_list=brokers, request_timeout=REQUEST_TIMEOUT_MS)
        self.acknowledged: dict[int, bytes] = {}
        self.unsure: list[bytes] = []
        self._world = world
        self._stopping = False
        self._grown = asyncio.Event()
        self._failed = asyncio.Event()
        self.wal = self.another_wal()

    def another_wal(self) -> KafkaWal:
        return KafkaWal(self._world, self.settings, self.prefix, CLUSTER)

    async def run(self) -> None:
        writer: WalWriter | None = None
        number = 0
        while not self._stopping:
            try:
                writer = writer or await self.wal.open_writer("p", 1)
                group = [b"%06d" % (number + n) + bytes(500) for n in range(7)]
                number += len(group)
                positions = await writer.append([[payload] for payload in group])
            except Unavailable:
                if writer is not None:
                    self.unsure += group
                writer = None
                self._failed.set()
            else:
                self.acknowledged |= dict(zip(positions, group, strict=True))
                self._grown.set()

    async def more(self, count: int) -> None:
        """Wait until so many more records are acknowledged."""
        async with asyncio.timeout(PATIENCE_S):
            wanted = len(self.acknowledged) + count
            while len(self.acknowledged) < wanted:
                self._grown.clear()
                await self._grown.wait()

    async def failure(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            self._failed.clear()
            await self._failed.wait()

    async def finish(self, running: "asyncio.Task[None]") -> None:
        """Stop, and compare the log with what was told."""
        self._stopping = True
        await running
        await self.wal.close()
        wal = self.another_wal()
        await wal.open_writer("p", 1)
        found = await contents(wal)
        await wal.close()
        assert dict(found).items() >= self.acknowledged.items()
        payloads = [payload for _, payload in found]
        assert payloads == sorted(set(payloads))
        assert set(payloads) <= {*self.acknowledged.values(), *self.unsure}


async def test_a_broker_that_is_killed_loses_and_doubles_nothing(
    own_service: OwnService, world: World
) -> None:
    kafka = own_service(Kafka)
    load = Load(world, kafka.address)
    running = asyncio.create_task(load.run())
    for _ in range(2):
        await load.more(500)
        await asyncio.to_thread(kafka.kill)
        await load.failure()
        await asyncio.to_thread(kafka.start)
    await load.more(500)
    await load.finish(running)
    assert load.unsure


async def test_a_network_that_breaks_loses_and_doubles_nothing(
    own_service: OwnService, world: World
) -> None:
    kafka = own_service(ProxiedKafka)
    proxy: TcpProxy = kafka.proxy
    load = Load(world, proxy.address)
    running = asyncio.create_task(load.run())
    for _ in range(5):
        await load.more(200)
        proxy.reset_connections()
    await load.more(200)
    proxy.cut()
    await load.failure()
    proxy.heal()
    await load.more(200)
    proxy.blackhole()
    await load.failure()
    proxy.heal()
    await load.more(200)
    await load.finish(running)


async def test_a_paused_broker_fails_appends_in_time_and_goes_on(
    own_service: OwnService, world: World
) -> None:
    kafka = own_service(Kafka)
    load = Load(world, kafka.address)
    writer = await load.wal.open_writer("p", 1)
    positions = await writer.append([[b"1"]])
    kafka.pause()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(Unavailable, match=kafka.address):
            await writer.append([[b"unsure"]])
        with pytest.raises(Unavailable, match="must be opened again"):
            await writer.append([])
    kafka.resume()
    writer = await load.wal.open_writer("p", 1)
    decided = await contents(load.wal)
    positions += await writer.append([[b"2"]])
    found = await contents(load.wal)
    assert found[:-1] == decided
    assert [payload for _, payload in found] in ([b"1", b"2"], [b"1", b"unsure", b"2"])
    assert {position for position, _ in found} >= set(positions)
    await load.wal.close()


async def test_an_append_whose_answer_is_lost_is_there_once(
    own_service: OwnService, world: World
) -> None:
    kafka = own_service(ProxiedKafka)
    proxy: TcpProxy = kafka.proxy
    load = Load(world, proxy.address)
    load.settings = KafkaSettings(broker_list=proxy.address)
    wal = load.another_wal()
    writer = await wal.open_writer("p", 1)
    watcher = Consumer({"bootstrap.servers": kafka.direct_address, "group.id": "watcher"})
    positions: list[int] = []
    for number in range(3):
        proxy.delay(1_000)
        append = asyncio.create_task(writer.append([[b"%d" % number]]))
        await asyncio.to_thread(wait_for_end, watcher, f"{load.prefix}-p", number + 2)
        proxy.reset_connections()
        proxy.delay(0)
        positions += await append
    watcher.close()
    found = await contents(wal)
    assert found == list(zip(positions, [b"0", b"1", b"2"], strict=True))
    await wal.close()


def wait_for_end(watcher: Consumer, topic: str, end: int) -> None:
    """Until the broker has so many messages."""
    deadline = time.monotonic() + PATIENCE_S
    while watcher.get_watermark_offsets(TopicPartition(topic, 0), cached=False)[1] < end:
        assert time.monotonic() < deadline
        watcher.poll(0.01)


@pytest.mark.parametrize("acknowledged", [1, 200])
async def test_an_older_writer_that_wakes_up_gets_no_acknowledgement(
    kafka: Kafka, world: World, acknowledged: int
) -> None:
    load = Load(world, kafka.address)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        APPENDER,
        kafka.address,
        load.prefix,
        CLUSTER,
        "1",
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            told = [await child.stdout.readline() for _ in range(acknowledged)]
        child.send_signal(signal.SIGSTOP)
        writer = await load.wal.open_writer("p", 2)
        before = await contents(load.wal)
        positions = await writer.append([[b"2:first"]])
        child.send_signal(signal.SIGCONT)
        async with asyncio.timeout(PATIENCE_S):
            told += (await child.stdout.read()).splitlines(keepends=True)
        assert told.pop().strip() == FencedWriter.__name__.encode()
        positions += await writer.append([[b"2:second"]])
        found = await contents(load.wal)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    assert found == [*before, *zip(positions, [b"2:first", b"2:second"], strict=True)]
    promised = {int(p): b"1:" + number for p, number in (line.split() for line in told)}
    assert promised.items() <= dict(before).items()
    await load.wal.close()
