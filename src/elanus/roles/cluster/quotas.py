"""The leader tells all proxies their share of the cluster's rates, and what is short.

Every interval it asks the nodes how much of their memory is taken. When proxies come or go the
shares are told at once, with what the nodes said last.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from elanus.coordinator.coordinator import Coordinator
from elanus.coordinator.quotas import MemoryReading
from elanus.errors import ElanusError
from elanus.roles.cluster.leader import PROXY
from elanus.roles.cluster.peers import Peers
from elanus.roles.cluster.router import QUERY, STREAMING
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, SessionInfo
from elanus.services.interfaces import NodeService, ProxyService
from elanus.services.rpc.client import stub

log = structlog.get_logger(__name__)

ANSWER_TIMEOUT_S = 2.0


class QuotaDistributor:
    """``is_leading``: whether this process may still speak as the leader ``leader_id``."""

    def __init__(
        self,
        world: World,
        coordinator: Coordinator,
        membership: Membership,
        peers: Peers,
        *,
        leader_id: int,
        is_leading: Callable[[], bool],
        interval_s: float,
    ) -> None:
        self._world = world
        self._coordinator = coordinator
        self._membership = membership
        self._peers = peers
        self._leader_id = leader_id
        self._is_leading = is_leading
        self._interval_s = interval_s
        self._readings: Sequence[MemoryReading] = ()
        self._telling = asyncio.Lock()
        self._told: set[int] = set()

    def start(self) -> None:
        self._membership.listeners.append(self._members_changed)
        self._world.tasks.spawn("quotas", self._run())

    async def _run(self) -> None:
        while True:
            if self._is_leading():
                self._readings = await self._ask_nodes()
                await self._tell_proxies()
            await self._world.clock.sleep(self._interval_s)

    def _members_changed(self, role: str) -> None:
        alive = {info.node_id for info in self._membership.nodes(PROXY)}
        if role == PROXY and alive != self._told:
            self._told = alive
            self._world.tasks.spawn("shares of proxies", self._tell_proxies())

    async def _ask_nodes(self) -> list[MemoryReading]:
        nodes = [*self._membership.nodes(STREAMING), *self._membership.nodes(QUERY)]
        answers = await asyncio.gather(*map(self._ask, nodes))
        return [reading for reading in answers if reading is not None]

    async def _ask(self, info: SessionInfo) -> MemoryReading | None:
        """None from a node that doesn't answer: it is lost, or will be asked again."""
        node = stub(NodeService, self._peers.at(info.address), {"describe": ANSWER_TIMEOUT_S})
        try:
            status = await node.describe()
        except ElanusError:
            return None
        return MemoryReading(
            info.node_id,
            info.role == STREAMING,
            status.memory_used_bytes,
            status.memory_limit_bytes,
        )

    async def _tell_proxies(self) -> None:
        async with self._telling:
            proxies = self._membership.nodes(PROXY)
            if not proxies or not self._is_leading():
                return
            notice = await self._coordinator.quota_notice(self._readings, proxies=len(proxies))

            async def tell(info: SessionInfo) -> None:
                peer = self._peers.at(info.address)
                proxy = stub(ProxyService, peer, {"limit": ANSWER_TIMEOUT_S})
                try:
                    await proxy.limit(self._leader_id, notice)
                except ElanusError as error:
                    # It divides the rates by itself until it hears again.
                    log.debug("share not told", node_id=info.node_id, reason=error.message)

            await asyncio.gather(*map(tell, proxies))
