"""Exactly one coordinator acts: election by a key under a lease, and writes that only the leader
can do.

The leader's key is created under the lease of its session; a standby waits until the key is gone
and tries to create it. Every transaction of the leader also compares the revision at which it
created the key: once another coordinator has created it anew, whatever a former leader still sends
fails. So a leader that was paused, or cut off, can't change anything, however late it wakes.
"""

from collections.abc import Callable, Sequence

import msgspec
import structlog

from elanus.errors import InternalError, Unavailable
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Session
from elanus.storage.meta.base import (
    Compare,
    Delete,
    MetaStore,
    Put,
    RevisionCompacted,
    TransactionResult,
)
from elanus.storage.meta.wrapped import WrappedMetaStore

log = structlog.get_logger(__name__)

LEADER_KEY = "leader/coordinator"
RETRY_S = 0.5


class LeaderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader's key says. ``instance`` names the data directory that its process has
    locked: whoever has the lock now knows that the former process is dead."""

    node_id: int
    address: str
    instance: str = ""


async def win_leadership(
    world: World, meta: MetaStore, session: Session, instance: str = ""
) -> Compare:
    """Returns when this process is the leader: what all its transactions must compare.

    A former life of the same ``instance`` is not waited for. Raises LeaseEnded if the session is
    lost meanwhile.
    """
    info, lease = session.info, session.lease
    mine = LeaderInfo(node_id=info.node_id, address=info.address, instance=instance)
    claim = Put(LEADER_KEY, msgspec.json.encode(mine), lease)
    replaced = 0
    while True:
        try:
            won = await meta.transact([claim], [Compare(LEADER_KEY, replaced)])
            if won.succeeded:
                log.info("leading", node_id=info.node_id, term=won.revision)
                return Compare(LEADER_KEY, won.revision)
            pair = await meta.get(LEADER_KEY)
            replaced = 0
            if pair is None:
                continue
            if pair.value == claim.value and pair.lease == lease:
                return Compare(LEADER_KEY, pair.modified_revision)  # the answer had been lost
            leader = msgspec.json.decode(pair.value, type=LeaderInfo)
            if instance and leader.instance == instance:
                replaced = pair.modified_revision
                continue
            log.info("another process leads, standing by", leader=leader.address)
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


class FencedMetaStore(WrappedMetaStore):
    """The store as the leader uses it. A change after the leadership was lost is not done: it
    raises Unavailable, as the next leader may do it, and ``on_lost`` is called."""

    def __init__(self, inner: MetaStore, leadership: Compare, on_lost: Callable[[], None]) -> None:
        super().__init__(inner)
        self._leadership = leadership
        self._on_lost = on_lost

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        result = await self.inner.transact(operations, [*compares, self._leadership])
        if not result.succeeded:
            pair = await self.inner.get(self._leadership.key)
            if pair is None or pair.modified_revision != self._leadership.modified_revision:
                self._on_lost()
                raise Unavailable("this coordinator is no longer the leader, ask the new one")
        return result

    async def close(self) -> None:
        raise InternalError("the store is closed by its owner")
