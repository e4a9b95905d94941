"""Topics: created with what a log needs, refused if they have something else. All calls block."""

from concurrent.futures import Future
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from elanus.errors import ElanusError, InternalError
from elanus.storage.wal._kafka_client import UNKNOWN_TOPIC, KafkaClient
from elanus.storage.wal._kafka_messages import MAX_MESSAGE_BYTES
from elanus.storage.wal._kafka_reader import PARTITION

log = structlog.get_logger(__name__)

UNLIMITED = "-1"

LOG_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": UNLIMITED,
    "retention.bytes": UNLIMITED,
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
    "unclean.leader.election.enable": "false",
}
"""Of a pchannel's topic: nothing goes away but what is truncated."""

CLUSTER_CONFIG = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": "3600000",
    "unclean.leader.election.enable": "false",
}
"""Of the cluster's own topic: the last value of each key stays."""

_MUST_BE = ("cleanup.policy", "retention.ms", "retention.bytes")


class KafkaTopics:
    def __init__(self, client: KafkaClient) -> None:
        self._client = client
        self._admin: AdminClient | None = None

    def _get_admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = self._client.admin()
        return self._admin

    def _typed(self, error: KafkaException, doing: str) -> ElanusError:
        # Why a connection is refused is told only to whoever asks for it.
        self._get_admin().poll(0)
        return self._client.typed(error.args[0], doing)

    def partitions(self, topic: str) -> int | None:
        """How many the topic has; None if it does not exist."""
        futures = self._get_admin().describe_topics(
            TopicCollection([topic]), request_timeout=self._client.timeout_s
        )
        try:
            description = futures[topic].result()
        except KafkaException as error:
            if error.args[0].code() in UNKNOWN_TOPIC:
                return None
            raise self._typed(error, f"describing {topic}") from error
        return len(description.partitions)

    def names(self, prefix: str) -> list[str]:
        try:
            found = self._get_admin().list_topics(timeout=self._client.timeout_s).topics
        except KafkaException as error:
            raise self._typed(error, "listing topics") from error
        return sorted(name for name in found if name.startswith(prefix))

    def create(self, topic: str, config: dict[str, str], *, pretend: bool = False) -> bool:
        """With one partition; False if it exists already, which the controller knows for sure.

        ``pretend``: only tell whether it could be created.
        """
        new = NewTopic(topic, 1, self._client.settings.replication_factor, config=config)
        timeout_s = self._client.timeout_s
        futures = self._get_admin().create_topics(
            [new], operation_timeout=timeout_s, request_timeout=timeout_s, validate_only=pretend
        )
        try:
            futures[topic].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise self._typed(error, f"creating {topic}") from error
        return True

    def check_log(self, topic: str) -> None:
        """Refuse a topic whose messages have no one order or could go away by themselves."""
        partitions = self.partitions(topic)
        if partitions is not None and partitions != 1:
            raise InternalError(
                f"the topic {topic} has {partitions} partitions; a log is one sequence and needs "
                f"a topic with exactly one"
            )
        resource = ConfigResource(ResourceType.TOPIC, topic)
        futures: dict[ConfigResource, Future[dict[str, Any]]] = self._get_admin().describe_configs(
            [resource], request_timeout=self._client.timeout_s
        )
        try:
            found = futures[resource].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise self._typed(error, f"describing {topic}") from error
            log.warning("may not read the topic's configuration, retention is not checked")
            return
        wrong = [
            f"{key} is {found[key].value}, must be {LOG_CONFIG[key]}"
            for key in _MUST_BE
            if found[key].value != LOG_CONFIG[key]
        ]
        if (limit := int(found["max.message.bytes"].value)) < MAX_MESSAGE_BYTES:
            wrong.append(f"max.message.bytes is {limit}, must be at least {MAX_MESSAGE_BYTES}")
        if wrong:
            raise InternalError(f"the topic {topic} can't hold a log: {'; '.join(wrong)}")

    def truncate(self, topic: str, offset: int) -> None:
        """Messages before ``offset`` go away."""
        partition = TopicPartition(topic, PARTITION, offset)
        futures = self._get_admin().delete_records(
            [partition], request_timeout=self._client.timeout_s
        )
        for future in futures.values():
            try:
                future.result()
            except KafkaException as error:
                raise self._typed(error, f"truncating {topic}") from error

    def close(self) -> None:
        """Disconnect; what comes later connects again."""
        self._admin = None
