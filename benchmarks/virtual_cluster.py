"""A cluster without data: the real coordinator over virtual nodes that only count what they are
told, and a metadata store in memory that is filled with as many records as wanted.

``VirtualCluster`` outlives its coordinators: ``lead`` begins with a new one over the same nodes.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from elanus.config.settings import RootCoordSettings, Settings
from elanus.coordinator.coordinator import Coordinator
from elanus.coordinator.query.shard import LoadedShard
from elanus.coordinator.records import (
    CollectionRecord,
    CollectionState,
    LoadRecord,
    Record,
    encode,
    key_of,
)
from elanus.errors import Unavailable
from elanus.model.catalog import (
    ChannelCheckpoint,
    CollectionInfo,
    DatabaseInfo,
    IndexInfo,
    PartitionInfo,
    SegmentIndex,
    SegmentInfo,
)
from elanus.model.resource_groups import QueryNodeInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import (
    ConsistencyLevel,
    DataType,
    IndexState,
    MetricType,
    SegmentLevel,
    SegmentState,
)
from elanus.runtime.clock import SystemClock
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.services.messages import LoadSegment, QueryView
from elanus.storage.meta.base import MAX_OPERATIONS, Put
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.objects.memory import MemoryObjectStore

NODE_MEMORY_BYTES = 1 << 40
SEGMENT_BYTES = 700 << 20
SEGMENT_ROWS = 200_000
FIRST_COLLECTION_ID = 470_000_000_000_000_000
POLL_S = 0.005
QUIET_POLLS = 3
"""A worker that has just been woken shows nothing yet."""


@dataclass(frozen=True)
class Scale:
    query_nodes: int
    streaming_nodes: int
    pchannels: int
    collections: int
    segments: int


class VirtualQueryNode:
    def __init__(self, cluster: "VirtualCluster", node_id: int) -> None:
        self._calls = cluster.calls
        self.info = QueryNodeInfo(node_id=node_id, memory_bytes=NODE_MEMORY_BYTES, cores=16)
        self.held: dict[int, SegmentInfo] = {}

    async def load_segment(self, request: LoadSegment) -> None:
        await asyncio.sleep(0)
        self._calls["load_segment"] += 1
        self.held[request.segment.segment_id] = request.segment

    async def release_segments(self, segment_ids: tuple[int, ...]) -> None:
        await asyncio.sleep(0)
        self._calls["release_segments"] += 1
        for segment_id in segment_ids:
            self.held.pop(segment_id, None)

    async def list_segments(self) -> list[SegmentInfo]:
        await asyncio.sleep(0)
        self._calls["list_segments"] += 1
        return list(self.held.values())


class VirtualStreamingNode:
    def __init__(self, cluster: "VirtualCluster") -> None:
        self._cluster = cluster
        self._calls = cluster.calls
        self.views: dict[str, QueryView] = {}

    async def open_pchannel(self, pchannel: str, term: int) -> None:
        await asyncio.sleep(0)
        self._calls["open_pchannel"] += 1

    async def close_pchannel(self, pchannel: str, term: int) -> None:
        self._calls["close_pchannel"] += 1

    async def open_vchannel(self, collection: CollectionInfo, vchannel: str) -> None:
        self._calls["open_vchannel"] += 1

    async def update_collection(self, collection: Any, indexes: Any, vchannel: str) -> int:
        return 1

    async def update_view(self, view: QueryView) -> None:
        await asyncio.sleep(0)
        self._calls["update_view"] += 1
        self.views[view.vchannel] = view

    async def release(self, vchannel: str) -> None:
        self._calls["release"] += 1
        self.views.pop(vchannel, None)


class _Inline:
    async def run(self, pool: str, function: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        return function(*args, **kw)


class _MappedObjects(MemoryObjectStore):
    """Nothing is read of it; query nodes map what they hold."""

    maps_files = True


def make_world() -> World:
    return World(
        clock=SystemClock(),
        random=random.Random(7),
        executor=_Inline(),  # type: ignore[arg-type]
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 40),
    )


class VirtualCluster:
    """Implements ``services.routing.Router``. ``calls``: calls to all nodes by method."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.calls: Counter[str] = Counter()
        self._next_id = 1
        self._query: dict[int, VirtualQueryNode] = {}
        self._streaming: dict[int, VirtualStreamingNode] = {}
        self._infos: list[QueryNodeInfo] = []
        self.settings = Settings(root_coord=RootCoordSettings(dml_channel_num=scale.pchannels))
        self.store = MemoryMetaStore(make_world())
        for _ in range(scale.query_nodes):
            self.add_query_node()
        for _ in range(scale.streaming_nodes):
            self._streaming[self._new_id()] = VirtualStreamingNode(self)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    # --- what happens to nodes ------------------------------------------------------------------

    def add_query_node(self) -> int:
        node_id = self._new_id()
        self._query[node_id] = VirtualQueryNode(self, node_id)
        self._infos = [node.info for node in self._query.values()]
        return node_id

    def lose_query_node(self, node_id: int | None = None) -> VirtualQueryNode:
        lost = self._query.pop(next(iter(self._query)) if node_id is None else node_id)
        self._infos = [node.info for node in self._query.values()]
        return lost

    def set_memory(self, memory_bytes: int) -> None:
        """Of every query node."""
        for node in self._query.values():
            node.info = msgspec.structs.replace(node.info, memory_bytes=memory_bytes)
        self._infos = [node.info for node in self._query.values()]

    def lose_streaming_node(self) -> VirtualStreamingNode:
        return self._streaming.pop(next(iter(self._streaming)))

    def held(self) -> list[int]:
        """Segments of each query node."""
        return [len(node.held) for node in self._query.values()]

    # --- router ---------------------------------------------------------------------------------

    async def streaming_node(self, vchannel: str) -> VirtualStreamingNode:
        raise Unavailable("nobody asks for this")

    async def streaming_node_by_id(self, node_id: int) -> VirtualStreamingNode:
        if node_id not in self._streaming:
            raise Unavailable(f"streaming node {node_id} is gone")
        return self._streaming[node_id]

    async def streaming_nodes(self) -> list[int]:
        return list(self._streaming)

    async def query_node(self, node_id: int) -> VirtualQueryNode:
        if node_id not in self._query:
            raise Unavailable(f"query node {node_id} is gone")
        return self._query[node_id]

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return list(self._query)

    async def query_node_infos(self) -> list[QueryNodeInfo]:
        return self._infos

    async def data_node(self) -> Any:
        raise Unavailable("there is no data node")

    # --- metadata -------------------------------------------------------------------------------

    async def fill(self, *, is_held: bool = False) -> None:
        """Store the records of loaded collections with indexed segments; ``is_held``: query nodes
        have them already, evenly."""
        batch: list[Put] = []
        nodes = list(self._query.values())
        held = 0
        for record in records_of(self.scale, self.settings):
            if is_held and isinstance(record, SegmentInfo):
                nodes[held % len(nodes)].held[record.segment_id] = record
                held += 1
            batch.append(Put(key_of(record), encode(record)))
            if len(batch) == MAX_OPERATIONS:
                await self.store.transact(batch)
                batch = []
        await self.store.transact(batch)

    # --- coordinators ---------------------------------------------------------------------------

    def coordinator(self) -> Coordinator:
        """A new one, which has not begun yet."""
        world = make_world()
        objects = _MappedObjects(world)
        return Coordinator(world, self.settings, meta=self.store, objects=objects, router=self)  # type: ignore[arg-type]

    async def lead(self) -> Coordinator:
        """A new one that leads; its loads go on."""
        coordinator = self.coordinator()
        await coordinator.start()
        return coordinator

    async def retire(self, coordinator: Coordinator) -> None:
        await coordinator._world.tasks.close()

    def shards(self, coordinator: Coordinator) -> list[LoadedShard]:
        loaded = coordinator._parts.loads._loaded.values()
        return [shard for each in loaded for shard in each.shards]

    async def settle(self, coordinator: Coordinator) -> None:
        """Until every loaded shard is what it should be, and nobody looks for more to do."""
        loads = coordinator._parts.loads
        quiet = 0
        while quiet < QUIET_POLLS:
            await asyncio.sleep(POLL_S)
            is_behind = any(shard.behind for shard in self.shards(coordinator))
            is_wanted = any(each.wanted.is_set() for each in loads._loaded.values())
            is_quiet = not is_behind and not is_wanted and not loads._attention.is_busy
            quiet = quiet + 1 if is_quiet else 0


def records_of(scale: Scale, settings: Settings) -> Iterator[Record]:
    yield DatabaseInfo(database_id=1, name="default", created_ts=1)
    cluster = settings.msg_channel.chan_name_prefix.cluster
    per_collection = scale.segments // scale.collections
    rng = random.Random(3)
    for number in range(scale.collections):
        collection_id = FIRST_COLLECTION_ID + number * (per_collection + 10)
        pchannel = f"{cluster}-rootcoord-dml_{number % scale.pchannels}"
        vchannel = f"{pchannel}_{collection_id}v0"
        yield CollectionRecord(
            info=_collection(collection_id, number, vchannel), state=CollectionState.CREATED
        )
        yield _index(collection_id)
        yield LoadRecord(collection_id=collection_id)
        yield ChannelCheckpoint(vchannel=vchannel, position=1_000, timestamp=1_000)
        for segment in range(per_collection):
            yield _segment(collection_id, vchannel, collection_id + 10 + segment, rng)


def _collection(collection_id: int, number: int, vchannel: str) -> CollectionInfo:
    fields = (
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True, field_id=100),
        FieldSchema(
            name="v", data_type=DataType.FLOAT_VECTOR, type_params={"dim": "768"}, field_id=101
        ),
    )
    return CollectionInfo(
        collection_id=collection_id,
        database="default",
        schema=CollectionSchema(name=f"collection_{number}", fields=fields),
        vchannels=(vchannel,),
        partitions=(
            PartitionInfo(
                partition_id=collection_id + 1, name="_default", created_ts=collection_id
            ),
        ),
        consistency_level=ConsistencyLevel.BOUNDED,
        created_ts=collection_id,
        updated_ts=collection_id,
    )


def _index(collection_id: int) -> IndexInfo:
    return IndexInfo(
        index_id=collection_id + 2,
        collection_id=collection_id,
        field_name="v",
        name="v",
        index_type="HNSW",
        metric_type=MetricType.COSINE,
        created_ts=collection_id,
    )


def _segment(collection_id: int, vchannel: str, segment_id: int, rng: random.Random) -> SegmentInfo:
    place = f"{collection_id}/{collection_id + 1}/{segment_id}"
    size_bytes = int(SEGMENT_BYTES * (0.8 + 0.4 * rng.random()))
    part = SegmentIndex(
        index_id=collection_id + 2,
        state=IndexState.FINISHED,
        key=f"index_files/{place}/{collection_id + 2}/hnsw",
        checksum=rng.getrandbits(32),
        size_bytes=size_bytes // 4,
    )
    return SegmentInfo(
        segment_id=segment_id,
        collection_id=collection_id,
        partition_id=collection_id + 1,
        vchannel=vchannel,
        state=SegmentState.FLUSHED,
        level=SegmentLevel.L1,
        row_count=int(SEGMENT_ROWS * (0.8 + 0.4 * rng.random())),
        min_ts=500,
        max_ts=900,
        manifest_key=f"insert_log/{place}/1/manifest.json",
        version=2,
        size_bytes=size_bytes,
        indexes=(part,),
    )
