"""One process with the real coordinator, log and object store, and a collection to write to."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from elanus.config.settings import Settings
from elanus.coordinator.coordinator import Coordinator
from elanus.engine.filter.compile import compile_filter
from elanus.errors import Unavailable
from elanus.model.catalog import ALL_PARTITIONS, CollectionInfo, IndexInfo
from elanus.model.reads import VectorQuery
from elanus.model.resource_groups import QueryNodeInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import ConsistencyLevel, DataType, LoadState, MetricType
from elanus.runtime.clock import SystemClock
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.services.messages import (
    PartitionRows,
    PrimaryKeys,
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    WriteRequest,
)
from elanus.storage.disk import LocalDisk
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.wal.local import LocalWal
from elanus.workers.query.node import QueryNode
from elanus.workers.streaming.node import StreamingNode

DIM = 4
CLUSTER = "6f1c1f6e-8f4e-4f1f-9d57-0e6f6a3f7b11"

SCHEMA = CollectionSchema(
    name="things",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="value", data_type=DataType.INT64),
        FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)}),
    ),
)


class InlineExecutor:
    """Calls in the event loop's thread; other tasks get their turn before each call."""

    async def run(self, pool: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    def start(self, pool: str, function: Callable[[], Any]) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self.run(pool, function))

    def close(self) -> None: ...


_NODE_IDS = itertools.count(1)


class LocalRouter:
    """Everything in one process; nobody compacts or builds indexes. ``query`` is query node 1,
    ``more`` are others; those that are ``stopping`` take nothing new, those that are ``down`` don't
    answer."""

    def __init__(self) -> None:
        self.node_id = next(_NODE_IDS)
        self.streaming: StreamingNode | None = None
        self.query: QueryNode | None = None
        self.more: dict[int, QueryNode] = {}
        self.stopping: set[int] = set()
        self.down: set[int] = set()

    async def streaming_node(self, vchannel: str) -> StreamingNode:
        assert self.streaming is not None
        return self.streaming

    async def streaming_node_by_id(self, node_id: int) -> StreamingNode:
        assert self.streaming is not None
        return self.streaming

    async def streaming_nodes(self) -> list[int]:
        return [self.node_id]

    async def query_node(self, node_id: int) -> QueryNode:
        node = self.query if node_id == 1 else self.more.get(node_id)
        if node is None or node_id in self.down:
            raise Unavailable(f"query node {node_id} can't be reached")
        return node

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return [n for n in (1, *self.more) if stopping or n not in self.stopping]

    async def query_node_infos(self) -> list[QueryNodeInfo]:
        nodes = (1, *self.more)
        return [QueryNodeInfo(node_id=n, is_stopping=n in self.stopping) for n in nodes]

    async def data_node(self) -> Any:
        raise Unavailable("there is no data node here")


class Server:
    """Start, use, then ``stop`` (orderly) or ``crash`` (only storage goes on)."""

    def __init__(
        self,
        root: Path,
        meta: MemoryMetaStore | None = None,
        settings: Settings | None = None,
        disk: Any = None,
        query_nodes: int = 1,
    ) -> None:
        self.root = root
        self.query_nodes = query_nodes
        self.settings = settings or Settings()
        self.disk = disk or LocalDisk()
        self.world = World(
            clock=SystemClock(),
            random=random.Random(7),
            executor=InlineExecutor(),
            tasks=TaskSupervisor(),
            failpoints=Failpoints(),
            memory=MemoryLedger(1 << 30),
        )
        self.meta = meta or MemoryMetaStore(self.world)

    async def start(self) -> "Server":
        self.wal = LocalWal(self.world, self.disk, self.root / "wal", self.settings.wal, CLUSTER)
        self.objects = await LocalObjectStore.open(self.world, self.disk, self.root / "objects")
        self.router = LocalRouter()
        self.coordinator = Coordinator(
            self.world, self.settings, meta=self.meta, objects=self.objects, router=self.router
        )
        self.router.streaming = self.streaming = StreamingNode(
            self.world,
            self.settings,
            wal=self.wal,
            objects=self.objects,
            coordinator=self.coordinator,
            router=self.router,
        )
        self.router.query = self.query_node = QueryNode(
            self.world, self.settings.query_node, self.objects, slots=2
        )
        for node_id in range(2, self.query_nodes + 1):
            self.add_query_node(node_id)
        await self.coordinator.start()
        return self

    def add_query_node(self, node_id: int) -> None:
        self.router.more[node_id] = QueryNode(
            self.world, self.settings.query_node, self.objects, slots=2
        )

    def held(self) -> dict[int, list[int]]:
        """Segments by query node."""
        nodes = {1: self.query_node, **self.router.more}
        return {node_id: node.segment_ids() for node_id, node in nodes.items()}

    def shard(self, info: CollectionInfo) -> Any:
        shards = self.streaming._shards_by_pchannel()
        return next(shard for _, shard in shards if shard.vchannel == info.vchannels[0])

    async def stop(self) -> None:
        await self.streaming.close()
        await self.world.tasks.close()
        await self.coordinator.close()
        await self.wal.close()

    async def crash(self) -> None:
        await self.world.tasks.close()
        await self.wal.close()

    async def restarted(self) -> "Server":
        again = Server(self.root, self.meta, self.settings, self.disk, self.query_nodes)
        return await again.start()

    # --- what a user would do -------------------------------------------------------------------

    async def create(
        self, *, schema: CollectionSchema = SCHEMA, load: bool = True, partitions: int = 1
    ) -> CollectionInfo:
        info = await self.coordinator.create_collection(
            "default",
            schema,
            shards=1,
            partitions=0,
            consistency_level=ConsistencyLevel.STRONG,
            properties={},
        )
        for number in range(1, partitions):
            await self.coordinator.create_partition("default", schema.name, f"part{number}")
        info = await self.describe()
        await self.coordinator.create_index(
            IndexInfo(
                index_id=0,
                collection_id=info.collection_id,
                field_name="vector",
                name="vector",
                index_type="FLAT",
                metric_type=MetricType.L2,
                created_ts=0,
            )
        )
        if load:
            await self.load(info)
        return info

    async def describe(self) -> CollectionInfo:
        return await self.coordinator.describe_collection("default", "things")

    async def load(self, info: CollectionInfo, replicas: int = 1) -> None:
        await self.coordinator.load(info.collection_id, (), replicas)
        await self.wait_loaded(info)

    async def wait_loaded(self, info: CollectionInfo) -> None:
        async def loaded() -> bool:
            found = await self.coordinator.load_info(info.collection_id)
            return found is not None and found.state is LoadState.LOADED

        await eventually(loaded)

    async def flush(self, info: CollectionInfo) -> None:
        tickets = await self.coordinator.flush(info.collection_id)
        flush_ts = max(ticket.flush_ts for ticket in tickets)
        await eventually(lambda: self.coordinator.is_flushed(info.collection_id, flush_ts))
        await eventually(self.is_quiet)

    async def is_quiet(self) -> bool:
        """Whether the node has drawn the consequences of every flush too."""
        shards = self.streaming._shards_by_pchannel()
        return all(shard.flush_task is None for _, shard in shards)

    async def write(
        self,
        info: CollectionInfo,
        rows: dict[int, int] | None = None,
        deletes: Iterable[int] = (),
    ) -> int:
        """Insert ``rows`` (id → value) after deleting ``deletes``, atomically. The partition of
        a row is chosen by its id."""
        deletes = list(deletes)
        parts: list[dict[int, int]] = [{} for _ in info.partitions]
        for key, value in (rows or {}).items():
            parts[key % len(parts)][key] = value
        return await self.streaming.write(
            WriteRequest(
                vchannel=info.vchannels[0],
                collection_id=info.collection_id,
                schema_version=info.schema.version,
                inserts=tuple(
                    PartitionRows(partition.partition_id, batch(part))
                    for partition, part in zip(info.partitions, parts, strict=True)
                    if part
                ),
                deletes=(PrimaryKeys(pa.array(deletes, pa.int64()), ALL_PARTITIONS),)
                if deletes
                else (),
            )
        )

    async def upsert(self, info: CollectionInfo, rows: dict[int, int]) -> int:
        return await self.write(info, rows, rows)

    async def query(
        self, info: CollectionInfo, *, read_ts: int = 0, expression: str | None = None, **more: Any
    ) -> QueryResponse:
        plan = None if expression is None else compile_filter(expression, info.schema)
        guarantee_ts = await self.coordinator.allocate_timestamps(1)
        return await self.streaming.query(
            QueryRequest(
                collection_id=info.collection_id,
                vchannel=info.vchannels[0],
                guarantee_ts=more.pop("guarantee_ts", guarantee_ts),
                read_ts=read_ts,
                plan=plan,
                output_fields=more.pop("output_fields", ("id", "value")),
                **more,
            )
        )

    async def contents(self, info: CollectionInfo, read_ts: int = 0) -> dict[int, int]:
        """Everything that a Strong query sees: id → value."""
        rows = (await self.query(info, read_ts=read_ts)).rows
        ids = rows.column("id").to_pylist()
        assert ids == sorted(set(ids))
        return dict(zip(ids, rows.column("value").to_pylist(), strict=True))

    async def count(self, info: CollectionInfo) -> int:
        return (await self.query(info, count_only=True)).count

    async def search(
        self,
        info: CollectionInfo,
        value: int,
        top_k: int = 3,
        output_fields: Sequence[str] = ("value",),
        **more: Any,
    ) -> SearchResponse:
        guarantee_ts = await self.coordinator.allocate_timestamps(1)
        return await self.streaming.search(
            SearchRequest(
                collection_id=info.collection_id,
                vchannel=info.vchannels[0],
                query=VectorQuery("vector", MetricType.L2, vectors([value]), top_k),
                guarantee_ts=guarantee_ts,
                output_fields=tuple(output_fields),
                **more,
            )
        )


def vectors(values: Sequence[int]) -> np.ndarray:
    """Each value's vector: nearer values have nearer vectors."""
    return np.repeat(np.array(values, dtype=np.float32)[:, None], DIM, axis=1)


def batch(rows: dict[int, int], schema: CollectionSchema = SCHEMA) -> pa.RecordBatch:
    flat = vectors(list(rows.values())).reshape(-1)
    columns = {
        "id": pa.array(list(rows), pa.int64()),
        "value": pa.array(list(rows.values()), pa.int64()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(flat), DIM),
    }
    return pa.RecordBatch.from_arrays(
        [columns[field.name] for field in schema.fields], schema=schema.arrow
    )


def with_segment(settings: Settings, **values: Any) -> Settings:
    """Settings with other seal rules."""
    segment = msgspec.structs.replace(settings.data_coord.segment, **values)
    return msgspec.structs.replace(
        settings, data_coord=msgspec.structs.replace(settings.data_coord, segment=segment)
    )


async def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return when ``await condition()`` is true; fail after a generous time."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.005)
