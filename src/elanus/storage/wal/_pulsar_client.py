"""Pulsar's client library behind our terms: settings in, typed errors out, nothing blocks the loop.

The library is an extra (``elanus[pulsar]``) and imported when a log is first used. Its own log
lines go to ours at debug. Credentials are handed to it and stand in no message.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

import structlog

from elanus.config.storage import PulsarSettings
from elanus.errors import (
    ElanusError,
    FencedWriter,
    InvalidParameter,
    ParameterTooLarge,
    Unavailable,
)
from elanus.storage.wal._pulsar_frames import Entry
from elanus.storage.wal.base import BEFORE_FIRST

log = structlog.get_logger(__name__)

# Messages that the library fetches ahead for a reader: at most so many of the largest size.
FETCH_AHEAD_MESSAGES = 32
MAX_CONNECT_MS = 10_000
# The library gives up a little before we do, so that it leaves nothing behind at the broker.
OWN_TIMEOUT_SHARE = 0.9


def load_library() -> Any:
    try:
        import pulsar
        import pulsar.asyncio
    except ImportError as error:
        raise InvalidParameter(
            "mq.type is pulsar, but Pulsar's client is not installed: pip install elanus[pulsar]"
        ) from error
    return pulsar


def auth_parameters(settings: PulsarSettings) -> dict[str, str]:
    """``authParams``: key:value pairs, separated by commas."""
    pairs = [pair for pair in settings.auth_params.split(",") if pair.strip()]
    found = {}
    for number, pair in enumerate(pairs, 1):
        key, colon, value = pair.partition(":")
        if not colon:
            raise InvalidParameter(
                f"pulsar.authParams has no colon in its pair {number} of {len(pairs)}"
            )
        found[key.strip()] = value.strip()
    return found


_NEEDED = {
    "": (),
    "token": ("token",),
    "tls": ("tlsCertFile", "tlsKeyFile"),
    "basic": ("userId", "password"),
}


def credentials(settings: PulsarSettings) -> dict[str, str]:
    needed = _NEEDED.get(settings.auth_plugin)
    if needed is None:
        raise InvalidParameter(
            "pulsar.authPlugin", expected="token, tls or basic", actual=settings.auth_plugin
        )
    found = auth_parameters(settings)
    if missing := [key for key in needed if not found.get(key)]:
        raise InvalidParameter(
            f"pulsar.authPlugin is {settings.auth_plugin}, "
            f"but pulsar.authParams has no {' and no '.join(missing)}"
        )
    return found


class PulsarClient:
    """One connection pool to the brokers. Made when it is first needed."""

    def __init__(self, settings: PulsarSettings) -> None:
        self._settings = settings
        self._library: Any = None
        self._client: Any = None
        self._readers: set[Any] = set()
        self._closed = False
        self.timeout_s = settings.request_timeout / 1_000

    async def create_producer(self, topic: str) -> "Producer":
        """A producer that shuts out every other one."""
        client = self._connect()
        mode = self._library.ProducerAccessMode.ExclusiveWithFencing
        producer = await self._call(
            f"no producer of {topic}",
            client.create_producer(
                topic,
                access_mode=mode,
                batching_enabled=False,
                send_timeout_millis=self._settings.request_timeout,
            ),
        )
        return Producer(self, topic, producer)

    async def messages(
        self, topic: str, after: int, until: Entry | None
    ) -> AsyncIterator[tuple[Entry, bytes]]:
        """Messages from the one at position ``after`` on, itself included; all of them up to
        ``until``, or whatever comes until the client is closed."""
        if until is None and self._closed:
            return
        client = self._connect()
        first = Entry.of(after)
        start = (
            self._library.MessageId.earliest
            if after == BEFORE_FIRST
            else self._library.MessageId(-1, first.ledger, first.entry, -1)
        )
        try:
            reader = await self._call(
                f"no reader of {topic}",
                client.create_reader(
                    topic,
                    start,
                    receiver_queue_size=FETCH_AHEAD_MESSAGES,
                    start_message_id_inclusive=True,
                ),
            )
        except Unavailable:
            if until is None and self._closed:
                return
            raise
        self._readers.add(reader)
        entry = None
        try:
            while until is None or entry is None or entry < until:
                message = await self._next(reader, topic, follow=until is None)
                if message is None:
                    return
                message_id = message.message_id()
                entry = Entry(message_id.ledger_id(), message_id.entry_id())
                yield entry, message.data()
        finally:
            self._readers.discard(reader)
            await self.close_quietly(reader, f"reader of {topic}")

    async def _next(self, reader: Any, topic: str, *, follow: bool) -> Any:
        """None if the client is closed."""
        waiting = asyncio.ensure_future(reader.read_next())
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=self.timeout_s)
                if done:
                    return await waiting
                if self._closed:
                    return None
                if not (follow and reader.is_connected()):
                    raise self._unavailable(
                        f"no message of {topic} within {self._settings.request_timeout} ms"
                    )
        except self.library_error as error:
            if self._closed:
                return None
            raise self.translate(error, f"reading {topic} failed") from error
        finally:
            waiting.cancel()

    async def close(self) -> None:
        """Ends what readers wait for."""
        self._closed = True
        for reader in list(self._readers):
            await self.close_quietly(reader, "reader")
        client, self._client = self._client, None
        if client is not None:
            await self.close_quietly(client, "client")

    def _connect(self) -> Any:
        if self._closed:
            raise self._unavailable("the log is closed")
        if self._client is None:
            self._library = load_library()
            settings = self._settings
            self._client = self._library.asyncio.Client(
                settings.address,
                authentication=self._authentication(),
                operation_timeout_seconds=max(1, int(self.timeout_s * OWN_TIMEOUT_SHARE)),
                connection_timeout_ms=min(MAX_CONNECT_MS, settings.request_timeout),
                tls_trust_certs_file_path=settings.tls_ca_cert or None,
                tls_validate_hostname=True,
                stats_interval_in_seconds=0,
                logger=self._logger(),
            )
        return self._client

    def _logger(self) -> Any:
        """The first client of a process decides for all; lines that nobody wants cost as much as
        the messages they are about, so they are left to the library to drop."""
        if log.bind().is_enabled_for(logging.DEBUG):
            return _DebugLogger("pulsar")
        return self._library.FileLogger(self._library.LoggerLevel.Error, os.devnull)

    def _authentication(self) -> Any:
        given = credentials(self._settings)
        match self._settings.auth_plugin:
            case "token":
                return self._library.AuthenticationToken(given["token"])
            case "tls":
                return self._library.AuthenticationTLS(given["tlsCertFile"], given["tlsKeyFile"])
            case "basic":
                return self._library.AuthenticationBasic(given["userId"], given["password"])
        return None

    async def _call(self, failure: str, call: Any) -> Any:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await call
        except TimeoutError as error:
            raise self._unavailable(
                f"{failure} within {self._settings.request_timeout} ms"
            ) from error
        except self.library_error as error:
            raise self.translate(error, failure) from error

    async def close_quietly(self, thing: Any, what: str) -> None:
        """The broker notices by itself what could not be closed."""
        try:
            async with asyncio.timeout(self.timeout_s):
                await thing.close()
        except (TimeoutError, self.library_error) as error:
            log.debug("not closed in order", what=what, error=str(error))

    @property
    def library_error(self) -> type[Exception]:
        error: type[Exception] = self._library.asyncio.PulsarException
        return error

    def translate(self, error: Any, what: str) -> ElanusError:
        """``error``: a PulsarException."""
        result, results = error.error(), self._library.Result
        if result == results.ProducerFenced:
            return FencedWriter(f"{what}: a newer writer was opened")
        if result == results.MessageTooBig:
            return ParameterTooLarge(
                f"{what}: the broker takes no message of pulsar.maxMessageSize, "
                f"{self._settings.max_message_size} bytes; set it to the broker's limit"
            )
        return self._unavailable(f"{what}: {error}")

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(f"Pulsar at {self._settings.address}: {what}")


class Producer:
    def __init__(self, client: PulsarClient, topic: str, producer: Any) -> None:
        self._client = client
        self._topic = topic
        self._producer = producer

    async def send(self, data: bytes) -> Entry:
        """Where the message is, on disk. The message is queued when this first gives way."""
        try:
            message_id = await self._producer.send(data)
        except self._client.library_error as error:
            raise self._client.translate(error, f"appending to {self._topic} failed") from error
        return Entry(message_id.ledger_id(), message_id.entry_id())

    async def close(self) -> None:
        await self._client.close_quietly(self._producer, f"producer of {self._topic}")


class _DebugLogger(logging.Logger):
    """What the library logs becomes debug lines of ours, but for its own debug lines, which come
    several for each message."""

    def log(self, level: Any, msg: object, *args: Any, **kwargs: Any) -> None:
        if level >= logging.INFO:
            log.debug("pulsar client", line=str(msg))
