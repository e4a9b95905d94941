"""The five roles as processes of a cluster: what each builds, serves and owns."""

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from elanus.access.dispatch import Dispatcher
from elanus.access.handlers import HANDLERS
from elanus.access.proxy import Proxy
from elanus.access.rest.app import RestApp
from elanus.config.settings import Settings
from elanus.coordinator.context import EVERYTHING
from elanus.coordinator.coordinator import Coordinator
from elanus.coordinator.election import FencedMetaStore, win_leadership
from elanus.errors import ElanusError, NotServed
from elanus.model.resource_groups import QueryNodeInfo
from elanus.observability.requests import RequestObserver
from elanus.roles.cluster.leader import PROXY, AnnouncingCoordinator, ProxyNotifier
from elanus.roles.cluster.process import Node, Role
from elanus.roles.cluster.quotas import QuotaDistributor
from elanus.roles.cluster.router import DATA, QUERY, STREAMING, ClusterRouter
from elanus.roles.cluster.silent_workers import SilentWorkers
from elanus.roles.readings import add_search_readings
from elanus.roles.serving import public_server
from elanus.roles.storage import empty_scratch, instance_of
from elanus.roles.tls import watch_public_certificate
from elanus.runtime.garbage import without_collections
from elanus.services.interfaces import (
    CoordinatorService,
    DataNodeService,
    LivenessService,
    ProxyService,
    QueryNodeService,
    StreamingService,
)
from elanus.services.messages import NodeStatus, QuotaNotice
from elanus.storage.disk import LocalDisk
from elanus.workers.data.importing.process import ProcessImporter
from elanus.workers.data.index_process import ProcessBuilder
from elanus.workers.data.node import DataNode
from elanus.workers.query.node import QueryNode
from elanus.workers.streaming.node import StreamingNode

log = structlog.get_logger(__name__)

COORDINATOR = "coordinator"


class StreamingRole(Role):
    name = STREAMING
    beats = True

    async def start(self, node: Node, opened: AsyncExitStack) -> None:
        self._streaming = StreamingNode(
            node.world,
            node.settings,
            wal=node.storage.wal,
            objects=node.storage.objects,
            coordinator=node.leader,
            router=node.router,
        )
        opened.push_async_callback(self._streaming.close)
        node.services.add(
            StreamingService,
            self._streaming,
            guard=node.session.require_valid,
            confirm=node.pulse.confirm,
        )

    def owns(self) -> list[str]:
        return [f"{name} at term {term}" for name, term in self._streaming.terms().items()]


class QueryRole(Role):
    name = QUERY
    beats = True

    def labels(self, settings: Settings) -> dict[str, str]:
        return settings.query_node.label_map

    async def start(self, node: Node, opened: AsyncExitStack) -> None:
        self._query = QueryNode(
            node.world,
            node.settings.query_node,
            node.storage.objects,
            slots=os.cpu_count() or 1,
        )
        node.services.add(QueryNodeService, self._query)

    def owns(self) -> list[str]:
        return [str(segment_id) for segment_id in self._query.segment_ids()]


class DataRole(Role):
    name = DATA
    beats = True

    async def start(self, node: Node, opened: AsyncExitStack) -> None:
        builder = ProcessBuilder()
        opened.push_async_callback(builder.close)
        scratch = await node.world.executor.run("io", empty_scratch, LocalDisk(), node.settings)
        data = DataNode(
            node.world,
            node.settings,
            objects=node.storage.objects,
            oracle=node.leader,
            builder=builder,
            importer=ProcessImporter(),
            scratch=scratch,
        )
        node.services.add(DataNodeService, data)


class CoordinatorRole(Role):
    """A standby until it wins the election; ends its life when it loses the leadership."""

    name = COORDINATOR

    async def start(self, node: Node, opened: AsyncExitStack) -> None:
        self._active: AnnouncingCoordinator | None = None
        self._term = 0
        node.services.add(CoordinatorService, _Gate(self), guard=node.session.require_valid)

    async def registered(self, node: Node, opened: AsyncExitStack) -> None:
        node.world.tasks.spawn("lead", self._lead(node, opened))

    def describe(self) -> NodeStatus:
        return NodeStatus("leading" if self._active else "standby", term=self._term)

    def active(self) -> AnnouncingCoordinator:
        if self._active is None:
            raise NotServed("this coordinator is not the leader, or only becoming it")
        return self._active

    async def _lead(self, node: Node, opened: AsyncExitStack) -> None:
        meta, session = node.storage.meta, node.session
        instance = await node.world.executor.run("io", instance_of, LocalDisk(), node.settings)
        leadership = await win_leadership(node.world, meta, session, instance)
        self._term = leadership.modified_revision
        fenced = FencedMetaStore(meta, leadership, session.lost.set)
        coordinator = Coordinator(
            node.world,
            node.settings,
            meta=fenced,
            objects=node.storage.objects,
            router=_GuardedRouter(node),
        )
        notifier = ProxyNotifier(node.world, session.info.node_id, node.membership, node.peers)
        announcing = AnnouncingCoordinator(coordinator, notifier)
        try:
            with without_collections():
                await coordinator.load_metadata()
                # Workers that are called during the rest of the start call back.
                self._active = announcing
                await coordinator.start()
        except ElanusError as error:
            log.error("can't lead", reason=error.message)
            self._active = None
            session.lost.set()
            return
        notifier.start()
        QuotaDistributor(
            node.world,
            coordinator,
            node.membership,
            node.peers,
            leader_id=session.info.node_id,
            is_leading=session.is_valid,
            interval_s=node.settings.quota_and_limits.quota_center_collect_interval,
        ).start()
        opened.push_async_callback(coordinator.close)

        def members_changed(role: str) -> None:
            if role == QUERY:
                coordinator.query_nodes_changed()
            elif role == DATA:
                alive = node.membership.nodes(DATA)
                coordinator.data_nodes_changed(sum(not info.stopping for info in alive))
            elif role == STREAMING:
                nodes = node.membership.nodes(STREAMING)
                coordinator.streaming_nodes_changed(
                    {info.node_id for info in nodes},
                    {info.node_id for info in nodes if not info.stopping},
                )

        node.membership.listeners.append(members_changed)
        members_changed(STREAMING)
        members_changed(DATA)
        _watch_workers(node, fenced)


def _watch_workers(node: Node, fenced: FencedMetaStore) -> None:
    silence_s = node.settings.cluster.silence_timeout
    if silence_s:
        silent = SilentWorkers(
            node.world,
            fenced,
            node.membership,
            silence_s=silence_s,
            is_leading=node.session.is_valid,
        )
        node.services.add(LivenessService, silent, guard=node.session.require_valid)
        silent.start()


class _Gate:
    """Lets calls through to the coordinator while it leads."""

    def __init__(self, role: CoordinatorRole) -> None:
        self._role = role

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **keywords: Any) -> Any:
            return await getattr(self._role.active(), name)(*arguments, **keywords)

        return call


class _GuardedRouter:
    """Finds nobody any more for a leader that others may believe lost: what it would tell nodes
    could undo what the next leader has told them."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @property
    def _router(self) -> ClusterRouter:
        self._node.session.require_valid()
        return self._node.router

    async def streaming_node(self, vchannel: str) -> StreamingService:
        return await self._router.streaming_node(vchannel)

    async def streaming_node_by_id(self, node_id: int) -> StreamingService:
        return await self._router.streaming_node_by_id(node_id)

    async def streaming_nodes(self) -> list[int]:
        return await self._node.router.streaming_nodes()

    async def query_node(self, node_id: int) -> QueryNodeService:
        return await self._router.query_node(node_id)

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return await self._node.router.query_nodes(stopping=stopping)

    async def query_node_infos(self) -> Sequence[QueryNodeInfo]:
        return await self._node.router.query_node_infos()

    async def data_node(self) -> DataNodeService:
        return await self._router.data_node()


class ProxyRole(Role):
    name = PROXY
    outlives_session = True

    async def start(self, node: Node, opened: AsyncExitStack) -> None:
        self._node = node
        self._known_to = 0
        self._address = ""
        self._proxy = Proxy(
            node.world, node.settings, node.leader, node.router, asks_query_nodes=True
        )
        add_search_readings(node.metrics, self._proxy.direct)
        self._proxy.meta.may_remember = self._may_remember
        self._proxy.limits.shares.visible_proxies = lambda: len(node.membership.nodes(PROXY))
        node.services.add(ProxyService, self)

    async def registered(self, node: Node, opened: AsyncExitStack) -> None:
        self._proxy.node_id = node.session.info.node_id
        settings = node.settings
        observer = RequestObserver(node.metrics, settings.proxy.slow_log_span_in_seconds)
        dispatcher = Dispatcher(self._proxy, HANDLERS, observer)
        rest = RestApp(self._proxy, dispatcher, settings.proxy.http)
        server = public_server(node.world, settings, dispatcher, rest)
        await server.start()
        opened.push_async_callback(node.stop_server, server)
        await watch_public_certificate(node.world, settings, server)
        self._address = "{}:{}".format(*server.address)
        log.info("serving", address=self._address)

    def describe(self) -> NodeStatus:
        return NodeStatus("serving", (self._address,))

    def session_lost(self) -> None:
        self._known_to = 0
        self._node.leader.changed(EVERYTHING)

    def registered_again(self) -> None:
        self._proxy.node_id = self._node.session.info.node_id

    async def invalidate(
        self, leader_id: int, collection_ids: tuple[int, ...], node_id: int = 0
    ) -> None:
        if node_id == self._node.session.info.node_id:
            # Not a late word to the one that this proxy was before it registered again.
            self._known_to = leader_id
        for collection_id in collection_ids:
            self._node.leader.changed(collection_id)

    async def limit(self, leader_id: int, notice: QuotaNotice) -> None:
        leader = self._node.leader.leader
        if leader is not None and leader.node_id == leader_id:
            self._proxy.limits.shares.hear(notice)

    def _may_remember(self) -> bool:
        leader = self._node.leader.leader
        return (
            leader is not None
            and leader.node_id == self._known_to
            and self._node.session.is_valid()
        )


ROLES: dict[str, type[Role]] = {
    role.name: role for role in (ProxyRole, CoordinatorRole, StreamingRole, QueryRole, DataRole)
}
