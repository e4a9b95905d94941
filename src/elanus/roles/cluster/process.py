"""One role of a cluster in this process, from its start to its orderly end.

Start: storage → who else is there → the role's service on its internal port → whether the others
let it in → session. From then on others find it. An orderly end is the reverse, after what it owns
was handed over: the session is marked as stopping, the coordinator moves logs and segments away,
and only then is it closed.

If the session is lost (the process was paused, or cut off from the metadata store for longer than
its lease, or the coordinator did not hear it) the role ends and begins a new life, with a new id
and nothing owned. A proxy, which owns nothing, keeps its port and its open calls and only registers
again: to its clients and the balancer before it, it was never away.
"""

import os
import ssl
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from dataclasses import replace

import structlog

from elanus.config.settings import Settings
from elanus.errors import InternalError, Unavailable
from elanus.observability.health import Health
from elanus.observability.metrics import Metrics
from elanus.roles.cluster.joining import wait_for_entry
from elanus.roles.cluster.leader import LeaderClient
from elanus.roles.cluster.peers import Peers
from elanus.roles.cluster.pulse import Pulse
from elanus.roles.cluster.router import ClusterRouter
from elanus.roles.process import real_world
from elanus.roles.readings import add_readings, add_storage_readings
from elanus.roles.serving import management_server
from elanus.roles.storage import Storage, instance_of, open_storage
from elanus.roles.tls import internal_tls
from elanus.runtime.clock import SystemClock
from elanus.runtime.world import World
from elanus.services.cluster.neighbours import Neighbours, machine_name, started_ticks
from elanus.services.cluster.sessions import (
    Membership,
    ProcessIdentity,
    Session,
    end_former_lives,
)
from elanus.services.interfaces import NodeService
from elanus.services.messages import NodeStatus
from elanus.services.rpc.server import RpcServices
from elanus.storage.disk import LocalDisk
from elanus.transport.base import TransportOptions, TransportServer
from elanus.transport.http2.connection import MAX_MESSAGE_BYTES
from elanus.transport.http2.server import Http2Server
from elanus.transport.tls import CertificateWatch, TlsFiles, TlsMaterial

log = structlog.get_logger(__name__)

STOP_GRACE_S = 10.0
LOST_GRACE_S = 0.5
"""For calls that are open when the session is lost: most wait for what comes after this life."""

HANDOVER_CHECK_S = 0.1
REGISTER_RETRY_S = 0.5
_IDENTITY_ATTEMPTS = 20
_IDENTITY_PAUSE_S = 0.25


class Role(ABC):
    """What differs from role to role. Used once: a new life is a new Role."""

    name: str
    outlives_session = False
    """Whether it registers again when its session was lost, instead of ending."""

    beats = False
    """Whether others take over from it as soon as the coordinator doesn't hear it."""

    def labels(self, settings: Settings) -> dict[str, str]:
        """What the node's session says of it."""
        return {}

    @abstractmethod
    async def start(self, node: "Node", opened: AsyncExitStack) -> None:
        """Build the service, add it to ``node.services``; ``opened`` closes what was opened."""

    async def registered(self, node: "Node", opened: AsyncExitStack) -> None:  # noqa: B027
        """The session is there: others can call."""

    def session_lost(self) -> None:  # noqa: B027
        """Of those that outlive it: others believe this node gone until it has registered again."""

    def registered_again(self) -> None:  # noqa: B027
        """Of those that outlive a session: ``node.session`` is another one now."""

    def owns(self) -> list[str]:
        """What others would have to take over."""
        return []

    def describe(self) -> NodeStatus:
        return NodeStatus("serving", tuple(self.owns()))


class Node:
    """The parts of a process that every role uses."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        storage: Storage,
        metrics: Metrics,
        health: Health,
        context: ssl.SSLContext | None,
    ) -> None:
        self.world = world
        self.settings = settings
        self.storage = storage
        self.metrics = metrics
        self.health = health
        self.peers = Peers(context, settings.internal_tls.sni)
        self.membership = Membership(world, storage.meta)
        self.session = Session(world, storage.meta, settings.common.session.ttl)
        self.router = ClusterRouter(world, storage.meta, self.membership, self.peers)
        self.leader = LeaderClient(world, storage.meta, self.peers)
        self.pulse = Pulse(
            world, storage.meta, self.membership, self.peers, self.leader, self.session
        )
        self.services = RpcServices(world.calls)
        self.is_cut_short = False

    async def stop_server(self, server: TransportServer) -> None:
        """Let the open calls end, for a time that depends on why."""
        await server.stop(LOST_GRACE_S if self.is_cut_short else STOP_GRACE_S)


_Registration = tuple[str, str, str, ProcessIdentity, bool, dict[str, str]]
"""Arguments of ``Session.register``."""


class ClusterProcess:
    """One life: ``await start()``, wait for ``ended`` or a signal, ``await stop()``."""

    def __init__(self, settings: Settings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._opened = AsyncExitStack()
        self._health = Health(SystemClock().monotonic_s)
        self._node: Node | None = None
        self._registration: _Registration = ("", "", "", ProcessIdentity(), False, {})
        self.serves = False

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    async def start(self) -> None:
        """Raises ElanusError or OSError; then ``stop`` frees what was opened."""
        world = real_world(self._settings.memory, self._task_failed)
        self._opened.callback(world.executor.close)
        storage = await _open_shared_storage(world, self._settings)
        self._opened.push_async_callback(storage.close)
        metrics = Metrics()
        add_storage_readings(metrics, storage.objects, storage.wal)
        files = internal_tls(self._settings)
        context = None if files is None else await world.executor.run("io", files.client_context)
        node = self._node = Node(world, self._settings, storage, metrics, self._health, context)
        self._opened.push_async_callback(node.peers.close)
        self._opened.push_async_callback(world.tasks.close)
        await node.membership.start()
        instance = await world.executor.run("io", instance_of, LocalDisk(), self._settings)
        await end_former_lives(storage.meta, node.membership, instance)
        await node.router.start()
        await node.leader.start()
        node.services.add(NodeService, self)
        await self._role.start(node, self._opened)
        address = await self._serve(node)
        management = await self._serve_management(node)
        identity = ProcessIdentity(instance, machine_name(), started_ticks(os.getpid()))
        secure, ttl_s = context is not None, self._settings.common.session.ttl
        await wait_for_entry(world, node.membership, node.peers, secure=secure, ttl_s=ttl_s)
        labels = self._role.labels(node.settings)
        self._registration = (self._role.name, address, management, identity, secure, labels)
        await node.session.register(*self._registration)
        self._opened.push_async_callback(self._close_session)
        if self._role.beats and self._settings.cluster.silence_timeout:
            node.pulse.start()
        neighbours = Neighbours(world, storage.meta, node.membership)
        neighbours.start()
        self._opened.callback(neighbours.close)
        await self._role.registered(node, self._opened)
        add_readings(metrics, world)
        self._health.started()
        self.serves = True

    async def ended(self) -> None:
        """Returns when this life is over, because its session was lost."""
        while True:
            await self.node.session.lost.wait()
            if not self._role.outlives_session:
                self.node.is_cut_short = True
                return
            self._role.session_lost()
            await self._register_again()

    async def _register_again(self) -> None:
        node = self.node
        session = Session(node.world, node.storage.meta, self._settings.common.session.ttl)
        while True:
            try:
                await session.register(*self._registration)
            except Unavailable as error:
                log.warning("not registered again yet", reason=error.message)
                await node.world.clock.sleep(REGISTER_RETRY_S)
            else:
                log.info("registered again", node_id=session.info.node_id)
                node.session = session
                self._role.registered_again()
                return

    async def _close_session(self) -> None:
        await self.node.session.close()

    async def describe(self) -> NodeStatus:
        status, memory = self._role.describe(), self.node.world.memory
        return replace(
            status,
            state="stopping" if self.node.session.info.stopping else status.state,
            memory_used_bytes=memory.used_bytes,
            memory_limit_bytes=memory.limit_bytes,
        )

    async def hand_over(self, timeout_s: float) -> None:
        """Give away what this node owns, for at most ``timeout_s``."""
        node = self.node
        clock = node.world.clock
        if node.session.lost.is_set() or not self._role.owns():
            return
        try:
            await node.session.announce_stopping()
        except Unavailable as error:
            log.warning("nothing handed over", reason=error.message)
            return
        deadline_s = clock.monotonic_s() + timeout_s
        while self._role.owns() and clock.monotonic_s() < deadline_s:
            await clock.sleep(HANDOVER_CHECK_S)
        if self._role.owns():
            log.warning("not everything was handed over", timeout_s=timeout_s)

    async def stop(self) -> None:
        await self._opened.aclose()

    async def _serve(self, node: Node) -> str:
        cluster = self._settings.cluster
        options = TransportOptions(
            host=cluster.host,
            port=cluster.port,
            max_receive_bytes=MAX_MESSAGE_BYTES,
            max_send_bytes=MAX_MESSAGE_BYTES,
            tls=internal_tls(self._settings),
        )
        server = Http2Server(node.services.handle, options)
        await server.start()
        self._opened.push_async_callback(node.stop_server, server)
        if options.tls is not None:
            await self._watch_certificate(node, server, options.tls)
        host, port = server.address
        return f"{cluster.advertise_host or host}:{port}"

    async def _watch_certificate(
        self, node: Node, server: TransportServer, files: TlsFiles
    ) -> None:
        run = node.world.executor.run

        async def renew(material: TlsMaterial) -> None:
            await server.renew_certificate()
            node.peers.renew(await run("io", files.client_context))

        CertificateWatch(node.world, files, await run("io", files.read), renew).start()

    async def _serve_management(self, node: Node) -> str:
        metrics = self._settings.metrics
        if not metrics.enabled:
            return ""
        server = management_server(node.world, metrics, self._health, node.metrics)
        await server.start()
        self._opened.push_async_callback(server.stop, 1.0)
        host, port = server.address
        return f"{host}:{port}"

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._health.failed(name, f"{type(error).__name__}: {error}")


async def _open_shared_storage(world: World, settings: Settings) -> Storage:
    """Processes of a new cluster start at the same time: one of them gives it its identity."""
    for attempt in range(1, _IDENTITY_ATTEMPTS + 1):
        try:
            return await open_storage(world, LocalDisk(), settings)
        except InternalError as error:
            if attempt == _IDENTITY_ATTEMPTS:
                raise
            log.info("storage is being set up by another process", reason=error.message)
        await world.clock.sleep(_IDENTITY_PAUSE_S * (0.5 + world.random.random()))
    raise AssertionError
