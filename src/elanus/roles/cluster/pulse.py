"""Lets the leader know that this worker is there, and knows whether others may have taken over.

The answer to a beat is a promise: for some time from when the beat was sent nobody takes over,
unless the lease ends. When the promise has run out (there is no leader, it doesn't answer, this
process was paused), ``confirm`` asks the metadata store: the session is deleted before anybody
takes over, so if it is there this worker was still the owner when the question was sent. So without
a coordinator reads go on, each with one question more, which those that wait at the same time
share.

Only one beat is under way at a time, and always to the newest leader that is known: once a leader
has heard this worker, no former one can be given a later beat.
"""

import asyncio

import structlog

from elanus.errors import ElanusError, Unavailable
from elanus.roles.cluster.leader import LeaderClient
from elanus.roles.cluster.peers import Peers
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, Session
from elanus.services.interfaces import LivenessService
from elanus.services.rpc.client import stub
from elanus.storage.meta.base import MetaStore

log = structlog.get_logger(__name__)

ANSWER_TIMEOUT_S = 1.0
RETRY_S = 0.2


class Pulse:
    """Of one session. Until ``start`` was called there is nothing to confirm."""

    def __init__(
        self,
        world: World,
        meta: MetaStore,
        membership: Membership,
        peers: Peers,
        leader: LeaderClient,
        session: Session,
    ) -> None:
        self._world = world
        self._meta = meta
        self._membership = membership
        self._peers = peers
        self._leader = leader
        self._session = session
        self._is_watched = False
        self._was_seen = False
        self._trusted_until_s = 0.0
        self._confirmed_s = 0.0
        self._asking: asyncio.Task[Unavailable | None] | None = None

    def start(self) -> None:
        """The session is registered."""
        self._membership.listeners.append(self._members_changed)
        self._members_changed(self._session.info.role)
        self._world.tasks.spawn("beats", self._beat_until_lost())

    # --- beats ----------------------------------------------------------------------------------

    async def _beat_until_lost(self) -> None:
        while not self._session.lost.is_set():
            await self._world.clock.sleep(await self._beat())

    async def _beat(self) -> float:
        """Returns the time until the next one."""
        leader, info = self._leader.leader, self._session.info
        if leader is None:
            return RETRY_S
        liveness = stub(LivenessService, self._peers.at(leader.address), {"beat": ANSWER_TIMEOUT_S})
        self._is_watched = True
        sent_s = self._world.clock.monotonic_s()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await liveness.beat(info.role, info.node_id)
        except (ElanusError, TimeoutError) as error:
            log.debug("beat not answered", leader=leader.address, reason=str(error))
            return RETRY_S
        if answer.is_replaced:
            self._session.give_up("the coordinator did not hear it")
        self._trusted_until_s = sent_s + answer.trusted_s
        return answer.next_s

    def _members_changed(self, role: str) -> None:
        info = self._session.info
        if role != info.role:
            return
        is_there = self._membership.node(role, info.node_id) is not None
        if self._was_seen and not is_there:
            self._session.give_up("others have ended it")
        self._was_seen = is_there

    # --- doubt ----------------------------------------------------------------------------------

    async def confirm(self) -> None:
        """Returns if nobody had taken over when this was called. Raises Unavailable if somebody
        may have."""
        called_s = self._world.clock.monotonic_s()
        if not self._is_watched or called_s < self._trusted_until_s:
            return
        while self._confirmed_s < called_s:
            if self._asking is None:
                self._asking = self._world.tasks.spawn("confirm session", self._ask_store())
            asking = self._asking
            await asyncio.wait([asking])
            failure = asking.result()
            if failure is not None:
                raise failure

    async def _ask_store(self) -> Unavailable | None:
        sent_s = self._world.clock.monotonic_s()
        try:
            pair = await self._meta.get(self._session.key)
            if pair is None:
                self._session.give_up("others have ended it")
            self._session.require_valid()
        except Unavailable as error:
            return error
        finally:
            self._asking = None
        self._confirmed_s = sent_s
        return None
