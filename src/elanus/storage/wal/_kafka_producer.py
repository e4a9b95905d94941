"""Sends groups of messages, many topics through one producer and one thread that hears of them.

The client sends again what got no answer, and the broker drops what it has already: each message
ends up in its topic once and in order, or fails after the time limit. A failed message may be
there all the same. Which it is can't be told here; see :mod:`elanus.storage.wal.kafka`.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as ClientMessage

from elanus.errors import ElanusError, Unavailable
from elanus.storage.wal._kafka_client import KafkaClient
from elanus.storage.wal._kafka_reader import PARTITION

Keyed = tuple[bytes, bytes | None]
"""A message to be sent: its key and its value."""
Answer = Callable[[list[int], ElanusError | None], None]
"""Told the offsets of the messages, in their order; or what has become of them otherwise."""

POLL_S = 0.2
"""An idle producer is asked so often whether it is to end."""


class KafkaProducer:
    """``is_broken``: the client has given up for good; a new one is needed."""

    def __init__(self, client: KafkaClient) -> None:
        self.is_broken = False
        self._client = client
        self._producer = Producer(client.producer_config())
        self._is_closing = False
        # The client reports on a thread that waits for it all the time; no pool can spare one.
        self._thread = threading.Thread(
            target=self._hear, name="elanus-kafka-producer", daemon=True
        )
        self._thread.start()

    def send(self, topic: str, messages: Sequence[Keyed], answer: Answer) -> None:
        """Queue messages; ``answer`` is called later, once, on any thread, and must be quick.

        Doesn't block; copies the messages.
        """
        delivery = _Delivery(self, self._client, topic, len(messages), answer)
        try:
            for key, value in messages:
                self._producer.produce(
                    topic, value, key, partition=PARTITION, on_delivery=delivery.report
                )
        except (KafkaException, BufferError) as error:
            cause = error.args[0] if isinstance(error, KafkaException) else None
            delivery.fail(cause or KafkaError(KafkaError._QUEUE_FULL))

    def send_and_wait(self, topic: str, messages: Sequence[Keyed]) -> list[int]:
        """The messages' offsets. Blocks. Raises Unavailable."""
        sent: Future[list[int]] = Future()

        def answer(offsets: list[int], error: ElanusError | None) -> None:
            if error is None:
                sent.set_result(offsets)
            else:
                sent.set_exception(error)

        self.send(topic, messages, answer)
        return sent.result()

    def _hear(self) -> None:
        while not self._is_closing:
            self._producer.poll(POLL_S)

    def close(self) -> None:
        """What is still queued fails. Blocks."""
        self._is_closing = True
        self._thread.join()
        self._producer.purge()
        self._producer.flush(0)
        self._producer.poll(0)
        self._producer.close()


class _Delivery:
    """Waits for the reports of a group of messages."""

    def __init__(
        self,
        producer: KafkaProducer,
        client: KafkaClient,
        topic: str,
        count: int,
        answer: Answer,
    ) -> None:
        self._producer = producer
        self._client = client
        self._topic = topic
        self._answer = answer
        self._is_answered = False
        self._missing = count
        self._found: list[int] = []
        self._error: ElanusError | None = None

    def report(self, error: KafkaError | None, message: ClientMessage) -> None:
        """Called once for every message, in their order."""
        self._missing -= 1
        if error is not None:
            self._note(error)
        elif (offset := message.offset()) is None or offset < 0:
            # It was sent twice and the broker remembers that it has it, but no longer where.
            self._error = Unavailable(f"appending to {self._topic}: the broker gave no offset")
        else:
            self._found.append(offset)
        if self._missing == 0:
            self._finish()

    def fail(self, error: KafkaError) -> None:
        """The rest of the messages can't be queued."""
        self._note(error)
        self._finish()

    def _finish(self) -> None:
        if not self._is_answered:
            self._is_answered = True
            self._answer(self._found, self._error)

    def _note(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._producer.is_broken = True
        if self._error is None:
            self._error = self._client.typed(error, f"appending to {self._topic}")
