"""Follows the ends of topics: one consumer and one thread for all tails of a process.

Everybody who follows a topic gets its messages from the moment of joining. Whoever does not keep up
loses its place: its feed says ``lags``, and it reads on from the topic before it joins again.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as ClientMessage

from elanus.errors import ElanusError
from elanus.storage.wal._kafka_client import KafkaClient
from elanus.storage.wal._kafka_messages import HEADER_BYTES, Message
from elanus.storage.wal._kafka_reader import BATCH_MESSAGES, PARTITION, KafkaReader, as_message

log = structlog.get_logger(__name__)

MAX_WAITING_BYTES = 16 << 20
"""Of one feed; beyond it lags."""
POLL_S = 0.1
"""An idle consumer looks so often whether it is to end or to follow another topic."""
LONG_FETCH_WAIT_MS = 250
"""The broker holds a fetch for so long if nothing comes; a topic that joins waits for it."""


class Feed:
    """Messages of a topic from offset ``start`` on, in batches. Belongs to the event loop."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.start = 0
        self.lags = False
        self.loop = asyncio.get_running_loop()
        self._ended = False
        self._error: ElanusError | None = None
        self._batches: deque[list[Message]] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()

    def push(self, messages: list[Message]) -> None:
        if self.lags:
            return
        self._batches.append(messages)
        self._waiting_bytes += _size(messages)
        if self._waiting_bytes > MAX_WAITING_BYTES and len(self._batches) > 1:
            self.lags = True
            self._batches.clear()
        self._changed.set()

    def end(self, error: ElanusError | None = None) -> None:
        self._ended = True
        self._error = error
        self._changed.set()

    async def batches(self) -> AsyncIterator[list[Message]]:
        """Until it lags or has ended. Raises what it ended with."""
        while not self.lags:
            while self._batches:
                batch = self._batches.popleft()
                self._waiting_bytes -= _size(batch)
                yield batch
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            self._changed.clear()
            await self._changed.wait()

    @property
    def ended(self) -> bool:
        return self._ended


class KafkaTails:
    """``join`` and ``close`` block: they belong in the io pool.

    Only the thread calls the consumer: the others' calls would wait until it finds a message.
    """

    def __init__(self, client: KafkaClient, reader: KafkaReader) -> None:
        self._client = client
        self._reader = reader
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._feeds: dict[str, list[Feed]] = {}
        self._next_offset: dict[str, int] = {}
        self._assigned: set[str] = set()
        self._left: set[str] = set()
        self._is_closed = False

    def join(self, feed: Feed) -> None:
        """Its messages begin at ``feed.start``."""
        topic = feed.topic
        bounds = self._reader.bounds(topic, is_known=True)
        assert bounds is not None
        with self._lock:
            if self._is_closed:
                feed.loop.call_soon_threadsafe(feed.end)
                return
            if self._thread is None:
                consumer = Consumer(self._client.consumer_config(LONG_FETCH_WAIT_MS))
                # It waits for messages all the time; no pool can spare a thread for that.
                self._thread = threading.Thread(
                    target=self._follow, args=(consumer,), name="elanus-kafka-tails", daemon=True
                )
                self._thread.start()
            if topic not in self._feeds:
                self._feeds[topic] = []
                self._next_offset[topic] = bounds[1]
            feed.start = self._next_offset[topic]
            self._feeds[topic].append(feed)

    def leave(self, feed: Feed) -> None:
        with self._lock:
            feeds = self._feeds.get(feed.topic, [])
            if feed in feeds:
                feeds.remove(feed)
                if not feeds:
                    del self._feeds[feed.topic], self._next_offset[feed.topic]
                    self._left.add(feed.topic)

    def _follow(self, consumer: Consumer) -> None:
        while not self._is_closed:
            with self._lock:
                self._change_assignment(consumer)
            first = consumer.poll(POLL_S)
            if first is not None:
                found = [first, *consumer.consume(BATCH_MESSAGES, 0)]
                with self._lock:
                    self._hand_out(found)
        consumer.close()

    def _change_assignment(self, consumer: Consumer) -> None:
        """A topic that was left is given up first, even if somebody has joined it again: the
        consumer may be ahead of where that one begins."""
        if given_up := self._left & self._assigned:
            consumer.incremental_unassign([TopicPartition(t, PARTITION) for t in given_up])
        self._assigned -= self._left
        self._left.clear()
        if joined := self._feeds.keys() - self._assigned:
            consumer.incremental_assign(
                [TopicPartition(t, PARTITION, self._next_offset[t]) for t in joined]
            )
        self._assigned |= joined

    def _hand_out(self, found: list[ClientMessage]) -> None:
        by_topic: dict[str, list[Message]] = {}
        for item in found:
            topic = item.topic()
            if topic is None or topic not in self._feeds or topic in self._left:
                continue
            if (error := item.error()) is not None:
                self._note_error(topic, error)
                continue
            message = as_message(item)
            if message.offset >= self._next_offset[topic]:
                by_topic.setdefault(topic, []).append(message)
        for topic, messages in by_topic.items():
            self._next_offset[topic] = messages[-1].offset + 1
            for feed in self._feeds[topic]:
                feed.loop.call_soon_threadsafe(feed.push, messages)

    def _note_error(self, topic: str, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.retriable() or error.code() in (KafkaError._TRANSPORT, KafkaError._TIMED_OUT):
            log.debug("kafka consumer goes on after an error", topic=topic, error=error.str())
            return
        failure = self._client.typed(error, f"following {topic}")
        for feed in self._feeds[topic]:
            feed.loop.call_soon_threadsafe(feed.end, failure)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            for feeds in self._feeds.values():
                for feed in feeds:
                    feed.loop.call_soon_threadsafe(feed.end)
            self._feeds.clear()
        if self._thread is not None:
            self._thread.join()


def _size(messages: list[Message]) -> int:
    return sum(len(message.value or b"") + HEADER_BYTES for message in messages)
