"""A write-ahead log in Kafka: a topic with one partition for each pchannel.

A position is an offset and a number within the message there. How the promises of
:mod:`elanus.storage.wal.base` are kept, without a transaction for each append
(docs/decisions/0009-kafka.md has the reasons and the figures):

- A writer opens by appending a *fence* with its term. The broker gives the topic one order, and
  everybody reads it alike: what an older writer appends behind the fence does not count
  (:mod:`elanus.storage.wal._kafka_messages`).
- A writer acknowledges nothing before the broker has it on all replicas in sync and it is certain
  that no fence is in front of it: the offsets of its messages must follow one another without a
  gap. Where there is one, the writer reads what is in it; a fence of its term or a larger one
  means that it was replaced.
- Opening makes the term durable in the cluster's topic before the fence, and looks there again
  after the fence. If a larger term is in front of the fence it is seen then, so an opener of an
  older term gives up, and its fence counts for nobody.
- After an error nobody can tell what is still on its way to the topic. The writer refuses all
  further appends. The fence of the next one decides: a record in front of it is there, one behind
  it is not.
- Truncation keeps the message at the position that it is told, from which a reader learns the
  fence.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from uuid import UUID

from elanus.config.storage import KafkaSettings
from elanus.errors import (
    CorruptData,
    FencedWriter,
    InternalError,
    Unavailable,
)
from elanus.runtime.world import World
from elanus.storage.uncancelled import run_to_end
from elanus.storage.wal._kafka_client import KafkaClient
from elanus.storage.wal._kafka_cluster import KafkaCluster, KafkaMark, cluster_topic
from elanus.storage.wal._kafka_messages import (
    HEADER_BYTES,
    NO_FENCE,
    Header,
    Kind,
    LogDecoder,
    decode_header,
    offset_of,
)
from elanus.storage.wal._kafka_producer import KafkaProducer
from elanus.storage.wal._kafka_reader import KafkaReader
from elanus.storage.wal._kafka_tails import Feed, KafkaTails
from elanus.storage.wal._kafka_topics import LOG_CONFIG, KafkaTopics
from elanus.storage.wal._kafka_writer import KafkaWalWriter
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord, WalWriter

__all__ = ["KafkaMark", "KafkaWal"]

_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class KafkaWal(Wal):
    """The logs of one cluster. Their topics' names begin with ``prefix``."""

    def __init__(self, world: World, settings: KafkaSettings, prefix: str, cluster_id: str) -> None:
        self._world = world
        self._prefix = prefix
        self._cluster_id = UUID(cluster_id).bytes
        self._client = KafkaClient(settings)
        self._topics = KafkaTopics(self._client)
        self._scout = KafkaReader(self._client)
        self._cluster = KafkaCluster(cluster_topic(prefix), self._topics, self._scout)
        self._tails = KafkaTails(self._client, self._scout)
        self._producer: KafkaProducer | None = None
        self._writers: dict[str, KafkaWalWriter] = {}
        self._known: set[str] = set()
        self._is_cluster_known = False
        self._prepare_turn = asyncio.Lock()

    # --- writing --------------------------------------------------------------------------------

    async def open_writer(self, pchannel: str, term: int) -> WalWriter:
        topic = self._topic(pchannel)
        previous = self._writers.get(pchannel)
        if previous is not None and previous.term <= term:
            del self._writers[pchannel]
            await previous.close()
        await self._prepare(pchannel)
        producer = await self._get_producer()
        writer = await self._world.executor.run("io", self._fence, pchannel, topic, term, producer)
        self._writers[pchannel] = writer
        return writer

    async def _get_producer(self) -> KafkaProducer:
        if self._producer is not None and self._producer.is_broken:
            broken, self._producer = self._producer, None
            await self._world.executor.run("io", broken.close)
        if self._producer is None:
            self._producer = KafkaProducer(self._client)
        return self._producer

    async def _prepare(self, pchannel: str) -> None:
        async with self._prepare_turn:
            if pchannel not in self._known:
                await self._world.executor.run("io", self._prepare_blocking, pchannel)
                self._known.add(pchannel)

    def _prepare_blocking(self, pchannel: str) -> None:
        """The topics exist and are as they must be."""
        topic = self._topic(pchannel)
        if not self._is_cluster_known:
            self._cluster.ensure()
            self._is_cluster_known = True
        self._cluster.refresh(is_known=True)
        is_missing = self._topics.partitions(topic) is None
        term = self._cluster.newest_term(pchannel)
        if is_missing and term > 0 and self._topics.create(topic, LOG_CONFIG, pretend=True):
            raise CorruptData(
                f"the topic {topic} is lost: a writer was opened at term {term}, "
                f"but Kafka at {self._client.brokers} has no such topic"
            )
        if not is_missing or not self._topics.create(topic, LOG_CONFIG):
            self._topics.check_log(topic)

    def _fence(
        self, pchannel: str, topic: str, term: int, producer: KafkaProducer
    ) -> "KafkaWalWriter":
        cluster = self._cluster
        self._check_term(pchannel, term)
        if cluster.newest_term(pchannel) < term:
            cluster.write_term(producer, pchannel, term)
        self._world.failpoints.hit("wal.open.before_fence")
        written = self._bytes_before(topic)
        header = Header(Kind.FENCE, term, NO_FENCE, written, self._cluster_id)
        (fence,) = producer.send_and_wait(topic, [(header.encode(), None)])
        self._check_term(pchannel, term)
        cluster.forget_older_terms(producer, pchannel, term)
        return KafkaWalWriter(
            self._world,
            topic,
            Header(Kind.RECORD, term, fence, written + HEADER_BYTES, self._cluster_id),
            producer,
            self._scout,
        )

    def _check_term(self, pchannel: str, term: int) -> None:
        self._cluster.refresh(is_known=True)
        if (newest := self._cluster.newest_term(pchannel)) > term:
            raise FencedWriter(
                f"{self._topic(pchannel)} was opened at term {newest}, this is term {term}"
            )

    # --- reading --------------------------------------------------------------------------------

    async def read(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        topic = self._topic(pchannel)
        is_known = pchannel in self._known
        run = self._world.executor.run
        bounds = await run("io", self._scout.bounds, topic, is_known=is_known)
        low, high = (0, 0) if bounds is None else bounds
        decoder = self._decoder(topic, after, low, high)
        async for record in self._read_range(topic, decoder, high):
            yield record

    def _decoder(self, topic: str, after: int, low: int, high: int) -> LogDecoder:
        return LogDecoder.beginning(topic, self._cluster_id, after=after, low=low, high=high)

    async def _read_range(
        self, topic: str, decoder: LogDecoder, stop: int
    ) -> AsyncIterator[WalRecord]:
        if decoder.next_offset >= stop:
            return
        run = self._world.executor.run
        reader = await run("io", KafkaReader, self._client)
        try:
            await run("io", reader.begin, topic, decoder.next_offset)
            while decoder.next_offset < stop:
                start = decoder.next_offset
                messages = await run("io", reader.read, topic, start, stop)
                for record in decoder.records(messages):
                    yield record
                if decoder.next_offset == start:
                    raise Unavailable(f"reading {topic}: it ends at {start} instead of {stop}")
        finally:
            await run_to_end(run("io", reader.close))

    async def tail(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        topic = self._topic(pchannel)
        run = self._world.executor.run
        await self._prepare(pchannel)
        bounds = await run("io", self._scout.bounds, topic, is_known=True)
        assert bounds is not None
        decoder = self._decoder(topic, after, *bounds)
        ended = False
        while not ended:
            feed = Feed(topic)
            try:
                await run("io", self._tails.join, feed)
                async for record in self._read_range(topic, decoder, feed.start):
                    yield record
                async for messages in feed.batches():
                    for record in decoder.records(messages):
                        yield record
            finally:
                await run_to_end(run("io", self._tails.leave, feed))
            ended = feed.ended

    # --- the rest -------------------------------------------------------------------------------

    async def truncate(self, pchannel: str, upto: int) -> None:
        """The message of ``upto`` stays: it tells the fence to whoever reads on from there."""
        if upto >= 0:
            await self._world.executor.run("io", self._truncate, self._topic(pchannel), upto)

    def _truncate(self, topic: str, upto: int) -> None:
        bounds = self._scout.bounds(topic, is_known=False)
        offset = offset_of(upto)
        if bounds is None or offset <= bounds[0]:
            return
        low, high = bounds
        if offset >= high:
            raise InternalError(f"can't truncate {topic} at {offset}: it has {low} to {high}")
        self._topics.truncate(topic, offset)

    async def list_channels(self) -> list[str]:
        return await self._world.executor.run("io", self._list_channels)

    def _list_channels(self) -> list[str]:
        is_known = self._topics.partitions(self._cluster.topic) is not None
        self._cluster.refresh(is_known=is_known)
        return self._cluster.pchannels()

    async def size_bytes(self) -> int:
        """Of payloads and headers, without what batches and replicas add."""
        return await self._world.executor.run("io", self._size_bytes)

    def _size_bytes(self) -> int:
        total = 0
        for pchannel in self._list_channels():
            topic = self._topic(pchannel)
            bounds = self._scout.bounds(topic, is_known=True)
            if bounds is not None and bounds[1] > bounds[0]:
                total += self._bytes_before(topic) - self._bytes_at(topic, bounds[0])[0]
        return total

    def _bytes_before(self, topic: str) -> int:
        """What was written to the topic so far."""
        bounds = self._scout.bounds(topic, is_known=True)
        if bounds is None or bounds[1] == bounds[0]:
            return 0
        return sum(self._bytes_at(topic, bounds[1] - 1))

    def _bytes_at(self, topic: str, offset: int) -> tuple[int, int]:
        """What was written before a message, and its own size."""
        (message,) = self._scout.read_all(topic, offset, offset + 1)
        header = decode_header(message.key, f"the message at offset {offset} of the topic {topic}")
        return header.bytes_before, len(message.value or b"") + len(message.key or b"")

    async def close(self) -> None:
        for pchannel in sorted(self._writers):
            await self._writers[pchannel].close()
        self._writers.clear()
        run = self._world.executor.run
        await run("io", self._tails.close)
        producer, self._producer = self._producer, None
        if producer is not None:
            await run("io", producer.close)
        await run("io", self._scout.close)
        self._topics.close()

    def _topic(self, pchannel: str) -> str:
        if not _CHANNEL_NAME.fullmatch(pchannel):
            raise InternalError(f"{pchannel!r} can't name a log")
        has_prefix = pchannel.startswith(f"{self._prefix}-")
        topic = pchannel if has_prefix else f"{self._prefix}-{pchannel}"
        if topic == cluster_topic(self._prefix):
            raise InternalError(f"{pchannel!r} can't name a log: {topic} is the cluster's topic")
        return topic
