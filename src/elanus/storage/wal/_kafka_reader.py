"""Reads a range of a topic with one consumer. All calls block: they belong in the io pool."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as ClientMessage

from elanus.errors import Unavailable
from elanus.storage.wal._kafka_client import LEADER_CHANGES, UNKNOWN_TOPIC, KafkaClient
from elanus.storage.wal._kafka_messages import Message

PARTITION = 0
BATCH_MESSAGES = 1_000
SHORT_FETCH_WAIT_MS = 10
"""The broker holds a fetch at the end of a topic for so long, and what comes next waits for it."""
RETRY_S = 0.05


class KafkaReader:
    """Calls from several threads take turns; a consumer reads one thing at a time."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client
        self._consumer = Consumer(client.consumer_config(SHORT_FETCH_WAIT_MS))
        self._turn = threading.Lock()
        self._is_closed = False

    def bounds(self, topic: str, *, is_known: bool) -> tuple[int, int] | None:
        """Offsets of the first message and behind the last one; None if there is no such topic.

        ``is_known``: the topic exists, so a broker that has not heard of it is asked again.
        """
        doing = f"reading the ends of {topic}"
        partition = TopicPartition(topic, PARTITION)
        timeout_s = self._client.timeout_s
        with self._taking_turn(doing):
            for _ in range(max(1, int(timeout_s / RETRY_S))):
                try:
                    low, high = self._consumer.get_watermark_offsets(
                        partition, timeout=timeout_s, cached=False
                    )
                except KafkaException as error:
                    code = error.args[0].code()
                    if code in UNKNOWN_TOPIC and not is_known:
                        return None
                    if code not in UNKNOWN_TOPIC + LEADER_CHANGES:
                        raise
                else:
                    return low, high
                self._consumer.poll(RETRY_S)
        raise Unavailable(f"{doing}: Kafka at {self._client.brokers} has no leader for the topic")

    def read_all(self, topic: str, start: int, stop: int) -> list[Message]:
        with self._taking_turn(f"reading {topic}"), self._assigned(topic, start):
            batches: list[Message] = []
            while batch := self._read(topic, start, stop):
                batches += batch
                start = batch[-1].offset + 1
            return batches

    def begin(self, topic: str, start: int) -> None:
        """Make ready for ``read``."""
        with self._taking_turn(f"reading {topic}"):
            self._consumer.assign([TopicPartition(topic, PARTITION, start)])

    def read(self, topic: str, start: int, stop: int) -> list[Message]:
        """Some of the messages from ``start``, where the last call ended, to before ``stop``;
        none at the end."""
        with self._taking_turn(f"reading {topic}"):
            return self._read(topic, start, stop)

    def _read(self, topic: str, start: int, stop: int) -> list[Message]:
        doing = f"reading {topic} from offset {start}"
        if start >= stop:
            return []
        first = self._consumer.poll(self._client.timeout_s)
        if first is None:
            raise self._client.typed(KafkaError(KafkaError._TIMED_OUT), doing)
        found = [first, *self._consumer.consume(BATCH_MESSAGES, 0)]
        messages = []
        for item in found:
            if (error := item.error()) is None:
                if (message := as_message(item)).offset < stop:
                    messages.append(message)
            elif error.code() != KafkaError._PARTITION_EOF:
                raise self._client.typed(error, doing)
        return messages

    @contextmanager
    def _taking_turn(self, doing: str) -> Iterator[None]:
        with self._turn:
            if self._is_closed:
                raise Unavailable(f"{doing}: the log is closed")
            try:
                yield
            except KafkaException as error:
                # Why a connection is refused is told only to whoever asks for it.
                self._consumer.poll(0)
                raise self._client.typed(error.args[0], doing) from error

    @contextmanager
    def _assigned(self, topic: str, start: int) -> Iterator[None]:
        self._consumer.assign([TopicPartition(topic, PARTITION, start)])
        try:
            yield
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        with self._turn:
            if not self._is_closed:
                self._is_closed = True
                self._consumer.close()


def as_message(item: ClientMessage) -> Message:
    offset = item.offset()
    assert offset is not None
    return Message(offset, item.key(), item.value())
