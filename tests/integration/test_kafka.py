"""A log in Kafka beyond the contract: large records, topics that don't suit, identity."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from tests.contract.test_wal_contract import CLUSTER, contents
from tests.services.kafka import Kafka
from tests.services.ports import free_port
from tests.worlds import running_world

from elanus.config.storage import KafkaSettings
from elanus.errors import CorruptData, FencedWriter, InternalError, Unavailable
from elanus.runtime.world import World
from elanus.storage.identity import Identity
from elanus.storage.wal.kafka import KafkaMark, KafkaWal

OTHER_CLUSTER = "11111111-3b8e-4a51-9b9d-2f6d1c6f5a10"
Open = Callable[..., KafkaWal]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world


@pytest.fixture
def prefix() -> str:
    return f"t-{uuid4().hex[:8]}"


@pytest.fixture
def open_wal(kafka: Kafka, world: World, prefix: str) -> Open:
    def make(cluster: str = CLUSTER) -> KafkaWal:
        return KafkaWal(world, KafkaSettings(broker_list=kafka.address), prefix, cluster)

    return make


async def test_records_larger_than_a_message_come_back_whole(open_wal: Open) -> None:
    wal = open_wal()
    writer = await wal.open_writer("p", 1)
    large = bytes(range(256)) * (80 << 10)
    first, middle, last = await writer.append([[b"before"], [large[:7], large[7:]], [b"after"]])
    tail = wal.tail("p", first)
    assert [(await anext(tail)).position, (await anext(tail)).position] == [middle, last]
    await wal.close()
    wal = open_wal()
    assert await contents(wal) == [(first, b"before"), (middle, large), (last, b"after")]
    assert await contents(wal, after=middle) == [(last, b"after")]
    assert await wal.size_bytes() >= len(large)
    await wal.truncate("p", middle)
    assert await contents(wal, after=middle) == [(last, b"after")]
    assert 0 < await wal.size_bytes() < 2 << 20
    await wal.close()


async def test_an_opener_that_slept_through_a_newer_one_gives_up_and_harms_nobody(
    open_wal: Open, world: World
) -> None:
    slow_wal, fast_wal = open_wal(), open_wal()
    asleep, awake = threading.Event(), threading.Event()

    def sleep() -> None:
        world.failpoints.arm_with("wal.open.before_fence", lambda: None)
        asleep.set()
        awake.wait(30)

    world.failpoints.arm_with("wal.open.before_fence", sleep)
    slow = asyncio.create_task(slow_wal.open_writer("p", 1))
    await asyncio.to_thread(asleep.wait, 30)
    fast = await fast_wal.open_writer("p", 2)
    positions = await fast.append([[b"1"]])
    awake.set()
    with pytest.raises(FencedWriter, match="opened at term 2, this is term 1"):
        await slow
    positions += await fast.append([[b"2"]])
    assert await contents(open_wal()) == list(zip(positions, [b"1", b"2"], strict=True))
    await slow_wal.close()
    await fast_wal.close()


async def test_after_truncation_the_newest_term_is_still_known(open_wal: Open) -> None:
    wal = open_wal()
    writer = await wal.open_writer("p", 5)
    positions = [(await writer.append([[b"%d" % number]]))[0] for number in range(10)]
    await wal.truncate("p", positions[-1])
    await wal.close()
    with pytest.raises(FencedWriter):
        await open_wal().open_writer("p", 4)
    wal = open_wal()
    writer = await wal.open_writer("p", 6)
    next_position = await writer.append([[b"next"]])
    assert await contents(wal, after=positions[-1]) == [(next_position[0], b"next")]
    await wal.close()


@pytest.mark.parametrize(
    ("partitions", "config", "text"),
    [
        (3, {"retention.ms": "-1"}, "has 3 partitions"),
        (1, {}, "retention.ms is 604800000, must be -1"),
        (1, {"cleanup.policy": "compact"}, "cleanup.policy is compact, must be delete"),
        (1, {"retention.ms": "-1", "max.message.bytes": "100000"}, "must be at least 1048588"),
    ],
)
async def test_a_topic_that_could_lose_records_is_refused(
    kafka: Kafka,
    open_wal: Open,
    prefix: str,
    partitions: int,
    config: dict[str, str],
    text: str,
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.address})
    topic = f"{prefix}-p"
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result()
    with pytest.raises(InternalError, match=text):
        await open_wal().open_writer("p", 1)


async def test_a_topic_that_was_lost_is_not_replaced_by_an_empty_one(
    kafka: Kafka, open_wal: Open, prefix: str
) -> None:
    wal = open_wal()
    writer = await wal.open_writer("p", 3)
    (position,) = await writer.append([[b"1"]])
    await wal.close()
    topic = f"{prefix}-p"
    admin = AdminClient({"bootstrap.servers": kafka.address})
    admin.delete_topics([topic])[topic].result()
    with pytest.raises(CorruptData, match="is lost: a writer was opened at term 3"):
        await open_wal().open_writer("p", 4)
    with pytest.raises(CorruptData, match="acknowledged"):
        await contents(open_wal(), after=position)


async def test_a_log_of_another_cluster_is_refused(open_wal: Open) -> None:
    wal = open_wal()
    await (await wal.open_writer("p", 1)).append([[b"1"]])
    with pytest.raises(CorruptData, match="was written by the cluster"):
        await contents(open_wal(OTHER_CLUSTER))
    await wal.close()


async def test_the_identity_is_kept_and_the_logs_are_seen(
    kafka: Kafka, open_wal: Open, world: World, prefix: str
) -> None:
    def mark() -> KafkaMark:
        return KafkaMark(world, KafkaSettings(broker_list=kafka.address), prefix)

    assert await mark().read() is None
    assert not await mark().holds_data()
    await mark().write(Identity(cluster_id=CLUSTER))
    assert not await mark().holds_data()
    wal = open_wal()
    await wal.open_writer("p", 1)
    await wal.close()
    assert await mark().holds_data()
    assert await mark().read() == Identity(cluster_id=CLUSTER)


async def test_without_a_broker_everything_says_so_in_time(world: World) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = KafkaSettings(broker_list=nowhere, request_timeout=1_000)
    wal = KafkaWal(world, settings, "nowhere", CLUSTER)
    async with asyncio.timeout(30):
        for act in (
            lambda: wal.open_writer("p", 1),
            lambda: contents(wal),
            lambda: anext(wal.tail("p")),
            wal.list_channels,
            KafkaMark(world, settings, "nowhere").read,
        ):
            with pytest.raises(Unavailable, match=nowhere):
                await act()
    await wal.close()


class KafkaWithLogin(Kafka):
    """Takes the user ``elanus`` with the password ``right`` on a listener of its own."""

    port_names = (*Kafka.port_names, "login")

    @property
    def login_address(self) -> str:
        return f"127.0.0.1:{self.ports['login']}"

    def prepare(self) -> None:
        super().prepare()
        login = f"LOGIN://{self.login_address},"
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        prefixes = {
            "listeners": login,
            "advertised.listeners": login,
            "listener.security.protocol.map": "LOGIN:SASL_PLAINTEXT,",
        }
        file = self.directory / "server.properties"
        lines = []
        for line in file.read_text().splitlines():
            key, _, value = line.partition("=")
            lines.append(f"{key}={prefixes.get(key, '')}{value}")
        lines += [
            "inter.broker.listener.name=PLAINTEXT",
            "listener.name.login.sasl.enabled.mechanisms=PLAIN",
            f'listener.name.login.plain.sasl.jaas.config={module} required user_elanus="right";',
            "",
        ]
        file.write_text("\n".join(lines))


async def test_a_login_works_and_a_wrong_password_is_told_without_naming_it(
    own_service: Callable[..., Any], world: World, capfd: pytest.CaptureFixture[str]
) -> None:
    kafka = own_service(KafkaWithLogin)

    def settings(password: str) -> KafkaSettings:
        return KafkaSettings(
            broker_list=kafka.login_address,
            sasl_username="elanus",
            sasl_password=password,
            request_timeout=10_000 if password == "right" else 2_000,
        )

    wal = KafkaWal(world, settings("right"), "t", CLUSTER)
    positions = await (await wal.open_writer("p", 1)).append([[b"1"]])
    assert await contents(wal) == [(positions[0], b"1")]
    await wal.close()
    wal = KafkaWal(world, settings("seven-dwarfs"), "t", CLUSTER)
    with pytest.raises(InternalError, match="user 'elanus', sasl_plaintext"):
        await wal.open_writer("p", 2)
    with pytest.raises(InternalError, match="refuses the connection"):
        await contents(wal)
    await wal.close()
    printed = "".join(capfd.readouterr())
    assert "seven-dwarfs" not in printed
    assert "%3|" not in printed
