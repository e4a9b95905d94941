"""All roles in one process, on the storage that the settings name.

Start: storage (``roles/storage.py``) → coordinator, which recovers the logs and restores what was
loaded → ports. Stop is the reverse; requests in flight get some time to finish.

Metadata in etcd can be reached by several processes. Then this one first becomes the leader, as a
cluster's coordinator does; another one on the same storage stands by until the leader is gone. A
leader that has lost touch with etcd answers nothing, since another may have taken over.
"""

import asyncio
import os
from contextlib import AsyncExitStack

import structlog

from elanus.access.dispatch import Dispatcher
from elanus.access.handlers import HANDLERS
from elanus.access.proxy import Proxy
from elanus.access.rest.app import RestApp
from elanus.config.settings import Settings
from elanus.coordinator.coordinator import Coordinator
from elanus.coordinator.election import FencedMetaStore, win_leadership
from elanus.model.types import LoadState
from elanus.observability.health import Health
from elanus.observability.metrics import Metrics
from elanus.observability.requests import RequestObserver
from elanus.roles.direct import DirectRouter
from elanus.roles.process import give_memory_back_early, real_world, take_turns_quickly
from elanus.roles.quotas import keep_quotas
from elanus.roles.readings import add_readings, add_storage_readings
from elanus.roles.serving import management_server, public_server
from elanus.roles.storage import empty_scratch, instance_of, open_storage
from elanus.roles.tls import watch_public_certificate
from elanus.runtime.clock import SystemClock
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Session, next_node_id
from elanus.storage.disk import LocalDisk
from elanus.storage.meta.base import MetaStore
from elanus.transport.base import TransportServer
from elanus.workers.data.importing.process import ProcessImporter
from elanus.workers.data.index_process import ProcessBuilder
from elanus.workers.data.node import DataNode
from elanus.workers.query.node import QueryNode
from elanus.workers.streaming.node import StreamingNode

log = structlog.get_logger(__name__)

ROLE = "standalone"
STOP_GRACE_S = 10.0
RESTORE_WAIT_S = 10.0
RESTORE_CHECK_S = 0.005


class Standalone:
    """``await start()``, serve, ``await stop()``. Raises ElanusError or OSError from ``start``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened = AsyncExitStack()
        self._health = Health(SystemClock().monotonic_s)
        self._metrics = Metrics()
        self._server: TransportServer | None = None
        self._session: Session | None = None

    @property
    def port(self) -> int:
        """The public port in use."""
        return self._settings.proxy.port if self._server is None else self._server.address[1]

    @property
    def lost(self) -> asyncio.Event:
        """Set when another process may have taken over: stop, and begin anew."""
        return asyncio.Event() if self._session is None else self._session.lost

    async def start(self) -> None:
        give_memory_back_early()
        take_turns_quickly()
        world = real_world(self._settings.memory, self._task_failed)
        self._opened.callback(world.executor.close)
        router, coordinator = await self._open_roles(world)
        await coordinator.start()
        await _wait_for_loads(world, coordinator)
        proxy = Proxy(world, self._settings, coordinator, router)
        interval_s = self._settings.quota_and_limits.quota_center_collect_interval
        keeping = keep_quotas(world, coordinator, proxy.limits.shares, router.node_id, interval_s)
        world.tasks.spawn("quotas", keeping)
        await self._open_ports(world, proxy)
        add_readings(self._metrics, world)
        self._health.started()

    async def stop(self) -> None:
        await self._opened.aclose()

    async def _open_roles(self, world: World) -> tuple[DirectRouter, Coordinator]:
        settings, disk = self._settings, LocalDisk()
        storage = await open_storage(world, disk, settings)
        self._opened.push_async_callback(storage.close)
        scratch = await world.executor.run("io", empty_scratch, disk, settings)
        objects, meta = storage.objects, storage.meta
        add_storage_readings(self._metrics, objects, storage.wal)
        if settings.metastore.type == "etcd":
            meta = await self._lead(world, meta)
        router = DirectRouter(await next_node_id(meta), world.memory.limit_bytes)
        coordinator = Coordinator(world, settings, meta=meta, objects=objects, router=router)
        streaming = StreamingNode(
            world,
            settings,
            wal=storage.wal,
            objects=objects,
            coordinator=coordinator,
            router=router,
        )
        query = QueryNode(world, settings.query_node, objects, slots=os.cpu_count() or 1)
        builder = ProcessBuilder()
        self._opened.push_async_callback(builder.close)
        data = DataNode(
            world,
            settings,
            objects=objects,
            oracle=coordinator,
            builder=builder,
            importer=ProcessImporter(),
            scratch=scratch,
        )
        router.bind(streaming, query, data)
        self._opened.push_async_callback(world.tasks.close)
        self._opened.push_async_callback(coordinator.close)
        self._opened.push_async_callback(streaming.close)
        return router, coordinator

    async def _lead(self, world: World, meta: MetaStore) -> MetaStore:
        session = self._session = Session(world, meta, self._settings.common.session.ttl)
        proxy = self._settings.proxy
        await session.register(ROLE, f"{proxy.host}:{proxy.port}")
        self._opened.push_async_callback(session.close)
        instance = await world.executor.run("io", instance_of, LocalDisk(), self._settings)
        leadership = await win_leadership(world, meta, session, instance)
        return FencedMetaStore(meta, leadership, session.lost.set)

    async def _open_ports(self, world: World, proxy: Proxy) -> None:
        observer = RequestObserver(self._metrics, self._settings.proxy.slow_log_span_in_seconds)
        guard = None if self._session is None else self._session.require_valid
        dispatcher = Dispatcher(proxy, HANDLERS, observer, guard)
        rest = RestApp(proxy, dispatcher, self._settings.proxy.http)
        self._server = public_server(world, self._settings, dispatcher, rest)
        await self._server.start()
        self._opened.push_async_callback(self._server.stop, STOP_GRACE_S)
        await watch_public_certificate(world, self._settings, self._server)
        if self._settings.metrics.enabled:
            management = management_server(
                world, self._settings.metrics, self._health, self._metrics
            )
            await management.start()
            self._opened.push_async_callback(management.stop, 1.0)

    def _task_failed(self, name: str, error: BaseException) -> None:
        self._health.failed(name, f"{type(error).__name__}: {error}")


async def _wait_for_loads(world: World, coordinator: Coordinator) -> None:
    """What was loaded before the restart is loaded again before the first request comes in.

    Mapping takes milliseconds. Whatever takes longer than RESTORE_WAIT_S goes on in the
    background, and reads of it are told to come back.
    """
    deadline_s = world.clock.monotonic_s() + RESTORE_WAIT_S
    while world.clock.monotonic_s() < deadline_s:
        waiting = [info for info in await coordinator.loaded() if info.state is LoadState.LOADING]
        if not waiting:
            return
        await world.clock.sleep(RESTORE_CHECK_S)
    for info in waiting:
        log.warning("still loading", collection_id=info.collection_id, reason=info.reason)
