"""Who is there: each process registers its roles under a lease, others read and watch that.

A node's id is new with every registration, so an id never means two lives of a process. The loss
of the lease is the loss of the node: what it owned goes to others. A node must therefore stop
acting as an owner *before* the store lets its lease end: ``is_valid`` turns false by the node's own
clock one margin earlier, counted from when the last successful renewal was *sent*. A process that
was paused finds it false when it goes on.

Nobody waits for the lease of a process that is known to be dead: whoever knows it ends the session.
That is the next life on the same locked data directory (``end_former_lives``), or a process on the
same machine (``neighbours``). The session of a worker that is only silent is deleted by the
coordinator; one that was deleted is never put again.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import structlog

from elanus.errors import CorruptData, Unavailable
from elanus.runtime.world import World
from elanus.services.cluster.following import PrefixFollower
from elanus.storage.meta.base import Compare, LeaseEnded, MetaStore, Put
from elanus.version import VERSION

log = structlog.get_logger(__name__)

PREFIX = "session/"
ID_KEY = "session-id"
RENEWALS_PER_TTL = 3
MARGIN = 0.2
"""Part of the lease's time by which a node believes itself lost earlier than the store does."""

RETRY_S = 0.2
_ID_ATTEMPTS = 100


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A node. ``stopping``: it hands over what it owns and takes nothing new. ``instance``: the
    data directory that its process has locked. ``machine`` and ``started_ticks`` tell with ``pid``
    which process it is, to others on the same machine. ``secure``: it speaks TLS with others."""

    node_id: int
    role: str
    address: str
    version: str
    started_ms: int
    pid: int = 0
    host: str = ""
    cores: int = 0
    memory_bytes: int = 0
    management_address: str = ""
    stopping: bool = False
    labels: dict[str, str] = {}
    lease: int = 0
    instance: str = ""
    machine: str = ""
    started_ticks: int = 0
    secure: bool = False


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What tells others that this process is dead; the fields are those of SessionInfo."""

    instance: str = ""
    machine: str = ""
    started_ticks: int = 0


class Session:
    """This process's registration in one role. ``lost`` is set once the lease has ended."""

    def __init__(self, world: World, meta: MetaStore, ttl_s: float) -> None:
        self._world = world
        self._meta = meta
        self._ttl_s = ttl_s
        self._lease = 0
        self._valid_until_s = 0.0
        self._info: SessionInfo | None = None
        self._revision = 0
        self._renewals: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()

    @property
    def info(self) -> SessionInfo:
        assert self._info is not None
        return self._info

    @property
    def lease(self) -> int:
        return self._lease

    @property
    def key(self) -> str:
        return session_key(self.info.role, self.info.node_id)

    def is_valid(self) -> bool:
        """Whether nobody can have been told yet that this node is lost."""
        return not self.lost.is_set() and self._world.clock.monotonic_s() < self._valid_until_s

    def require_valid(self) -> None:
        """Raises Unavailable if others may believe this node lost: then it must not answer."""
        if not self.is_valid():
            raise Unavailable(
                f"node {self._info.node_id if self._info else 'without a session'} is not in touch "
                "with the metadata store, another one may have taken over: try again"
            )

    async def register(
        self,
        role: str,
        address: str,
        management_address: str = "",
        identity: ProcessIdentity | None = None,
        secure: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> SessionInfo:
        """Get an id, put the session, begin to renew it. Raises Unavailable."""
        identity = identity or ProcessIdentity()
        sent_s = self._world.clock.monotonic_s()
        self._lease = await self._meta.grant_lease(self._ttl_s)
        self._renewed(sent_s)
        info = SessionInfo(
            node_id=await next_node_id(self._meta),
            role=role,
            address=address,
            version=VERSION,
            started_ms=self._world.clock.now_ms(),
            pid=os.getpid(),
            host=socket.gethostname(),
            cores=os.cpu_count() or 1,
            memory_bytes=self._world.memory.limit_bytes,
            management_address=management_address,
            lease=self._lease,
            instance=identity.instance,
            machine=identity.machine,
            started_ticks=identity.started_ticks,
            secure=secure,
            labels=dict(labels or {}),
        )
        self._info = info
        await self._put(info)
        self._renewals = self._world.tasks.spawn(f"session {info.role}", self._renew())
        return info

    def give_up(self, reason: str) -> None:
        """Others have ended this session."""
        if not self.lost.is_set():
            info = self.info
            log.error("session lost", role=info.role, node_id=info.node_id, reason=reason)
            self.lost.set()

    async def announce_stopping(self) -> None:
        """From now on nothing new is given to this node. Raises Unavailable, of which LeaseEnded
        means that others have ended the session."""
        self._info = msgspec.structs.replace(self.info, stopping=True)
        await self._put(self._info)

    async def close(self) -> None:
        """End the session at once, so that nobody waits for its lease to run out."""
        if self._renewals is not None:
            self._renewals.cancel()
            await asyncio.wait([self._renewals])
        if not self.lost.is_set():
            self.lost.set()
            try:
                await self._meta.revoke_lease(self._lease)
            except Unavailable as error:
                log.info("session ends by its lease", reason=error.message)

    async def _put(self, info: SessionInfo) -> None:
        put = Put(self.key, msgspec.json.encode(info), self._lease)
        result = await self._meta.transact([put], [Compare(self.key, self._revision)])
        self._revision = result.revision
        if not result.succeeded:
            pair = await self._meta.get(self.key)
            if pair is None or pair.value != put.value:
                self.give_up("its entry was deleted")
                raise LeaseEnded
            self._revision = pair.modified_revision  # the answer had been lost

    async def _renew(self) -> None:
        pause_s = self._ttl_s / RENEWALS_PER_TTL
        while True:
            await self._world.clock.sleep(pause_s)
            sent_s = self._world.clock.monotonic_s()
            try:
                await self._meta.keep_alive(self._lease)
            except LeaseEnded:
                self.give_up("its lease has ended")
                return
            except Unavailable as error:
                log.warning("session not renewed", role=self.info.role, reason=error.message)
                pause_s = RETRY_S
            else:
                self._renewed(sent_s)
                pause_s = self._ttl_s / RENEWALS_PER_TTL

    def _renewed(self, sent_s: float) -> None:
        self._valid_until_s = sent_s + self._ttl_s * (1 - MARGIN)


def session_key(role: str, node_id: int) -> str:
    return f"{PREFIX}{role}/{node_id}"


async def next_node_id(meta: MetaStore) -> int:
    """A positive integer that no other registration ever gets. Raises Unavailable."""
    for _ in range(_ID_ATTEMPTS):
        pair = await meta.get(ID_KEY)
        node_id = 1 + (int(pair.value) if pair else 0)
        compare = Compare(ID_KEY, pair.modified_revision if pair else 0)
        result = await meta.transact([Put(ID_KEY, str(node_id).encode())], [compare])
        if result.succeeded:
            return node_id
    raise Unavailable("too many nodes register at the same time, try again")


async def end_former_lives(meta: MetaStore, membership: "Membership", instance: str) -> None:
    """End the sessions of processes of this host that had the data directory ``instance`` before
    this one locked it. Raises Unavailable."""
    for info in membership.everyone():
        if instance and info.instance == instance and info.host == socket.gethostname():
            log.info("ending the session of a former life", node_id=info.node_id)
            await meta.revoke_lease(info.lease)


class Membership:
    """The sessions of all nodes, kept up to date. Listeners get the role that changed."""

    def __init__(self, world: World, meta: MetaStore) -> None:
        self._follower = PrefixFollower(world, meta, PREFIX, self._changed)
        self._sessions: dict[str, SessionInfo] = {}
        self._by_role: dict[str, list[SessionInfo]] = {}
        self.listeners: list[Callable[[str], None]] = []

    async def start(self) -> None:
        await self._follower.start()

    def nodes(self, role: str) -> list[SessionInfo]:
        """By id; those that are stopping included. The same list until a node of the role comes,
        goes or changes."""
        if role not in self._by_role:
            found = [info for info in self._sessions.values() if info.role == role]
            self._by_role[role] = sorted(found, key=lambda info: info.node_id)
        return self._by_role[role]

    def node(self, role: str, node_id: int) -> SessionInfo | None:
        return self._sessions.get(f"{role}/{node_id}")

    def everyone(self) -> list[SessionInfo]:
        return sorted(self._sessions.values(), key=lambda info: (info.role, info.node_id))

    def _changed(self, key: str, value: bytes | None) -> None:
        if value is None:
            del self._sessions[key]
        else:
            try:
                self._sessions[key] = msgspec.json.decode(value, type=SessionInfo)
            except msgspec.DecodeError as error:
                raise CorruptData(f"metadata key {PREFIX}{key} can't be read: {error}") from error
        role = key.partition("/")[0]
        self._by_role.pop(role, None)
        for listener in list(self.listeners):
            listener(role)
