"""The active coordinator as other processes see it, and what it tells them.

``LeaderClient`` offers ``CoordinatorService``: each call goes to whoever leads now. While nobody
does, a call waits for the next leader for a while; a call that was refused before anything was done
is repeated; calls that only read, or that are the same when repeated, are repeated too when the
leader is lost in the middle of them.

``ProxyNotifier`` is the other direction: before a change is answered, every proxy that is alive has
forgotten what it remembered of the collection. A proxy that can't be reached is waited for until it
has answered or its session has ended; from then on it doesn't trust its own memory. A proxy that is
new, to the cluster or to this leader, is told to forget everything: so it knows that it is known.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from elanus.coordinator.context import EVERYTHING
from elanus.coordinator.election import LEADER_KEY, LeaderInfo
from elanus.errors import ElanusError, NotServed, Unavailable
from elanus.roles.cluster.peers import Peers
from elanus.runtime.world import World
from elanus.services.cluster.following import PrefixFollower
from elanus.services.cluster.sessions import Membership
from elanus.services.interfaces import CoordinatorService, ProxyService
from elanus.services.rpc.client import stub
from elanus.services.rpc.methods import methods_of
from elanus.storage.meta.base import MetaStore

log = structlog.get_logger(__name__)

PROXY = "proxy"
WAIT_FOR_LEADER_S = 30.0
RETRY_S = 0.1
INVALIDATION_TIMEOUT_S = 2.0

REPEATABLE = frozenset(
    name
    for name in methods_of(CoordinatorService)
    if name.startswith(("allocate_", "list_", "describe_", "is_", "load", "recovery"))
) | {"commit_flush", "compaction_plans"}
"""Methods that do no harm when a lost answer makes them happen twice."""

CHANGES_NOTHING = REPEATABLE - {"load"}
"""Methods after which no proxy needs to be told."""


class LeaderClient:
    """See the module. ``on_change`` listeners are called by ``changed``."""

    def __init__(self, world: World, meta: MetaStore, peers: Peers) -> None:
        self._world = world
        self._peers = peers
        self._leader: LeaderInfo | None = None
        self._appeared = asyncio.Event()
        self._follower = PrefixFollower(world, meta, LEADER_KEY, self._leader_changed)
        self._listeners: list[Callable[[int], None]] = []

    async def start(self) -> None:
        """Raises Unavailable if the metadata can't be read."""
        await self._follower.start()

    @property
    def leader(self) -> LeaderInfo | None:
        return self._leader

    def on_change(self, listener: Callable[[int], None]) -> None:
        self._listeners.append(listener)

    def changed(self, collection_id: int) -> None:
        for listener in list(self._listeners):
            listener(collection_id)

    def __getattr__(self, name: str) -> Any:
        if name not in methods_of(CoordinatorService):
            raise AttributeError(f"{name} is no method of the coordinator")
        is_repeatable = name in REPEATABLE

        async def call(*arguments: Any, **keywords: Any) -> Any:
            return await self._call(name, is_repeatable, arguments, keywords)

        setattr(self, name, call)
        return call

    async def _call(
        self, name: str, is_repeatable: bool, arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> Any:
        deadline_s = self._world.clock.monotonic_s() + WAIT_FOR_LEADER_S
        while True:
            leader = await self._wait_for_leader(deadline_s)
            service: Any = stub(CoordinatorService, self._peers.at(leader.address))
            try:
                return await getattr(service, name)(*arguments, **keywords)
            except Unavailable as error:
                may_repeat = is_repeatable or isinstance(error, NotServed)
                if not may_repeat or self._world.clock.monotonic_s() > deadline_s:
                    raise
            await self._world.clock.sleep(RETRY_S)

    async def _wait_for_leader(self, deadline_s: float) -> LeaderInfo:
        while self._leader is None:
            self._appeared.clear()
            try:
                async with asyncio.timeout(deadline_s - self._world.clock.monotonic_s()):
                    await self._appeared.wait()
            except TimeoutError:
                raise Unavailable("no coordinator leads now, try again") from None
        return self._leader

    def _leader_changed(self, key: str, value: bytes | None) -> None:
        self._leader = None if value is None else msgspec.json.decode(value, type=LeaderInfo)
        if self._leader is not None:
            self._appeared.set()
        # A change that was under way at the former leader may have been told to nobody.
        self.changed(EVERYTHING)


class ProxyNotifier:
    """Tells proxies of changes; see the module."""

    def __init__(self, world: World, leader_id: int, membership: Membership, peers: Peers) -> None:
        self._world = world
        self._leader_id = leader_id
        self._membership = membership
        self._peers = peers
        self._welcomed: set[int] = set()
        self._pending: dict[int, set[int]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}

    def start(self) -> None:
        self._membership.listeners.append(self._members_changed)
        self._members_changed(PROXY)

    def changed(self, collection_id: int) -> None:
        """A collection changed: to be told to all proxies that are alive now."""
        for info in self._membership.nodes(PROXY):
            self._tell(info.node_id, collection_id)

    def _members_changed(self, role: str) -> None:
        if role != PROXY:
            return
        alive = {info.node_id for info in self._membership.nodes(PROXY)}
        for node_id in alive - self._welcomed:
            self._tell(node_id, EVERYTHING)
        self._welcomed = alive

    def _tell(self, node_id: int, collection_id: int) -> None:
        self._pending.setdefault(node_id, set()).add(collection_id)
        if node_id not in self._sending:
            self._sending[node_id] = self._world.tasks.spawn(
                f"notify proxy {node_id}", self._send(node_id)
            )

    async def settle(self) -> None:
        """Returns when everything so far has been told."""
        while self._sending:
            await asyncio.wait(self._sending.values())

    async def _send(self, node_id: int) -> None:
        try:
            while self._pending.get(node_id):
                info = self._membership.node(PROXY, node_id)
                if info is None:
                    return
                told = self._pending.pop(node_id)
                proxy = stub(
                    ProxyService,
                    self._peers.at(info.address),
                    {"invalidate": INVALIDATION_TIMEOUT_S},
                )
                try:
                    await proxy.invalidate(self._leader_id, tuple(sorted(told)), node_id)
                except ElanusError as error:
                    log.info("proxy not told yet", node_id=node_id, reason=error.message)
                    self._pending.setdefault(node_id, set()).update(told)
                    await self._world.clock.sleep(RETRY_S)
        finally:
            self._pending.pop(node_id, None)
            del self._sending[node_id]


class AnnouncingCoordinator:
    """A coordinator whose answers come after the proxies have been told of what they changed."""

    def __init__(self, coordinator: Any, notifier: ProxyNotifier) -> None:
        self._coordinator = coordinator
        self._notifier = notifier
        coordinator.on_change(notifier.changed)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._coordinator, name)

        async def call(*arguments: Any, **keywords: Any) -> Any:
            try:
                return await method(*arguments, **keywords)
            finally:
                if name not in CHANGES_NOTHING:
                    await self._notifier.settle()

        setattr(self, name, call)
        return call
