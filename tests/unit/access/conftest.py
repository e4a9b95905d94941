"""A cluster in a dictionary: real segments and the real engine, behind the roles' interfaces.

It keeps one growing segment for each shard and partition, without log, flush or index, so that the
access layer's requests are answered by what they mean.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from elanus.access.context import CallContext
from elanus.access.proxy import Proxy
from elanus.config.settings import Settings
from elanus.engine.groups import merge_found
from elanus.engine.reduce import merge_rows
from elanus.engine.segment.growing import GrowingSegment
from elanus.errors import CollectionNotFound
from elanus.model.catalog import (
    ALL_PARTITIONS,
    CollectionInfo,
    DatabaseInfo,
    IndexInfo,
    LoadInfo,
    PartitionInfo,
)
from elanus.model.reads import Snapshot
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import ConsistencyLevel, DataType, LoadState, MetricType
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.services.messages import (
    QueryRequest,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    WriteRequest,
)
from elanus.wire.placeholders import encode_vectors
from elanus.wire.protocol import common, milvus, pack


@dataclass
class MemoryCluster:
    """Coordinator, router and streaming node in one. ``seen``: the requests that shards got."""

    collections: dict[str, CollectionInfo] = field(default_factory=dict)
    indexes: dict[int, list[IndexInfo]] = field(default_factory=dict)
    loads: dict[int, LoadInfo] = field(default_factory=dict)
    segments: dict[tuple[str, int], GrowingSegment] = field(default_factory=dict)
    seen: list[Any] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: itertools.count(1000))
    listeners: list[Callable[[int], None]] = field(default_factory=list)

    # --- coordinator ---

    async def allocate_timestamps(self, count: int = 1) -> int:
        return next(self.numbers)

    async def allocate_ids(self, count: int = 1) -> int:
        first: int = next(self.numbers)
        self.numbers = itertools.count(first + count)
        return first

    async def describe_collection(self, database: str, name: str) -> CollectionInfo:
        if name not in self.collections:
            raise CollectionNotFound(database, name)
        return self.collections[name]

    async def list_indexes(self, collection_id: int) -> list[IndexInfo]:
        return self.indexes.get(collection_id, [])

    async def describe_database(self, name: str) -> DatabaseInfo:
        return DatabaseInfo(database_id=1, name=name, created_ts=1)

    async def load_info(self, collection_id: int) -> LoadInfo | None:
        return self.loads.get(collection_id)

    def on_change(self, listener: Callable[[int], None]) -> None:
        self.listeners.append(listener)

    def change(self, collection: CollectionInfo) -> None:
        self.collections[collection.name] = collection
        for listener in self.listeners:
            listener(collection.collection_id)

    # --- router and streaming node ---

    async def streaming_node(self, vchannel: str) -> Any:
        return self

    async def write(self, request: WriteRequest) -> int:
        self.seen.append(request)
        now: int = next(self.numbers)
        for deletes in request.deletes:
            for (vchannel, partition_id), segment in self.segments.items():
                if vchannel == request.vchannel and deletes.partition_id in (
                    partition_id,
                    ALL_PARTITIONS,
                ):
                    segment.delete(deletes.keys, now)
        for part in request.inserts:
            key = (request.vchannel, part.partition_id)
            if key not in self.segments:
                schema = next(
                    each.schema
                    for each in self.collections.values()
                    if each.collection_id == request.collection_id
                )
                self.segments[key] = GrowingSegment(
                    schema, len(self.segments) + 1, part.partition_id
                )
            self.segments[key].append(part.rows, now)
        return now

    async def search(self, request: SearchRequest) -> SearchResponse:
        segments, snapshot = self._parts(request)
        found = [each.search(request.query, snapshot, request.plan) for each in segments]
        hits = merge_found(found, request.query)
        rows = self._take(segments, hits, request.output_fields)
        return SearchResponse(hits, rows, snapshot.read_ts, {"search": 0.001})

    async def query(self, request: QueryRequest) -> QueryResponse:
        segments, snapshot = self._parts(request)
        if request.count_only:
            count = sum(each.count(snapshot, request.plan) for each in segments)
            nothing = pa.RecordBatch.from_arrays([], names=[])
            return QueryResponse(nothing, np.empty(0, np.uint64), count, snapshot.read_ts)
        found = merge_rows(
            [each.select(snapshot, request.plan, request.limit) for each in segments],
            request.limit,
        )
        rows = self._take(segments, found, request.output_fields)
        return QueryResponse(rows, found.timestamps, rows.num_rows, snapshot.read_ts)

    def _parts(self, request: Any) -> tuple[list[GrowingSegment], Snapshot]:
        self.seen.append(request)
        schema = next(
            each.schema
            for each in self.collections.values()
            if each.collection_id == request.collection_id
        )
        segments = [
            segment
            for (vchannel, partition_id), segment in self.segments.items()
            if vchannel == request.vchannel
            and (not request.partition_ids or partition_id in request.partition_ids)
        ]
        read_ts = request.read_ts or next(self.numbers)
        return segments or [GrowingSegment(schema, 0, 0)], Snapshot(read_ts)

    def _take(self, segments: Sequence[GrowingSegment], found: Any, names: Any) -> pa.RecordBatch:
        schema = pa.schema([segments[0].schema.arrow.field(name) for name in names])
        by_id = {segment.segment_id: segment for segment in segments}
        rows = [
            by_id[source].take(np.array([offset]), names)
            for source, offset in zip(found.sources.tolist(), found.offsets.tolist(), strict=True)
        ]
        batches = [pa.RecordBatch.from_arrays(row.columns, schema=schema) for row in rows]
        empty = pa.RecordBatch.from_arrays(
            [pa.array([], each.type) for each in schema], schema=schema
        )
        return pa.concat_batches([empty, *batches])


@dataclass
class Bench:
    """A proxy on a memory cluster, and shorthands for requests."""

    proxy: Proxy
    cluster: MemoryCluster

    async def call(self, handler: Any, request: Any) -> Any:
        return await handler(self.proxy, request, CallContext(method="test"))

    def create(
        self,
        *fields: FieldSchema,
        name: str = "things",
        shards: int = 2,
        metric: MetricType = MetricType.L2,
        index_type: str = "FLAT",
        partitions: Sequence[str] = ("_default",),
        dynamic: bool = False,
        **options: Any,
    ) -> CollectionInfo:
        """A loaded collection with an index on every vector field."""
        if dynamic:
            meta = FieldSchema(name="$meta", data_type=DataType.JSON, is_dynamic=True)
            fields = (*fields, meta)
        number = len(self.cluster.collections) + 1
        info = CollectionInfo(
            collection_id=number,
            database="default",
            schema=CollectionSchema(name=name, fields=fields, enable_dynamic_field=dynamic),
            vchannels=tuple(f"dml_{shard}_{number}v{shard}" for shard in range(shards)),
            partitions=tuple(
                PartitionInfo(partition_id=10 + place, name=partition, created_ts=1)
                for place, partition in enumerate(partitions)
            ),
            consistency_level=ConsistencyLevel.BOUNDED,
            created_ts=1,
            updated_ts=5,
            **options,
        )
        self.cluster.collections[name] = info
        self.cluster.indexes[number] = [
            IndexInfo(
                index_id=place,
                collection_id=number,
                field_name=each.name,
                name=each.name,
                index_type=index_type,
                metric_type=metric,
                created_ts=1,
            )
            for place, each in enumerate(info.schema.vector_fields)
        ]
        self.load(info)
        return info

    def load(self, info: CollectionInfo, **options: Any) -> None:
        load = LoadInfo(collection_id=info.collection_id, state=LoadState.LOADED)
        self.cluster.loads[info.collection_id] = msgspec.structs.replace(load, **options)

    @staticmethod
    def pairs(values: dict[str, Any]) -> list[Any]:
        return [common.KeyValuePair(key=key, value=str(value)) for key, value in values.items()]

    @staticmethod
    def search_request(vectors: Any, *, limit: int = 3, **options: Any) -> Any:
        """A SearchRequest for ``vectors`` (nq, dim); ``params`` are search_params."""
        params = {"topk": limit, **options.pop("params", {})}
        array = np.array(vectors, np.float32)
        return milvus.SearchRequest(
            **{
                "collection_name": "things",
                "placeholder_group": encode_vectors(array),
                "nq": len(array),
                "search_params": Bench.pairs(params),
                **options,
            }
        )

    @staticmethod
    def add_column(request: Any, name: str, data_type: DataType, values: list[Any]) -> None:
        """Adds a FieldData message with ``values`` to an insert or upsert request."""
        message = request.fields_data.add(field_name=name, type=int(data_type))
        if data_type is DataType.FLOAT_VECTOR:
            array = np.array(values, np.float32)
            message.vectors.dim = array.shape[1]
            message.vectors.float_vector.data.extend(pack(array.reshape(-1), "<f4"))
        elif data_type is DataType.INT64:
            message.scalars.long_data.data.extend(values)
        elif data_type is DataType.VARCHAR:
            message.scalars.string_data.data.extend(values)
        elif data_type is DataType.JSON:
            message.is_dynamic = name == "$meta"
            message.scalars.json_data.data.extend(values)
        else:
            message.scalars.int_data.data.extend(values)


@pytest.fixture
async def bench() -> Any:
    world = World(
        clock=SystemClock(),
        random=random.Random(7),
        executor=ThreadExecutor(cores=1),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(2**30),
    )
    cluster: Any = MemoryCluster()
    yield Bench(Proxy(world, Settings(), cluster, cluster), cluster)
    await world.tasks.close()
    world.executor.close()
