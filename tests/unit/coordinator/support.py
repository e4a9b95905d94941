"""A coordinator with its surroundings: real metadata and objects, streaming and query nodes that
remember what they were told."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from elanus.config.settings import Settings
from elanus.coordinator.coordinator import Coordinator
from elanus.errors import Unavailable
from elanus.model.catalog import ChannelCheckpoint, CollectionInfo, SegmentInfo
from elanus.model.resource_groups import QueryNodeInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import ConsistencyLevel, DataType, SegmentLevel, SegmentState
from elanus.runtime.clock import SystemClock
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.services.messages import FlushCommit, FlushTicket, LoadSegment, QueryView
from elanus.storage.meta.base import MetaStore
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.workers.data.builder import InProcessBuilder
from elanus.workers.data.importing.importer import InProcessImporter
from elanus.workers.data.node import DataNode


class SteppingClock(SystemClock):
    """The machine's clock, and a step that a test may give it."""

    step_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.step_ms


class InlineExecutor:
    async def run(self, pool: str, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        return function(*args, **kw)

    def close(self) -> None:
        pass


def make_world() -> World:
    return World(
        clock=SteppingClock(),
        random=random.Random(7),
        executor=InlineExecutor(),  # type: ignore[arg-type]
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )


class Flaky:
    """Raises Unavailable the next ``failures[method]`` times."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def called(self, method: str) -> None:
        self.calls[method] += 1
        if self.failures[method] > 0:
            self.failures[method] -= 1
            raise Unavailable(f"{method} fails on purpose")


NODE_IDS = itertools.count(1)


class StreamingStub(Flaky):
    def __init__(self) -> None:
        super().__init__()
        self.node_id = next(NODE_IDS)
        self.coordinator: Coordinator | None = None
        self.terms: dict[str, int] = {}
        self.shards: dict[str, CollectionInfo] = {}
        self.views: dict[str, QueryView] = {}
        self.seal_ts = 0

    async def open_pchannel(self, pchannel: str, term: int) -> None:
        self.called("open_pchannel")
        assert term >= self.terms.get(pchannel, 0)
        self.terms[pchannel] = term
        assert self.coordinator is not None
        for shard in await self.coordinator.recovery(pchannel):
            for vchannel in shard.collection.vchannels:
                if vchannel.startswith(pchannel + "_"):
                    self.shards[vchannel] = shard.collection

    async def open_vchannel(self, collection: CollectionInfo, vchannel: str) -> None:
        self.called("open_vchannel")
        assert self.coordinator is not None
        await self.coordinator.list_indexes(collection.collection_id)
        self.shards.setdefault(vchannel, collection)

    async def close_vchannel(self, vchannel: str) -> None:
        self.called("close_vchannel")
        self.shards.pop(vchannel, None)
        self.views.pop(vchannel, None)

    async def update_collection(self, collection: Any, indexes: Any, vchannel: str) -> int:
        self.called("update_collection")
        self.shards[vchannel] = collection
        return 1

    async def seal(self, vchannel: str) -> FlushTicket:
        self.called("seal")
        return FlushTicket(vchannel, (), self.seal_ts)

    async def update_view(self, view: QueryView) -> None:
        self.called("update_view")
        old = self.views.get(view.vchannel)
        if old is None or view.version > old.version:
            self.views[view.vchannel] = view

    async def release(self, vchannel: str) -> None:
        self.called("release")
        self.views.pop(vchannel, None)


class QueryStub(Flaky):
    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, LoadSegment] = {}

    async def load_segment(self, request: LoadSegment) -> None:
        self.called("load_segment")
        known = self.held.get(request.segment.segment_id)
        if known is None or known.segment.version <= request.segment.version:
            self.held[request.segment.segment_id] = request

    async def list_segments(self) -> list[SegmentInfo]:
        return [request.segment for request in self.held.values()]

    async def release_segments(self, segment_ids: tuple[int, ...]) -> None:
        self.called("release_segments")
        for segment_id in segment_ids:
            self.held.pop(segment_id, None)


@dataclass
class Rig:
    world: World
    coordinator: Coordinator
    streaming: StreamingStub
    query: QueryStub
    objects: MemoryObjectStore
    data: Any = None
    changes: list[int] = field(default_factory=list)

    async def streaming_node(self, vchannel: str) -> StreamingStub:
        return self.streaming

    async def streaming_nodes(self) -> list[int]:
        return [self.streaming.node_id]

    async def streaming_node_by_id(self, node_id: int) -> StreamingStub:
        if node_id != self.streaming.node_id:
            raise Unavailable(f"streaming node {node_id} is gone")
        return self.streaming

    async def query_node(self, node_id: int) -> QueryStub:
        return self.query

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return [1]

    async def query_node_infos(self) -> list[QueryNodeInfo]:
        return [QueryNodeInfo(node_id=node_id) for node_id in await self.query_nodes()]

    async def data_node(self) -> Any:
        return self.data

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    async def create(self, name: str = "c", **changes: Any) -> CollectionInfo:
        arguments: dict[str, Any] = {
            "shards": 1,
            "partitions": 0,
            "consistency_level": ConsistencyLevel.BOUNDED,
            "properties": {},
        }
        schema = changes.pop("schema", None) or make_schema(name)
        database = changes.pop("database", "default")
        return await self.coordinator.create_collection(
            database, schema, **{**arguments, **changes}
        )


def make_schema(name: str = "c", *extra: FieldSchema) -> CollectionSchema:
    return CollectionSchema(
        name=name,
        fields=(
            FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
            FieldSchema(name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "4"}),
            *extra,
        ),
    )


def make_segment(info: CollectionInfo, segment_id: int, **changes: Any) -> SegmentInfo:
    values: dict[str, Any] = {
        "segment_id": segment_id,
        "collection_id": info.collection_id,
        "partition_id": info.partitions[0].partition_id,
        "vchannel": info.vchannels[0],
        "state": SegmentState.FLUSHED,
        "level": SegmentLevel.L1,
        "row_count": 10,
        "min_ts": segment_id,
        "max_ts": segment_id,
        "manifest_key": f"insert_log/{info.collection_id}/1/{segment_id}/1/manifest.json",
        "size_bytes": 1000,
    }
    return SegmentInfo(**{**values, **changes})


def make_commit(info: CollectionInfo, *segments: SegmentInfo, **changes: Any) -> FlushCommit:
    last = max((s.max_ts for s in segments), default=0)
    checkpoint = ChannelCheckpoint(
        vchannel=info.vchannels[0],
        position=changes.get("position", last),
        timestamp=changes.get("timestamp", last),
    )
    return FlushCommit(
        segments=tuple(s for s in segments if s.level is not SegmentLevel.L0),
        deltas=tuple(s for s in segments if s.level is SegmentLevel.L0),
        checkpoint=checkpoint,
        term=changes.get("term", 1_000),
    )


@asynccontextmanager
async def running(
    meta: MetaStore,
    *,
    settings: Settings | None = None,
    world: World | None = None,
    objects: MemoryObjectStore | None = None,
    start: bool = True,
    scratch: Path = Path("/nonexistent"),
) -> AsyncIterator[Rig]:
    """A coordinator over ``meta`` with nodes of its own; on leaving, its process "dies"."""
    world = world or make_world()
    objects = objects or MemoryObjectStore(world)
    rig = Rig(world, None, StreamingStub(), QueryStub(), objects)  # type: ignore[arg-type]
    settings = settings or Settings()
    rig.coordinator = Coordinator(world, settings, meta=meta, objects=objects, router=rig)  # type: ignore[arg-type]
    rig.streaming.coordinator = rig.coordinator
    rig.coordinator.on_change(rig.changes.append)
    rig.data = DataNode(
        world,
        settings,
        objects=objects,
        oracle=rig.coordinator,
        builder=InProcessBuilder(world),
        importer=InProcessImporter(world),
        scratch=scratch,
    )
    try:
        if start:
            await rig.coordinator.start()
        yield rig
    finally:
        await world.tasks.close()
