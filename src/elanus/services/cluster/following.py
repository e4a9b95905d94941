"""Keeps up with all keys under a prefix of the metadata store, whatever happens on the way."""

from collections.abc import Callable, Mapping

import structlog

from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.storage.meta.base import MetaStore

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


class PrefixFollower:
    """``values`` has the newest known value of every key under ``prefix``, without the prefix.

    ``on_change(key, value)`` is called for every difference, with None for a key that is gone;
    after a break in the watch too, so that listeners see every final state, but not necessarily
    every state in between. While the store can't be reached the last known state stays.
    """

    def __init__(
        self,
        world: World,
        meta: MetaStore,
        prefix: str,
        on_change: Callable[[str, bytes | None], None],
    ) -> None:
        self._world = world
        self._meta = meta
        self._prefix = prefix
        self._on_change = on_change
        self.values: dict[str, bytes] = {}

    async def start(self) -> None:
        """Returns once the present state is known. Raises Unavailable."""
        revision = await self._read()
        self._world.tasks.spawn(f"follow {self._prefix}", self._follow(revision))

    async def _read(self) -> int:
        snapshot = await self._meta.snapshot(self._prefix)
        self._become({pair.key.removeprefix(self._prefix): pair.value for pair in snapshot.pairs})
        return snapshot.revision

    async def _follow(self, revision: int) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async for event in self._meta.watch(self._prefix, revision + 1):
                    self._set(event.key.removeprefix(self._prefix), event.value)
                    revision = max(revision, event.revision)
                    pause_s = FIRST_PAUSE_S
                return  # the store is closed
            except Unavailable as error:
                log.info("watch interrupted", prefix=self._prefix, reason=error.message)
            await self._world.clock.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
            try:
                revision = await self._read()
            except Unavailable:
                continue

    def _become(self, state: Mapping[str, bytes]) -> None:
        for key in [key for key in self.values if key not in state]:
            self._set(key, None)
        for key, value in state.items():
            self._set(key, value)

    def _set(self, key: str, value: bytes | None) -> None:
        if self.values.get(key) == value:
            return
        if value is None:
            del self.values[key]
        else:
            self.values[key] = value
        self._on_change(key, value)
