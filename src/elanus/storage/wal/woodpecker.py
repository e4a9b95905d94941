"""A write-ahead log straight on object storage: no disk, no other service.

Each log is a chain of create-only objects, the **fragments**, numbered through; whoever puts the
next number first has it. Numbers are cut into **segments**: a segment ends with an object of its
own at the next number, a *seal* by its writer or a *fence* by a new one, and **whoever ended a
segment is the one writer of the next**. What this guarantees, by create-only puts alone:

- A fragment belongs to the log iff all numbers of its segment before it are there and none of them
  has ended it. Whether it belongs never changes again: no number is used twice.
- An append is acknowledged when its fragments belong to the log. So what was acknowledged is seen
  by everybody who reads later; what was not is there as a whole, record by record, or not at all.
- A fence at the first missing number ends the segment for a writer that is slow, paused or dead:
  its put of this number fails, and what it put behind belongs to nothing. The term and the nonce in
  the fence say who goes on. Several that open at once fence each other, until one is the last.
- A put that was given up and takes effect later either finds its number taken, or is a fragment at
  its place before any fence, or lies behind an end.

Positions are ``number << 20 | index``, and numbers go on over segments, writers and truncation.
A fragment that is damaged or missing is an error that names the object, never skipped.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from uuid import UUID

import structlog

from elanus.config.storage import WoodpeckerSettings
from elanus.errors import ElanusError, InternalError
from elanus.runtime.world import World
from elanus.storage.objects.base import ObjectStore
from elanus.storage.wal import _woodpecker_upkeep as upkeep
from elanus.storage.wal._growth import Growth
from elanus.storage.wal._woodpecker_log import Counters, LogObjects, Owner
from elanus.storage.wal._woodpecker_reader import LogReader, follow
from elanus.storage.wal._woodpecker_recovery import take_over
from elanus.storage.wal._woodpecker_writer import WoodpeckerWriter
from elanus.storage.wal.base import BEFORE_FIRST, Activity, Wal, WalRecord, WalWriter

log = structlog.get_logger(__name__)

_CHANNEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NONCE_BITS = 128


class _Channel:
    """One log as this process sees it."""

    def __init__(self, objects: LogObjects) -> None:
        self.objects = objects
        self.growth = Growth()
        self.writer: WoodpeckerWriter | None = None
        self.upkeep_lock = asyncio.Lock()
        self.is_merge_due = False

    def acknowledged(self) -> int | None:
        return None if self.writer is None else self.writer.acknowledged


class WoodpeckerWal(Wal):
    """The logs under ``settings.root_path`` of ``objects``, which stays open when this is closed.
    ``cluster_id`` (a UUID's text) is written into every object. ``counters``: what it has cost."""

    def __init__(
        self, world: World, objects: ObjectStore, settings: WoodpeckerSettings, cluster_id: str
    ) -> None:
        self.counters = Counters()
        self._world = world
        self._objects = objects
        self._settings = settings
        self._cluster_id = UUID(cluster_id).bytes
        self._channels: dict[str, _Channel] = {}

    async def open_writer(self, pchannel: str, term: int) -> WalWriter:
        channel = self._channel(pchannel)
        if channel.writer is not None and channel.writer.owner.term <= term:
            await channel.writer.close()
        nonce = self._world.random.getrandbits(_NONCE_BITS).to_bytes(_NONCE_BITS // 8, "big")
        owner = Owner(nonce, term)
        segment = await take_over(channel.objects, owner)
        writer = WoodpeckerWriter(
            channel.objects, owner, segment, channel.growth, lambda: self._merge_soon(channel)
        )
        channel.writer = writer
        channel.growth.notify()
        return writer

    def read(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        return LogReader(self._channel(pchannel).objects, after).read()

    def tail(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        channel = self._channel(pchannel)
        return follow(channel.objects, channel.growth, channel.acknowledged, after)

    async def truncate(self, pchannel: str, upto: int) -> None:
        """Removes whole segments. A segment in use ends first if it has nothing behind ``upto``."""
        channel = self._channel(pchannel)
        if channel.writer is not None:
            await channel.writer.roll_if_covered(upto)
        async with channel.upkeep_lock:
            await upkeep.truncate(channel.objects, upto)

    def _merge_soon(self, channel: _Channel) -> None:
        """A segment has ended. At most one merge of a log runs and one more is due."""
        if not channel.is_merge_due:
            channel.is_merge_due = True
            name = f"merge log {channel.objects.name}"
            self._world.tasks.spawn(name, self._merge(channel))

    async def _merge(self, channel: _Channel) -> None:
        async with channel.upkeep_lock:
            channel.is_merge_due = False
            try:
                await upkeep.merge(channel.objects)
            except ElanusError as error:
                # The end of the next segment tries again; until then replay costs more requests.
                log.warning("log not merged", log=channel.objects.name, reason=str(error))

    async def list_channels(self) -> list[str]:
        return sorted(await self._sizes())

    async def size_bytes(self) -> int:
        return sum((await self._sizes()).values())

    async def _sizes(self) -> dict[str, int]:
        """Bytes by log."""
        prefix = f"{self._settings.root_path}/"
        self.counters.lists += 1
        sizes: dict[str, int] = {}
        for info in await self._objects.list(prefix):
            name, slash, _ = info.key.removeprefix(prefix).partition("/")
            if slash:
                sizes[name] = sizes.get(name, 0) + info.size_bytes
        return sizes

    def activity(self) -> Activity:
        counts = self.counters.as_dict()
        sent, received = counts.pop("bytes_put"), counts.pop("bytes_got")
        return Activity(counts, {"sent": sent, "received": received})

    async def close(self) -> None:
        for channel in self._channels.values():
            if channel.writer is not None:
                await channel.writer.close()
            channel.growth.end()
        self._channels.clear()

    def _channel(self, pchannel: str) -> _Channel:
        if pchannel not in self._channels:
            if not _CHANNEL_NAME.fullmatch(pchannel):
                raise InternalError(f"{pchannel!r} can't name a log")
            self._channels[pchannel] = _Channel(
                LogObjects(
                    self._world,
                    self._objects,
                    self._settings,
                    self._cluster_id,
                    pchannel,
                    self.counters,
                )
            )
        return self._channels[pchannel]
