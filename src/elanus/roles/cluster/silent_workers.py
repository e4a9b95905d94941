"""The leader ends the sessions of workers that have fallen silent; from there on everything goes as
if their leases had ended, only sooner.

``coordinator.silence`` decides. The session is deleted by a transaction of the leader, never by
ending the lease: so a former leader that wakes late ends nothing.
"""

from collections.abc import Callable

import structlog

from elanus.coordinator.silence import BEAT_S, Silence
from elanus.errors import Unavailable
from elanus.roles.cluster.router import DATA, QUERY, STREAMING
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, SessionInfo, session_key
from elanus.services.messages import BeatAnswer
from elanus.storage.meta.base import Delete, MetaStore

log = structlog.get_logger(__name__)

WORKERS = (STREAMING, QUERY, DATA)
LOOK_S = 0.25
"""Time between two looks at who is silent."""


class SilentWorkers:
    """Implements ``LivenessService``. ``meta``: the leader's, which changes nothing once another
    process leads. ``is_leading``: whether this process may still act as the leader."""

    def __init__(
        self,
        world: World,
        meta: MetaStore,
        membership: Membership,
        *,
        silence_s: float,
        is_leading: Callable[[], bool],
    ) -> None:
        self._world = world
        self._meta = meta
        self._membership = membership
        self._is_leading = is_leading
        self._silence = Silence(silence_s, world.clock.monotonic_s())
        self._told: set[int] = set()

    def start(self) -> None:
        self._world.tasks.spawn("silent workers", self._look_for_ever())

    async def beat(self, role: str, node_id: int) -> BeatAnswer:
        info = self._membership.node(role, node_id)
        if info is None:
            # Its session has ended, or is not seen here yet.
            return BeatAnswer(0.0, BEAT_S, is_replaced=self._silence.is_replaced(node_id))
        return self._silence.heard(info, self._world.clock.monotonic_s())

    async def _look_for_ever(self) -> None:
        while True:
            await self._world.clock.sleep(LOOK_S)
            if self._is_leading():
                await self._look()

    async def _look(self) -> None:
        workers = [info for role in WORKERS for info in self._membership.nodes(role)]
        silent = self._silence.look(self._world.clock.monotonic_s(), workers)
        self._told &= {info.node_id for info in silent}
        for info in silent:
            if info.node_id not in self._told:
                self._told.add(info.node_id)
                log.warning("worker is silent, others take over", **_named(info))
            try:
                await self._meta.transact([Delete(session_key(info.role, info.node_id))])
            except Unavailable as error:
                log.info("session not ended yet", reason=error.message, **_named(info))


def _named(info: SessionInfo) -> dict[str, object]:
    return {"role": info.role, "node_id": info.node_id, "address": info.address}
