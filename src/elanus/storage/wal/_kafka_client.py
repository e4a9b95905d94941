"""How Kafka's client is set up: addresses, security, time limits, its log, its errors.

The client is an extra of the package. It logs through structlog, at debug level, since it repeats
itself while a broker is away; what matters is in the errors that callers get. Passwords go into
the client's configuration only.
"""

from typing import Any

import structlog

from elanus.config.storage import KafkaSettings
from elanus.errors import CorruptData, ElanusError, InternalError, Unavailable
from elanus.storage.wal._kafka_messages import MAX_MESSAGE_BYTES

try:
    from confluent_kafka import KafkaError
    from confluent_kafka.admin import AdminClient
except ImportError as error:
    raise InternalError(
        "mq.type is kafka, but Kafka's client is not installed: pip install 'elanus[kafka]'"
    ) from error

log = structlog.get_logger(__name__)

Config = dict[str, Any]

RECONNECT_MAX_MS = 1_000
LONGEST_SOCKET_TIMEOUT_MS = 300_000
SMALLEST_SOCKET_TIMEOUT_MS = 10
PREFETCH_KBYTES = 16_384

_REFUSED_LOGIN = (
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._SSL,
)
_REFUSED_ACCESS = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
)
_DAMAGED = (KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG)
UNKNOWN_TOPIC = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)
LEADER_CHANGES = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
)
"""A topic is new or moves: soon somebody leads it."""


class KafkaClient:
    """Makes producers, consumers and administration clients of one cluster of brokers."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.brokers = settings.broker_list
        self.timeout_s = settings.request_timeout / 1_000
        self._refusal: KafkaError | None = None

    def admin(self) -> AdminClient:
        return AdminClient(self._common(), logger=_Log())

    def producer_config(self) -> Config:
        """Idempotent, acknowledged by all replicas in sync, and given up after the time limit.

        What waits to be sent is bounded by the writers: one group each.
        """
        return self._common() | {
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
            "message.timeout.ms": self.settings.request_timeout,
            "queue.buffering.max.messages": 0,
            "queue.buffering.max.kbytes": (1 << 31) - 1,
            "logger": _Log(),
        }

    def consumer_config(self, fetch_wait_ms: int) -> Config:
        """Reads from where it is told to; belongs to no group, so that nothing is committed."""
        return self._common() | {
            "group.id": "elanus",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "check.crcs": True,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": fetch_wait_ms,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": PREFETCH_KBYTES,
            "logger": _Log(),
        }

    def _common(self) -> Config:
        settings = self.settings
        socket_timeout_ms = min(
            max(settings.request_timeout, SMALLEST_SOCKET_TIMEOUT_MS), LONGEST_SOCKET_TIMEOUT_MS
        )
        config: Config = {
            "bootstrap.servers": settings.broker_list,
            "client.id": "elanus",
            "socket.timeout.ms": socket_timeout_ms,
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
            "security.protocol": self._protocol(),
            "error_cb": self._on_error,
        }
        if settings.sasl_username:
            config |= {
                "sasl.mechanisms": settings.sasl_mechanisms,
                "sasl.username": settings.sasl_username,
                "sasl.password": settings.sasl_password,
            }
        ssl = settings.ssl
        optional = {
            "ssl.ca.location": ssl.tls_ca_cert,
            "ssl.certificate.location": ssl.tls_cert,
            "ssl.key.location": ssl.tls_key,
            "ssl.key.password": ssl.tls_key_password,
        }
        return config | {key: value for key, value in optional.items() if value}

    def _protocol(self) -> str:
        settings = self.settings
        if settings.security_protocol:
            return settings.security_protocol.lower()
        transport = "ssl" if settings.ssl.enabled else "plaintext"
        return f"sasl_{transport}" if settings.sasl_username else transport

    def _on_error(self, error: KafkaError) -> None:
        log.debug("kafka client", error=error.str(), code=error.name())
        if error.code() in _REFUSED_LOGIN:
            self._refusal = error

    def typed(self, error: KafkaError, doing: str) -> ElanusError:
        """The error that a caller gets for one of the client's."""
        code = error.code()
        refusal = error if code in _REFUSED_LOGIN else self._refusal
        if refusal is not None and (refusal is error or error.retriable() or code < 0):
            self._refusal = None
            who = f"user {self.settings.sasl_username!r}, " if self.settings.sasl_username else ""
            return InternalError(
                f"{doing}: Kafka at {self.brokers} refuses the connection "
                f"({who}{self._protocol()}): {refusal.str()}"
            )
        if code in _REFUSED_ACCESS:
            return InternalError(f"{doing}: Kafka at {self.brokers} denies it: {error.str()}")
        if code in _DAMAGED:
            return CorruptData(f"{doing}: Kafka at {self.brokers}: {error.str()}")
        return Unavailable(f"{doing}: Kafka at {self.brokers}: {error.str()}")


class _Log:
    """What the client takes for a logger: its lines go to structlog."""

    def log(self, level: int, message: str, *parts: object) -> None:
        log.debug("kafka client", line=message % parts)
