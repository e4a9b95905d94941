"""A coordinator and streaming nodes that remember, and do nothing else.

They follow the contracts of ``services.interfaces`` for what the access layer asks; a test sets
what they should answer (segments, load state, plans) directly.
"""

import random
from collections.abc import Callable
from typing import Any, cast

import msgspec

from elanus.access.ddl import HANDLERS
from elanus.access.dispatch import Dispatcher
from elanus.access.proxy import Proxy
from elanus.config.settings import Settings
from elanus.errors import CollectionNotFound, DatabaseNotFound
from elanus.model.catalog import (
    CollectionInfo,
    DatabaseInfo,
    IndexInfo,
    LoadInfo,
    PartitionInfo,
    SegmentInfo,
)
from elanus.model.schema import CollectionSchema
from elanus.model.types import ConsistencyLevel, LoadState, SegmentLevel, SegmentState
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.services.messages import FlushTicket, GrowingInfo


class FakeCoordinator:
    def __init__(self) -> None:
        self.databases = {"default": DatabaseInfo(database_id=1, name="default", created_ts=1)}
        self.collections: dict[tuple[str, str], CollectionInfo] = {}
        self.indexes: dict[int, list[IndexInfo]] = {}
        self.loads: dict[int, LoadInfo] = {}
        self.segments: list[SegmentInfo] = []
        self.tickets: list[FlushTicket] = []
        self.flushed_up_to = 0
        self.plans: dict[int, list[tuple[str, tuple[int, ...], int]]] = {}
        self.last_id = 1000

    def on_change(self, listener: Callable[[int], None]) -> None:
        pass

    async def allocate_timestamps(self, count: int = 1) -> int:
        self.last_id += count
        return self.last_id << 18

    async def describe_database(self, name: str) -> DatabaseInfo:
        if name not in self.databases:
            raise DatabaseNotFound(name)
        return self.databases[name]

    async def list_databases(self) -> list[DatabaseInfo]:
        return list(self.databases.values())

    async def create_collection(
        self,
        database: str,
        schema: CollectionSchema,
        *,
        shards: int,
        partitions: int,
        consistency_level: ConsistencyLevel,
        properties: dict[str, str],
    ) -> CollectionInfo:
        await self.describe_database(database)
        self.last_id += 1
        number = self.last_id
        names = [f"_default_{n}" for n in range(partitions)] or ["_default"]
        info = CollectionInfo(
            collection_id=number,
            database=database,
            schema=schema,
            vchannels=tuple(f"dml_{shard}_{number}v{shard}" for shard in range(shards)),
            partitions=tuple(
                PartitionInfo(partition_id=number * 100 + n, name=name, created_ts=1 << 18)
                for n, name in enumerate(names)
            ),
            consistency_level=consistency_level,
            created_ts=7 << 18,
            updated_ts=7 << 18,
            properties=properties,
        )
        self.collections[database, schema.name] = info
        return info

    async def describe_collection(self, database: str, name: str) -> CollectionInfo:
        await self.describe_database(database)
        if (database, name) not in self.collections:
            raise CollectionNotFound(database, name)
        return self.collections[database, name]

    async def describe_collection_by_id(self, collection_id: int) -> CollectionInfo:
        for info in self.collections.values():
            if info.collection_id == collection_id:
                return info
        raise CollectionNotFound("", collection_id)

    async def list_collections(self, database: str) -> list[CollectionInfo]:
        await self.describe_database(database)
        return [info for (owner, _), info in self.collections.items() if owner == database]

    async def list_aliases(self, database: str, collection: str | None) -> list[str]:
        return [f"{collection}_alias"]

    async def create_index(self, index: IndexInfo) -> IndexInfo:
        self.last_id += 1
        made = msgspec.structs.replace(
            index, index_id=self.last_id, name=index.name or index.field_name
        )
        self.indexes.setdefault(index.collection_id, []).append(made)
        return made

    async def list_indexes(self, collection_id: int) -> list[IndexInfo]:
        return list(self.indexes.get(collection_id, []))

    async def drop_index(self, collection_id: int, name: str) -> None:
        kept = [index for index in self.indexes.get(collection_id, []) if index.name != name]
        self.indexes[collection_id] = kept

    async def load(
        self,
        collection_id: int,
        partition_ids: tuple[int, ...],
        replica_number: int,
        resource_groups: tuple[str, ...] = (),
    ) -> None:
        self.loads[collection_id] = LoadInfo(
            collection_id=collection_id,
            state=LoadState.LOADING,
            partition_ids=partition_ids,
            replica_number=replica_number,
            progress=40,
            resource_groups=resource_groups,
        )

    def finish_loading(self, collection_id: int) -> None:
        load = self.loads[collection_id]
        self.loads[collection_id] = msgspec.structs.replace(
            load, state=LoadState.LOADED, progress=100
        )

    async def release(self, collection_id: int, partition_ids: tuple[int, ...]) -> None:
        self.loads.pop(collection_id, None)

    async def load_info(self, collection_id: int) -> LoadInfo | None:
        return self.loads.get(collection_id)

    async def loaded(self) -> list[LoadInfo]:
        return list(self.loads.values())

    async def list_segments(self, collection_id: int) -> list[SegmentInfo]:
        return [s for s in self.segments if s.collection_id == collection_id]

    async def flush(self, collection_id: int) -> list[FlushTicket]:
        return self.tickets

    async def is_flushed(self, collection_id: int, flush_ts: int) -> bool:
        return self.flushed_up_to >= flush_ts

    async def compact(self, collection_id: int) -> tuple[int, int]:
        return (-1, 0) if not self.plans else (next(iter(self.plans)), 1)

    async def compaction_plans(self, compaction_id: int) -> list[tuple[str, tuple[int, ...], int]]:
        return self.plans[compaction_id]


class FakeRouter:
    """One streaming node for every shard, one query node."""

    def __init__(self) -> None:
        self.growing_segments: list[GrowingInfo] = []

    async def streaming_node(self, vchannel: str) -> "FakeRouter":
        return self

    async def growing(self, vchannel: str) -> list[GrowingInfo]:
        return [s for s in self.growing_segments if s.vchannel == vchannel]

    async def query_nodes(self, *, stopping: bool = False) -> list[int]:
        return [11]


class Silent:
    def observe(self, *_: Any) -> None:
        pass


class Server:
    """Handlers over the fakes: ``await server.call("DescribeCollection", request)``."""

    def __init__(self) -> None:
        self.coordinator = FakeCoordinator()
        self.router = FakeRouter()
        self._executor = ThreadExecutor(cores=1)
        self._tasks = TaskSupervisor()
        world = World(
            clock=SystemClock(),
            random=random.Random(1),
            executor=self._executor,
            tasks=self._tasks,
            failpoints=Failpoints(),
            memory=MemoryLedger(1 << 30),
        )
        proxy = Proxy(world, Settings(), cast(Any, self.coordinator), cast(Any, self.router))
        self._dispatcher = Dispatcher(proxy, HANDLERS, Silent())

    async def call(self, method: str, request: Any, **metadata: str) -> Any:
        return await self._dispatcher.call(method, request, metadata)

    async def close(self) -> None:
        await self._tasks.close()
        self._executor.close()


def segment(
    info: CollectionInfo, segment_id: int, rows: int, partition: int = 0, **changes: Any
) -> SegmentInfo:
    made = SegmentInfo(
        segment_id=segment_id,
        collection_id=info.collection_id,
        partition_id=info.partitions[partition].partition_id,
        vchannel=info.vchannels[0],
        state=SegmentState.FLUSHED,
        level=SegmentLevel.L1,
        row_count=rows,
        min_ts=1,
        max_ts=2,
    )
    return msgspec.structs.replace(made, **changes)


def growing(info: CollectionInfo, segment_id: int, rows: int, partition: int = 0) -> GrowingInfo:
    return GrowingInfo(
        segment_id=segment_id,
        collection_id=info.collection_id,
        partition_id=info.partitions[partition].partition_id,
        vchannel=info.vchannels[0],
        row_count=rows,
        size_bytes=rows * 10,
    )
