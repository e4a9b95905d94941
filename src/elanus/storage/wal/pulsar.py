"""A write-ahead log in Pulsar: one topic for each pchannel, named like it.

How the promises of :mod:`elanus.storage.wal.base` are kept:

- An append returns when the broker has acknowledged its messages, that is when the bookies have
  synced them.
- Opening a writer: look up the newest term in the topic and stop if it is newer, so that a stale
  opener harms nobody → become the topic's only producer, which shuts the former one out at the
  broker → append an OPEN; what the former one had under way lies before it → read what came in
  between, and stop if there is a newer term. A client that finds itself shut out never comes back
  by itself: the broker's epoch of the topic has moved on.
- Which messages count as records is decided by their order alone (``_pulsar_replay``), so an
  append that was sent twice is one record.
- A durable subscription keeps the messages. ``truncate`` moves it, and Pulsar deletes whole
  ledgers before it. It always leaves the message of the position given, from which readers know
  where they are, and the next opener the newest term.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import TypeVar
from uuid import UUID

from elanus.config.storage import PulsarSettings
from elanus.errors import FencedWriter, InternalError
from elanus.runtime.world import World
from elanus.storage.wal._pulsar_admin import PulsarAdmin, TopicBusy
from elanus.storage.wal._pulsar_client import PulsarClient
from elanus.storage.wal._pulsar_frames import (
    ENVELOPE_BYTES,
    Entry,
    Kind,
    decode_header,
    decode_open,
)
from elanus.storage.wal._pulsar_replay import Message, Replay
from elanus.storage.wal._pulsar_writer import PulsarWalWriter
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord, WalWriter

_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
MARK_SUFFIX = "-cluster"
_BUSY_ATTEMPTS = 50
_BUSY_PAUSE_S = 0.1

T = TypeVar("T")


class PulsarWal(Wal):
    """The topics of ``settings``' namespace whose names begin with ``prefix``."""

    def __init__(
        self, world: World, settings: PulsarSettings, prefix: str, cluster_id: str
    ) -> None:
        self._world = world
        self._settings = settings
        self._prefix = prefix
        self._cluster_id = UUID(cluster_id).bytes
        self._client = PulsarClient(settings)
        self._admin = PulsarAdmin(settings)
        self._writers: dict[str, PulsarWalWriter] = {}
        self._released: dict[str, Entry] = {}

    async def open_writer(self, pchannel: str, term: int) -> WalWriter:
        if not (_CHANNEL_NAME.fullmatch(pchannel) and pchannel.startswith(self._prefix)):
            raise InternalError(f"{pchannel!r} can't name a log: names begin with {self._prefix}")
        previous = self._writers.get(pchannel)
        if previous is not None and previous.term <= term:
            del self._writers[pchannel]
            await previous.close()
        await self._ask(self._admin.ensure_topic, pchannel)
        last = await self._ask(self._admin.last_message, pchannel)
        known_term = 0 if last is None else await self._newest_term(pchannel, last)
        self._require_newest(pchannel, term, known_term)
        producer = await self._client.create_producer(self._address(pchannel))
        writer = PulsarWalWriter(
            self._world,
            producer,
            lambda after, upto, opened: self._read_back(pchannel, after, upto, opened),
            topic=pchannel,
            term=term,
            cluster_id=self._cluster_id,
            body_limit_bytes=self._settings.max_message_size - ENVELOPE_BYTES,
        )
        try:
            opened = await writer.open(known_term, last)
            if last is None or not last.is_followed_by(opened):
                known_term = max(known_term, await self._newest_between(pchannel, last, opened))
            self._require_newest(pchannel, term, known_term)
        except BaseException:
            await writer.close()
            raise
        self._writers[pchannel] = writer
        return writer

    def _require_newest(self, pchannel: str, term: int, newest: int) -> None:
        if newest > term:
            raise FencedWriter(
                f"the log {pchannel} was opened at term {newest}, this is term {term}"
            )

    async def _newest_term(self, pchannel: str, last: Entry) -> int:
        """Of all messages up to ``last``. Its own says it, but for an opener that died early."""
        async for _, data in self._messages(pchannel, last.position(), last):
            header, body = decode_header(data, f"the last message of {pchannel}")
            if header.kind is not Kind.OPEN:
                return header.term
            known_term, known_upto = decode_open(body)
            between = await self._newest_between(pchannel, _entry(known_upto), last)
            return max(header.term, known_term, between)
        return 0

    async def _newest_between(self, pchannel: str, after: Entry | None, before: Entry) -> int:
        newest = 0
        start = BEFORE_FIRST if after is None else after.position()
        async for entry, data in self._messages(pchannel, start, before):
            if after != entry != before:
                header, _ = decode_header(data, f"message {entry} of {pchannel}")
                newest = max(newest, header.term)
        return newest

    async def _read_back(
        self, pchannel: str, after: Entry, upto: Entry, writer: int
    ) -> dict[int, Entry]:
        found = {}
        async for message in self._counting(pchannel, after.position(), upto):
            if message.header.writer == writer:
                found[message.header.number] = message.entry
        return found

    async def read(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        last = await self._ask(self._admin.last_message, pchannel)
        if last is None or last.position() < after:
            return
        async for record in self._records(pchannel, after, last):
            yield record

    async def tail(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        await self._ask(self._admin.ensure_topic, pchannel)
        async for record in self._records(pchannel, after, None):
            yield record

    async def _records(
        self, pchannel: str, after: int, until: Entry | None
    ) -> AsyncIterator[WalRecord]:
        async for message in self._counting(pchannel, after, until):
            for found in message.found:
                if found.position <= after:
                    continue
                payload = found.pieces[0]
                if len(found.pieces) > 1:
                    joined = await self._world.executor.run("compute", b"".join, found.pieces)
                    payload = memoryview(joined)
                yield WalRecord(found.position, payload)

    async def _counting(
        self, pchannel: str, after: int, until: Entry | None
    ) -> AsyncIterator[Message]:
        replay = Replay(pchannel, self._cluster_id)
        async for entry, data in self._messages(pchannel, after, until):
            message = replay.feed(entry, data)
            if message is not None:
                yield message

    def _messages(
        self, pchannel: str, after: int, until: Entry | None
    ) -> AsyncIterator[tuple[Entry, bytes]]:
        return self._client.messages(self._address(pchannel), after, until)

    async def _ask(self, ask: Callable[..., T], *arguments: str | Entry) -> T:
        """A call of the administration, repeated for a while if the topic is busy."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._world.executor.run("io", ask, *arguments)
            except TopicBusy:
                if attempt == _BUSY_ATTEMPTS:
                    raise
            await self._world.clock.sleep(_BUSY_PAUSE_S)

    async def truncate(self, pchannel: str, upto: int) -> None:
        last = await self._ask(self._admin.last_message, pchannel)
        if last is None or upto <= BEFORE_FIRST:
            return
        target = min(Entry.of(upto), last)
        if target > self._released.get(pchannel, Entry(0, 0)):
            await self._ask(self._admin.release_before, pchannel, target)
            self._released[pchannel] = target

    async def list_channels(self) -> list[str]:
        topics = await self._ask(self._admin.list_topics)
        mark = self._prefix + MARK_SUFFIX
        return sorted(name for name in topics if name.startswith(self._prefix) and name != mark)

    async def size_bytes(self) -> int:
        channels = await self.list_channels()
        sizes = [self._ask(self._admin.size_bytes, channel) for channel in channels]
        return sum(await asyncio.gather(*sizes))

    async def close(self) -> None:
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            await writer.close()
        await self._client.close()

    def _address(self, pchannel: str) -> str:
        settings = self._settings
        return f"persistent://{settings.tenant}/{settings.namespace}/{pchannel}"


def _entry(position: int) -> Entry | None:
    return None if position == BEFORE_FIRST else Entry.of(position)
