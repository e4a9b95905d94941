"""The log in Kafka against the bare client: ``python -m benchmarks.wal_kafka 127.0.0.1:9092``.

Appends groups of records through the log, through the bare idempotent client (acks of all
replicas, one flush a group), and through the bare client with a transaction for each group. The
three take turns group by group, so that what else the machine does hits them alike. Then one reads
back what was written.
"""

import argparse
import random
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import uvloop
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from elanus.config.storage import KafkaSettings
from elanus.observability.logs import configure_logs
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.wal.kafka import KafkaWal

CASES = ((1, 1_000, 1_500), (100, 1_000, 400), (1, 1_000_000, 400))
WARM_UP_GROUPS = 20
MAX_MESSAGE_BYTES = 1_048_588
READ_MESSAGES = 1_000

Append = Callable[[list[bytes]], Awaitable[object]]


def make_topic(brokers: str) -> str:
    topic = f"bench-{uuid4().hex[:8]}"
    config = {"retention.ms": "-1"}
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result()
    return topic


def bare(brokers: str, topic: str, *, transactional: bool) -> Append:
    config = {"bootstrap.servers": brokers, "acks": "all", "enable.idempotence": True}
    if transactional:
        config["transactional.id"] = topic
    producer = Producer(
        config | {"linger.ms": 0, "log_level": 0, "message.max.bytes": MAX_MESSAGE_BYTES}
    )
    if transactional:
        producer.init_transactions()

    async def append(records: list[bytes]) -> None:
        if transactional:
            producer.begin_transaction()
        for record in records:
            producer.produce(topic, record)
        if transactional:
            producer.commit_transaction()
        else:
            producer.flush()

    return append


async def compare(appends: dict[str, Append], count: int, size: int, groups: int) -> None:
    records = [random.Random(1).randbytes(size)] * count
    taken: dict[str, list[float]] = {name: [] for name in appends}
    for group in range(groups + WARM_UP_GROUPS):
        for name, append in appends.items():
            started = time.perf_counter()
            await append(records)
            if group >= WARM_UP_GROUPS:
                taken[name].append(time.perf_counter() - started)
    print(f"\n{count} × {size:,} bytes, {groups} groups")
    baseline = sum(taken["bare client"])
    for name, times in taken.items():
        times.sort()
        rate = groups * count * size / sum(times) / 1e6
        print(
            f"  {name:24} p50 {times[groups // 2] * 1e3:7.2f} ms  "
            f"p99 {times[int(groups * 0.99)] * 1e3:7.2f} ms  {rate:8.1f} MB/s  "
            f"{groups * count / sum(times):8.0f} records/s  {baseline / sum(times):5.0%} of bare"
        )


async def replay(wal: KafkaWal, brokers: str, topic: str) -> None:
    for _ in range(2):
        started, size = time.perf_counter(), 0
        async for record in wal.read("p"):
            size += len(record.payload)
        took_s = time.perf_counter() - started
        print(f"  replay of the log        {size / took_s / 1e6:8.1f} MB/s ({size / 1e6:.0f} MB)")
        started, size = time.perf_counter(), 0
        consumer = Consumer({"bootstrap.servers": brokers, "group.id": "bench"})
        end = consumer.get_watermark_offsets(TopicPartition(topic, 0))[1]
        consumer.assign([TopicPartition(topic, 0, 0)])
        offset = -1
        while offset < end - 1:
            for message in [consumer.poll(30), *consumer.consume(READ_MESSAGES, 0)]:
                size += len(message.value() or b"")
                offset = message.offset()
        consumer.close()
        took_s = time.perf_counter() - started
        print(f"  replay by a bare client  {size / took_s / 1e6:8.1f} MB/s ({size / 1e6:.0f} MB)")


async def main(brokers: str) -> None:
    world = World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=ThreadExecutor(),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )
    prefix = f"bench-{uuid4().hex[:8]}"
    wal = KafkaWal(world, KafkaSettings(broker_list=brokers), prefix, str(uuid4()))
    writer = await wal.open_writer("p", 1)
    bare_topic = make_topic(brokers)
    appends: dict[str, Append] = {
        "bare client": bare(brokers, bare_topic, transactional=False),
        "log": lambda records: writer.append([[record] for record in records]),
        "bare client, transactions": bare(brokers, make_topic(brokers), transactional=True),
    }
    for count, size, groups in CASES:
        await compare(appends, count, size, groups)
    print()
    await replay(wal, brokers, bare_topic)
    await wal.close()
    world.executor.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers", help="host:port of a Kafka that may be written to")
    configure_logs("warning", "text")
    uvloop.run(main(parser.parse_args().brokers))
