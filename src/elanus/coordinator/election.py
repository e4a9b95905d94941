"""Exactly one coordinator acts: election by a key under a lease, and writes that only the leader
can do.

The leader's key is created under the lease of its session; a standby waits until the key is gone
and tries to create it. Every transaction of the leader also compares the revision at which it
created the key: once another coordinator has created it anew, whatever a former leader still sends
fails. So a leader that was paused, or cut off, can't change anything, however late it wakes.
"""

from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from elanus.errors import InternalError, Unavailable
from elanus.runtime.world import World
from elanus.storage.meta.base import (
    Compare,
    Delete,
    KeyValue,
    MetaStore,
    Put,
    RevisionCompacted,
    Snapshot,
    TransactionResult,
    WatchEvent,
)

log = structlog.get_logger(__name__)

LEADER_KEY = "leader/coordinator"
RETRY_S = 0.5


async def win_leadership(world: World, meta: MetaStore, lease: int, name: bytes) -> Compare:
    """Returns when this process is the leader: what all its transactions must compare.

    ``lease``: that of this process's session; ``name``: what the key tells others. Raises
    LeaseEnded if the session is lost meanwhile.
    """
    while True:
        try:
            won = await meta.transact([Put(LEADER_KEY, name, lease)], [Compare(LEADER_KEY, 0)])
            if won.succeeded:
                return Compare(LEADER_KEY, won.revision)
            pair = await meta.get(LEADER_KEY)
            if pair is not None and pair.value == name and pair.lease == lease:
                return Compare(LEADER_KEY, pair.modified_revision)  # the answer had been lost
            if pair is not None:
                await _until_gone(meta, won.revision)
        except RevisionCompacted:
            continue
        except Unavailable as error:
            await meta.keep_alive(lease)
            log.info("election waits", reason=error.message)
            await world.clock.sleep(RETRY_S)


async def _until_gone(meta: MetaStore, revision: int) -> None:
    async for event in meta.watch(LEADER_KEY, revision + 1):
        if event.value is None:
            return
    raise Unavailable("the metadata store is closed")


class FencedMetaStore(MetaStore):
    """The store as the leader uses it. A change after the leadership was lost is not done: it
    raises Unavailable, as the next leader may do it, and ``on_lost`` is called."""

    def __init__(self, inner: MetaStore, leadership: Compare, on_lost: Callable[[], None]) -> None:
        self._inner = inner
        self._leadership = leadership
        self._on_lost = on_lost

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        result = await self._inner.transact(operations, [*compares, self._leadership])
        if not result.succeeded:
            pair = await self._inner.get(self._leadership.key)
            if pair is None or pair.modified_revision != self._leadership.modified_revision:
                self._on_lost()
                raise Unavailable("this coordinator is no longer the leader, ask the new one")
        return result

    async def get(self, key: str) -> KeyValue | None:
        return await self._inner.get(key)

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        return await self._inner.range(prefix, after=after, limit=limit)

    async def snapshot(self, prefix: str) -> Snapshot:
        return await self._inner.snapshot(prefix)

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        return self._inner.watch(prefix, from_revision)

    async def revision(self) -> int:
        return await self._inner.revision()

    async def grant_lease(self, ttl_s: float) -> int:
        return await self._inner.grant_lease(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        await self._inner.keep_alive(lease)

    async def revoke_lease(self, lease: int) -> None:
        await self._inner.revoke_lease(lease)

    async def close(self) -> None:
        raise InternalError("the store is closed by its owner")
