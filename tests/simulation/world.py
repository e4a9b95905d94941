"""One life of the server: all its roles, put together as ``elanus.roles.standalone`` does it."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elanus.access.dql.direct import DIRECT, DirectSearch
from elanus.config.settings import (
    CompactionSettings,
    DataCoordSettings,
    DataNodeSettings,
    GcSettings,
    RootCoordSettings,
    SegmentSettings,
    Settings,
    WalSettings,
)
from elanus.config.storage import (
    LogstoreSettings,
    SegmentCompactionPolicySettings,
    SegmentRollingPolicySettings,
    SegmentSyncPolicySettings,
    WoodpeckerClientSettings,
    WoodpeckerSettings,
)
from elanus.coordinator.coordinator import Coordinator
from elanus.roles.direct import DirectRouter
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.services.cluster.sessions import next_node_id
from elanus.services.local import LocalQueryNode
from elanus.services.messages import SegmentHits
from elanus.storage.identity import DirectoryMark, MetaMark, ObjectsMark, ensure_identity
from elanus.storage.meta.base import MetaStore
from elanus.storage.objects.base import ObjectStore
from elanus.storage.wal.base import Wal
from elanus.storage.wal.local import LocalWal
from elanus.storage.wal.woodpecker import WoodpeckerWal
from elanus.workers.data.builder import InProcessBuilder
from elanus.workers.data.importing.importer import InProcessImporter
from elanus.workers.data.node import DataNode
from elanus.workers.query.node import QueryNode
from elanus.workers.streaming.node import StreamingNode
from tests.simulation.disk import DiskImage, SimulatedDisk
from tests.simulation.faults import Faults, FaultyService, SimulatedClock, SimulatedExecutor
from tests.simulation.stores import FaultyMeta, FaultyObjects

WAL_ROOT = Path("/data/wal")
MISSING_TOLERANCE_S = 60
GC_INTERVAL_S = 4

SETTINGS = Settings(
    root_coord=RootCoordSettings(dml_channel_num=2),
    data_coord=DataCoordSettings(
        segment=SegmentSettings(
            max_size=1,
            seal_proportion=0.002,
            max_life=10,
            max_idle_time=3,
            min_size_from_idle_to_sealed=0,
        ),
        compaction=CompactionSettings(min_segment_to_merge=3, delta_files_to_compact=2),
        gc=GcSettings(
            interval=GC_INTERVAL_S, drop_tolerance=1, missing_tolerance=MISSING_TOLERANCE_S
        ),
        min_segment_num_rows_to_enable_index=16,
    ),
    data_node=DataNodeSettings(index_build_threads=1),
    wal=WalSettings(segment_size=4096),
    woodpecker=WoodpeckerSettings(
        client=WoodpeckerClientSettings(
            segment_rolling_policy=SegmentRollingPolicySettings(max_blocks=5)
        ),
        logstore=LogstoreSettings(
            segment_sync_policy=SegmentSyncPolicySettings(max_flush_size=1_000),
            segment_compaction_policy=SegmentCompactionPolicySettings(max_size=4_000),
        ),
    ),
)


@dataclass
class Storage:
    """What outlives the processes. ``files``: a real directory for index files. ``wal``: the
    backend of the log, as ``mq.type`` names it."""

    disk: DiskImage
    meta: MetaStore
    objects: ObjectStore
    files: Path
    wal: str = "local"


class FaultyQueryNode(FaultyService, LocalQueryNode):
    """One that is asked to search what grows along with what it holds."""

    async def search_beside(self, *arguments: Any) -> SegmentHits:
        found: SegmentHits = await self.__getattr__("search_beside")(*arguments)
        return found


class FaultyRouter:
    """The direct router, with a network in between. In some lives the query node counts as one of
    the same process."""

    def __init__(self, inner: DirectRouter, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self._query_node = FaultyQueryNode if faults.rng.random() < 0.5 else FaultyService

    async def streaming_node(self, vchannel: str) -> Any:
        node = await self._inner.streaming_node(vchannel)
        return FaultyService(node, "streaming", self._faults, asyncio.sleep)

    async def streaming_node_by_id(self, node_id: int) -> Any:
        node = await self._inner.streaming_node_by_id(node_id)
        return FaultyService(node, "streaming", self._faults, asyncio.sleep)

    async def streaming_nodes(self) -> list[int]:
        return await self._inner.streaming_nodes()

    async def query_node(self, node_id: int) -> Any:
        node = await self._inner.query_node(node_id)
        return self._query_node(node, "query", self._faults, asyncio.sleep)

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return await self._inner.query_nodes(stopping=stopping)

    async def query_node_infos(self) -> Any:
        return await self._inner.query_node_infos()

    async def data_node(self) -> Any:
        return FaultyService(await self._inner.data_node(), "data", self._faults, asyncio.sleep)


class Server:
    """``await start()``, use ``coordinator`` and ``router`` as a proxy would, ``await stop()``."""

    def __init__(
        self,
        storage: Storage,
        faults: Faults,
        rng: random.Random,
        time_s: Callable[[], float],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self.faults = faults
        self.storage = storage
        self.searches: Any = None
        self.clock = SimulatedClock(time_s, asyncio.sleep)
        self.world = World(
            clock=self.clock,
            random=rng,
            executor=SimulatedExecutor(faults, asyncio.sleep),  # type: ignore[arg-type]
            tasks=TaskSupervisor(on_failure),
            failpoints=Failpoints(),
            memory=MemoryLedger(1 << 30),
        )

    async def start(self) -> None:
        """Raises Unavailable if the weather is too bad."""
        world, faults, sleep = self.world, self.faults, asyncio.sleep
        disk = SimulatedDisk(self.storage.disk, self.clock.now_ms, faults.step)
        meta = FaultyMeta(self.storage.meta, faults, sleep)
        objects = FaultyObjects(self.storage.objects, self.storage.files, faults, sleep)
        self.wal: Wal
        if self.storage.wal == "woodpecker":
            root = f"{SETTINGS.woodpecker.root_path}/"
            cluster_id = await ensure_identity(
                world,
                MetaMark(meta),
                ObjectsMark(objects, "wp", prefix=root),
                ObjectsMark(objects, beside=[root]),
            )
            self.wal = WoodpeckerWal(world, objects, SETTINGS.woodpecker, cluster_id)
        else:
            cluster_id = await ensure_identity(
                world, MetaMark(meta), DirectoryMark(world, disk, WAL_ROOT), ObjectsMark(objects)
            )
            self.wal = LocalWal(world, disk, WAL_ROOT, SETTINGS.wal, cluster_id)
        direct = DirectRouter(await next_node_id(meta))
        self.router = FaultyRouter(direct, faults)
        self.own_coordinator = Coordinator(
            world, SETTINGS, meta=meta, objects=objects, router=self.router
        )
        self.coordinator: Any = FaultyService(self.own_coordinator, "coordinator", faults, sleep)
        self.streaming = StreamingNode(
            world,
            SETTINGS,
            wal=self.wal,
            objects=objects,
            coordinator=self.coordinator,
            router=self.router,
        )
        self.query = QueryNode(world, SETTINGS.query_node, objects, slots=2)
        self.data = DataNode(
            world,
            SETTINGS,
            objects=objects,
            oracle=self.coordinator,
            builder=InProcessBuilder(world),
            importer=InProcessImporter(world),
            scratch=self.storage.files / "scratch",
        )
        direct.bind(self.streaming, self.query, self.data)
        self.searches = DirectSearch(world, self.router)
        await self.own_coordinator.start()

    @property
    def direct_searches(self) -> int:
        """How many searches were answered by query nodes that were asked at once."""
        return 0 if self.searches is None else self.searches.counts[DIRECT]

    async def stop(self) -> None:
        """In the order of the standalone server."""
        await self.streaming.close()
        await self.own_coordinator.close()
        await self.data.close()
        await self.wal.close()
        await self.world.tasks.close()
