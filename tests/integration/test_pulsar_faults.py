"""The log in Pulsar while brokers die, connections break and writers are frozen."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.lossy_proxy import LossyProxy
from tests.integration.pulsar_log import (
    CHANNEL,
    CLUSTER,
    PATIENCE_S,
    Load,
    contents,
    in_new_namespace,
    make_namespace,
    number_of,
    open_log,
    payload,
    unload,
    until,
)
from tests.services.fixtures import require, started
from tests.services.ports import free_port
from tests.services.pulsar import Pulsar
from tests.worlds import make_world

from elanus.config.storage import PulsarSettings
from elanus.errors import CorruptData, FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.identity import Identity
from elanus.storage.wal._pulsar_admin import PulsarAdmin
from elanus.storage.wal.pulsar import PulsarWal
from elanus.storage.wal.pulsar_mark import PulsarMark

pytestmark = pytest.mark.services

OTHER_CLUSTER = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pulsar]:
    yield from started(Pulsar, tmp_path_factory)


@pytest.fixture
def settings(server: Pulsar) -> PulsarSettings:
    return in_new_namespace(server)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = make_world(seed=None)
    yield world
    await world.tasks.close()
    world.executor.close()


@pytest.fixture
async def wal(world: World, settings: PulsarSettings) -> AsyncIterator[PulsarWal]:
    wal = open_log(world, settings)
    yield wal
    await wal.close()


def start_writer(settings: PulsarSettings, term: int) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "tests.integration.pulsar_log"),
        *(settings.address, settings.web_address, settings.namespace, str(term)),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def test_a_broker_that_is_killed_loses_and_doubles_nothing(
    server: Pulsar, wal: PulsarWal
) -> None:
    load = Load(wal, term=1)
    running = asyncio.create_task(load.run())
    await load.reach(50)
    for _ in range(2):
        server.kill()
        await asyncio.to_thread(server.start)
        await load.reach(50)
    load.is_ending = True
    await running
    await load.check()


async def test_a_frozen_writer_that_wakes_up_gets_no_acknowledgement(
    wal: PulsarWal, settings: PulsarSettings
) -> None:
    with start_writer(settings, term=1) as older:
        assert older.stdout is not None
        lines = [await asyncio.to_thread(older.stdout.readline) for _ in range(50)]
        os.kill(older.pid, signal.SIGSTOP)
        writer = await wal.open_writer(CHANNEL, 2)
        before = await contents(wal)
        first = len(before)
        positions = [(await writer.append([[payload(first)]]))[0]]
        os.kill(older.pid, signal.SIGCONT)
        rest, _ = await asyncio.to_thread(older.communicate, timeout=PATIENCE_S)
    # The zombie's attempt to come back may cost the newer writer its connection, not its place.
    positions += await writer.append([[payload(first + 1)]])
    lines += rest.splitlines()
    assert lines[-1] == "fenced"
    acknowledged = {
        (int(position), int(number)) for _, number, position in map(str.split, lines[:-1])
    }
    assert len(acknowledged) == len(lines) - 1
    assert acknowledged <= set(before)
    assert await contents(wal) == [*before, (positions[0], first), (positions[1], first + 1)]
    assert [number for _, number in before] == list(range(first))


async def test_an_opener_of_an_older_term_disturbs_nobody(
    world: World, wal: PulsarWal, settings: PulsarSettings
) -> None:
    stale = open_log(world, settings)
    writer = await wal.open_writer(CHANNEL, 5)
    with pytest.raises(FencedWriter, match="term 5"):
        await stale.open_writer(CHANNEL, 4)
    await writer.append([[payload(0)]])
    with pytest.raises(FencedWriter, match="term 5"):
        await stale.open_writer(CHANNEL, 4)
    await writer.append([[payload(1)]])
    assert [number for _, number in await contents(wal)] == [0, 1]
    await stale.close()


async def test_a_record_of_many_messages_comes_back(wal: PulsarWal) -> None:
    large = os.urandom(1 << 20) * 64
    writer = await wal.open_writer(CHANNEL, 1)
    halves = [memoryview(large)[: 40 << 20], memoryview(large)[40 << 20 :]]
    position, after = await writer.append([halves, [b"after"]])
    found = [record async for record in wal.read(CHANNEL)]
    assert [record.position for record in found] == [position, after]
    assert found[0].payload == large
    assert [record.payload async for record in wal.read(CHANNEL, position)] == [b"after"]


async def test_what_was_truncated_is_deleted_and_the_term_is_still_known(
    world: World, wal: PulsarWal, settings: PulsarSettings
) -> None:
    writer = await wal.open_writer(CHANNEL, 3)
    positions = await writer.append([[b"1:" + os.urandom(1 << 20)] for _ in range(8)])
    before = await wal.size_bytes()
    await wal.truncate(CHANNEL, positions[-1])
    kept = (await writer.append([[payload(2)]]))[0]
    await wal.truncate(CHANNEL, kept)
    await wal.close()
    await asyncio.to_thread(unload, settings, CHANNEL)
    again = open_log(world, settings)
    with pytest.raises(FencedWriter, match="term 3"):
        await again.open_writer(CHANNEL, 2)
    writer = await again.open_writer(CHANNEL, 4)
    newest = (await writer.append([[payload(3)]]))[0]
    await again.truncate(CHANNEL, newest)
    assert (await contents(again))[-1] == (newest, 3)
    assert newest > kept
    await asyncio.to_thread(unload, settings, CHANNEL)

    async def is_smaller() -> bool:
        return await again.size_bytes() < before / 2

    await until(is_smaller)
    assert [number for _, number in await contents(again)] == [3]
    await again.close()


async def test_a_tail_goes_on_after_the_broker_was_killed(server: Pulsar, wal: PulsarWal) -> None:
    seen: list[int] = []

    async def follow() -> None:
        after = -1
        while True:
            try:
                async for record in wal.tail(CHANNEL, after):
                    after = record.position
                    seen.append(number_of(record.payload))
                return
            except Unavailable:
                continue

    following = asyncio.create_task(follow())
    load = Load(wal, term=1)
    running = asyncio.create_task(load.run())
    await load.reach(30)
    server.kill()
    await asyncio.to_thread(server.start)
    await load.reach(30)
    load.is_ending = True
    await running
    last = max(load.acknowledged)

    async def has_seen_all() -> bool:
        return bool(seen) and seen[-1] >= last

    await until(has_seen_all)
    await wal.close()
    await following
    assert seen == list(range(len(seen)))


async def test_a_broker_that_is_down_is_named(world: World) -> None:
    nowhere = PulsarSettings(
        address="pulsar://127.0.0.1:1", web_address="http://127.0.0.1:1", request_timeout=2_000
    )
    wal = open_log(world, nowhere)
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1"):
        await wal.open_writer(CHANNEL, 1)
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1"):
        await contents(wal)
    await wal.close()


async def test_a_broker_that_is_down_is_named_by_appends(
    world: World, settings: PulsarSettings
) -> None:
    wal = open_log(
        world,
        PulsarSettings(
            address="pulsar://127.0.0.1:1",
            web_address=settings.web_address,
            namespace=settings.namespace,
            request_timeout=2_000,
        ),
    )
    with pytest.raises(Unavailable, match=r"pulsar://127\.0\.0\.1:1"):
        await wal.open_writer(CHANNEL, 1)
    await wal.close()


async def test_the_mark_keeps_clusters_apart(
    world: World, wal: PulsarWal, settings: PulsarSettings
) -> None:
    mark = PulsarMark(world, settings, "p")
    assert await mark.read() is None
    assert not await mark.holds_data()
    await mark.write(Identity(cluster_id=CLUSTER))
    assert await mark.read() == Identity(cluster_id=CLUSTER)
    assert not await mark.holds_data()
    assert await wal.list_channels() == []
    writer = await wal.open_writer(CHANNEL, 1)
    await writer.append([[payload(0)]])
    assert await mark.holds_data()
    other = PulsarWal(world, settings, "p", OTHER_CLUSTER)
    with pytest.raises(CorruptData, match="belongs to cluster"):
        await contents(other)
    await other.close()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[tuple[LossyProxy, PulsarSettings]]:
    require(Pulsar)
    server, proxy_port = Pulsar(tmp_path / "pulsar"), free_port()
    server.advertised = f"127.0.0.1:{proxy_port}"
    proxy = LossyProxy(proxy_port, server.ports["broker"])
    await proxy.start()
    try:
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(make_namespace, server.http_address, "proxied")
        yield (
            proxy,
            PulsarSettings(
                address=f"pulsar://{server.advertised}",
                web_address=server.http_address,
                namespace="proxied",
                request_timeout=20_000,
            ),
        )
    finally:
        server.kill()
        await proxy.close()


async def test_connections_that_break_lose_and_double_nothing(
    world: World, proxy: tuple[LossyProxy, PulsarSettings]
) -> None:
    wire, settings = proxy
    wal = open_log(world, settings)
    admin = PulsarAdmin(settings)

    async def lose_acknowledgements(send: Callable[[], None] = lambda: None) -> None:
        """The broker takes what is sent, its answer is lost, and the client sends it again."""
        before = await asyncio.to_thread(admin.last_message, CHANNEL)
        wire.is_deaf = True
        send()

        async def has_landed() -> bool:
            return await asyncio.to_thread(admin.last_message, CHANNEL) != before

        await until(has_landed)
        wire.is_deaf = False
        wire.cut()

    writer = await wal.open_writer(CHANNEL, 1)
    appending: list[asyncio.Task[list[int]]] = []

    def send() -> None:
        appending.append(asyncio.create_task(writer.append([[payload(0)], [payload(1)]])))

    await lose_acknowledgements(send)
    positions = await appending[0]
    assert await contents(wal) == list(zip(positions, [0, 1], strict=True))
    last = admin.last_message(CHANNEL)
    assert last is not None
    assert last.position() > positions[-1], "the record was not sent twice"
    positions += await writer.append([[payload(2)]])
    assert await contents(wal) == list(zip(positions, [0, 1, 2], strict=True))

    load = Load(wal, term=2)
    running = asyncio.create_task(load.run())
    for _ in range(3):
        await load.reach(30)
        wire.cut()
        await load.reach(30)
        await lose_acknowledgements()
    await load.reach(30)
    load.is_ending = True
    await running
    await load.check()
    await wal.close()
