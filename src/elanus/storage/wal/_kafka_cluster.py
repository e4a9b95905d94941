"""The cluster's own topic, ``<prefix>-cluster``: its identity, and the terms of its pchannels.

It is compacted, one key for each fact: ``identity``, and ``term/<pchannel>/<term>`` for a term
that a writer was opened at. A term has a key of its own because the last value of a shared key
would be the last one written, not the largest. An opener makes its term's key durable before its
fence and removes those of smaller terms afterwards, so the largest one is always there.
"""

import threading

from elanus.config.storage import KafkaSettings
from elanus.errors import CorruptData
from elanus.runtime.world import World
from elanus.storage.identity import Identity, IdentityMark, decode_identity, encode_identity
from elanus.storage.wal._kafka_client import KafkaClient
from elanus.storage.wal._kafka_producer import KafkaProducer
from elanus.storage.wal._kafka_reader import KafkaReader
from elanus.storage.wal._kafka_topics import CLUSTER_CONFIG, KafkaTopics

_IDENTITY = b"identity"
_TERM = b"term/"


def cluster_topic(prefix: str) -> str:
    return f"{prefix}-cluster"


class KafkaCluster:
    """What the topic says, as of the last ``refresh``. All calls block."""

    def __init__(self, topic: str, topics: KafkaTopics, reader: KafkaReader) -> None:
        self.topic = topic
        self.identity: bytes | None = None
        self._topics = topics
        self._reader = reader
        self._terms: dict[str, set[int]] = {}
        self._next_offset = 0
        self._turn = threading.Lock()

    def ensure(self) -> None:
        """Create the topic."""
        if self._topics.partitions(self.topic) is None:
            self._topics.create(self.topic, CLUSTER_CONFIG)

    def refresh(self, *, is_known: bool) -> None:
        """See everything that was written before this call."""
        with self._turn:
            bounds = self._reader.bounds(self.topic, is_known=is_known)
            high = 0 if bounds is None else bounds[1]
            if high < self._next_offset:
                raise CorruptData(
                    f"the topic {self.topic} had {self._next_offset} messages, now it has {high}"
                )
            if high > self._next_offset:
                for message in self._reader.read_all(self.topic, self._next_offset, high):
                    self._note(message.key or b"", message.value)
            self._next_offset = high

    def _note(self, key: bytes, value: bytes | None) -> None:
        if key == _IDENTITY:
            self.identity = value
        elif key.startswith(_TERM):
            pchannel, _, term = key.removeprefix(_TERM).decode().rpartition("/")
            terms = self._terms.setdefault(pchannel, set())
            if value is None:
                terms.discard(int(term))
            else:
                terms.add(int(term))

    def newest_term(self, pchannel: str) -> int:
        """The largest term that a writer was opened at; 0 before the first."""
        return max(self._terms.get(pchannel, ()), default=0)

    def pchannels(self) -> list[str]:
        return sorted(pchannel for pchannel, terms in self._terms.items() if terms)

    def write_identity(self, producer: KafkaProducer, identity: bytes) -> None:
        producer.send_and_wait(self.topic, [(_IDENTITY, identity)])

    def write_term(self, producer: KafkaProducer, pchannel: str, term: int) -> None:
        """Durable on return."""
        producer.send_and_wait(self.topic, [(_term_key(pchannel, term), b"")])

    def forget_older_terms(self, producer: KafkaProducer, pchannel: str, term: int) -> None:
        """Doesn't wait: what stays will be removed another time."""
        older = [seen for seen in self._terms.get(pchannel, ()) if seen < term]
        if older:
            keys = [_term_key(pchannel, seen) for seen in older]
            producer.send(self.topic, [(key, None) for key in keys], lambda *_: None)


def _term_key(pchannel: str, term: int) -> bytes:
    return _TERM + f"{pchannel}/{term}".encode()


class KafkaMark(IdentityMark):
    """The mark of a log in Kafka."""

    def __init__(self, world: World, settings: KafkaSettings, prefix: str) -> None:
        self.name = f"WAL in Kafka at {settings.broker_list}, topics {prefix}-*"
        self._world = world
        self._client = KafkaClient(settings)
        self._topics = KafkaTopics(self._client)
        self._prefix = prefix

    async def read(self) -> Identity | None:
        return await self._world.executor.run("io", self._read)

    def _read(self) -> Identity | None:
        reader = KafkaReader(self._client)
        try:
            cluster = KafkaCluster(cluster_topic(self._prefix), self._topics, reader)
            is_known = self._topics.partitions(cluster.topic) is not None
            cluster.refresh(is_known=is_known)
        finally:
            reader.close()
        if cluster.identity is None:
            return None
        return decode_identity(cluster.identity, f"the topic {cluster.topic}")

    async def write(self, identity: Identity) -> None:
        await self._world.executor.run("io", self._write, encode_identity(identity))

    def _write(self, identity: bytes) -> None:
        reader, producer = KafkaReader(self._client), KafkaProducer(self._client)
        try:
            cluster = KafkaCluster(cluster_topic(self._prefix), self._topics, reader)
            cluster.ensure()
            cluster.write_identity(producer, identity)
        finally:
            producer.close()
            reader.close()

    async def holds_data(self) -> bool:
        names = await self._world.executor.run("io", self._topics.names, f"{self._prefix}-")
        return any(name != cluster_topic(self._prefix) for name in names)
