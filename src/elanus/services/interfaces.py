"""The roles' interfaces. Roles meet only through these; a binding makes a call of it or an RPC.

Every method may raise any ``elanus.errors.ElanusError``; Unavailable means: refresh the route and
try again.
"""

from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.model.catalog import (
    CollectionInfo,
    DatabaseInfo,
    IndexInfo,
    LoadInfo,
    SegmentInfo,
)
from elanus.model.imports import ImportJob, ImportJobRequest
from elanus.model.resource_groups import ResourceGroupConfig, ResourceGroupInfo
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import ConsistencyLevel
from elanus.services.import_messages import ImportResult, ImportTask, StampTask
from elanus.services.messages import (
    AskTerms,
    BeatAnswer,
    CompactionTask,
    DeltaCompactionTask,
    FetchRows,
    FlushCommit,
    FlushTicket,
    GrowingInfo,
    IndexTask,
    LoadSegment,
    NodeStatus,
    PrimaryKeys,
    QueryRequest,
    QueryResponse,
    QueryView,
    QuotaNotice,
    SearchRequest,
    SearchResponse,
    SegmentHits,
    SegmentQuery,
    SegmentRows,
    SegmentSearch,
    TaskResult,
    VchannelRecovery,
    WriteRequest,
)


class TimestampOracle(Protocol):
    async def allocate_timestamps(self, count: int = 1) -> int:
        """The first of ``count`` consecutive timestamps, larger than every earlier one."""
        ...

    async def allocate_ids(self, count: int = 1) -> int:
        """The first of ``count`` consecutive unique int64 ids."""
        ...


class RootService(TimestampOracle, Protocol):
    """Coordinator: DDL. Names are those of users; aliases are accepted where Milvus does."""

    async def create_database(self, name: str, properties: dict[str, str]) -> None: ...
    async def drop_database(self, name: str) -> None: ...
    async def list_databases(self) -> list[DatabaseInfo]: ...
    async def describe_database(self, name: str) -> DatabaseInfo: ...
    async def alter_database(
        self, name: str, properties: dict[str, str], delete_keys: list[str]
    ) -> None: ...

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
        """``schema`` is validated, ``$meta`` included, without field ids (the coordinator gives
        them). ``partitions`` is 0 without a partition key. The same again succeeds."""
        ...

    async def drop_collection(self, database: str, name: str) -> None: ...
    async def describe_collection(self, database: str, name: str) -> CollectionInfo:
        """By name or alias; raises CollectionNotFound, DatabaseNotFound."""
        ...

    async def describe_collection_by_id(self, collection_id: int) -> CollectionInfo: ...
    async def list_collections(self, database: str) -> list[CollectionInfo]: ...
    async def rename_collection(
        self, database: str, name: str, new_database: str, new_name: str
    ) -> None: ...
    async def alter_collection(
        self, database: str, name: str, properties: dict[str, str], delete_keys: list[str]
    ) -> None: ...
    async def alter_field(
        self,
        database: str,
        name: str,
        field: str,
        properties: dict[str, str],
        delete_keys: list[str],
    ) -> None: ...
    async def add_field(self, database: str, name: str, field: FieldSchema) -> None: ...

    async def create_partition(self, database: str, name: str, partition: str) -> None: ...
    async def drop_partition(self, database: str, name: str, partition: str) -> None: ...

    async def create_alias(self, database: str, collection: str, alias: str) -> None: ...
    async def drop_alias(self, database: str, alias: str) -> None: ...
    async def alter_alias(self, database: str, collection: str, alias: str) -> None: ...
    async def describe_alias(self, database: str, alias: str) -> str:
        """The collection's name."""
        ...

    async def list_aliases(self, database: str, collection: str | None) -> list[str]: ...

    def on_change(self, listener: Callable[[int], None]) -> None:
        """Call ``listener(collection_id)`` after every change of a collection's metadata and
        before the caller of the change is answered; -1 means: forget everything."""
        ...


class IndexService(Protocol):
    """Coordinator: index definitions. ``index`` arguments are resolved and validated."""

    async def create_index(self, index: IndexInfo) -> IndexInfo:
        """``index_id``, ``created_ts`` are given by the coordinator; same again succeeds."""
        ...

    async def drop_index(self, collection_id: int, name: str) -> None: ...
    async def alter_index(
        self, collection_id: int, name: str, properties: dict[str, str], delete_keys: list[str]
    ) -> None: ...
    async def list_indexes(self, collection_id: int) -> list[IndexInfo]: ...


class LoadService(Protocol):
    """Coordinator: what is loaded."""

    async def load(
        self,
        collection_id: int,
        partition_ids: tuple[int, ...],
        replica_number: int,
        resource_groups: tuple[str, ...] = (),
    ) -> None:
        """Returns at once; poll ``load_info``. Empty ``partition_ids`` = the collection. One group
        for all replicas, or one for each; none = where they are, else the default group."""
        ...

    async def release(self, collection_id: int, partition_ids: tuple[int, ...]) -> None: ...
    async def load_info(self, collection_id: int) -> LoadInfo | None:
        """None if it is not loaded and not being loaded."""
        ...

    async def loaded(self) -> list[LoadInfo]: ...


class ResourceGroupService(Protocol):
    """Coordinator: which query nodes serve what. ``__default_resource_group`` is always there."""

    async def create_resource_group(self, name: str, config: ResourceGroupConfig) -> None:
        """The same again succeeds."""
        ...

    async def update_resource_groups(self, configs: dict[str, ResourceGroupConfig]) -> None:
        """All of them or none."""
        ...

    async def drop_resource_group(self, name: str) -> None:
        """A missing group is fine."""
        ...

    async def list_resource_groups(self) -> list[str]: ...
    async def describe_resource_group(self, name: str) -> ResourceGroupInfo: ...
    async def transfer_nodes(self, source: str, target: str, count: int) -> None: ...
    async def transfer_replicas(
        self, source: str, target: str, collection_id: int, count: int
    ) -> None: ...


class DataService(Protocol):
    """Coordinator: segments, flush, compaction, index tasks, garbage collection."""

    async def recovery(self, pchannel: str) -> list[VchannelRecovery]: ...
    async def commit_flush(self, commit: FlushCommit) -> None: ...
    async def list_segments(self, collection_id: int) -> list[SegmentInfo]:
        """Flushed segments, L0 included; not the dropped ones."""
        ...

    async def flush(self, collection_id: int) -> list[FlushTicket]: ...
    async def is_flushed(self, collection_id: int, flush_ts: int) -> bool: ...
    async def compact(self, collection_id: int) -> tuple[int, int]:
        """(compaction id, number of plans); (-1, 0) when there is nothing to do."""
        ...

    async def compaction_plans(self, compaction_id: int) -> list[tuple[str, tuple[int, ...], int]]:
        """(state, sources, target) of each plan; state executing, completed or failed."""
        ...

    async def create_import(self, request: ImportJobRequest) -> int:
        """The id of a new job. Raises ImportFailed, CollectionNotFound, PartitionNotFound."""
        ...

    async def import_job(self, job_id: int) -> ImportJob:
        """Raises ImportFailed for an unknown job."""
        ...

    async def import_jobs(self, database: str, collection: str) -> list[ImportJob]:
        """By id; of all collections of the database for an empty name."""
        ...

    async def collect_garbage(self) -> int:
        """Delete objects that nothing refers to; returns how many."""
        ...


class CoordinatorService(
    RootService, IndexService, LoadService, ResourceGroupService, DataService, Protocol
):
    """All that the active coordinator offers."""


class StreamingService(Protocol):
    """A streaming node: owner of pchannels, delegator of their shards."""

    async def open_pchannel(self, pchannel: str, term: int) -> None:
        """Fence, recover, serve. Already open at this term: nothing."""
        ...

    async def close_pchannel(self, pchannel: str, term: int) -> None:
        """Stop serving it, if it is open at this term or an older one: another node takes it over.
        What is growing comes back from the log."""
        ...

    async def open_vchannel(self, collection: CollectionInfo, vchannel: str) -> None: ...
    async def close_vchannel(self, vchannel: str) -> None:
        """The collection was dropped: forget its data."""
        ...

    async def update_collection(
        self, collection: CollectionInfo, indexes: tuple[IndexInfo, ...], vchannel: str
    ) -> int:
        """A control record: the schema, partitions or properties changed. Ordered with the data;
        returns its timestamp. Growing data of dropped partitions goes. What comes after a later
        revision of the collection changes nothing."""
        ...

    async def write(self, request: WriteRequest) -> int:
        """Returns the write's timestamp once it is durable and visible to reads at it."""
        ...

    async def seal(self, vchannel: str) -> FlushTicket:
        """Seal the growing segments; they are flushed in the background."""
        ...

    async def update_view(self, view: QueryView) -> None: ...
    async def release(self, vchannel: str) -> None:
        """Searches of this shard are refused from now on; writes go on."""
        ...

    async def search(self, request: SearchRequest) -> SearchResponse: ...
    async def query(self, request: QueryRequest) -> QueryResponse: ...
    async def growing(self, vchannel: str) -> list[GrowingInfo]: ...


class QueryNodeService(Protocol):
    """A query node: holds sealed segments and searches them."""

    async def load_segment(self, request: LoadSegment) -> tuple[str, ...]:
        """Serve this version or a newer one, with these deletes at least. Returns the keys of its
        index files that are damaged; the segment is served without them."""
        ...

    async def release_segments(self, segment_ids: tuple[int, ...]) -> None: ...
    async def list_segments(self) -> list[SegmentInfo]:
        """What is held now, at which version."""
        ...

    async def apply_deletes(
        self, segment_ids: tuple[int, ...], deletes: tuple[PrimaryKeys, ...], timestamp: int
    ) -> None: ...
    async def mark_segments(self, segment_ids: tuple[int, ...], mark: int) -> None:
        """Who asks for segments by this mark means the copies that are here now. Raises Unavailable
        if one isn't."""
        ...

    async def search(self, request: SegmentSearch) -> SegmentHits: ...
    async def query(self, request: SegmentQuery) -> SegmentRows: ...
    async def term_statistics(self, request: AskTerms) -> TermStatistics: ...
    async def fetch(self, request: FetchRows) -> pa.RecordBatch:
        """The rows asked for, in the order asked for, one column per field."""
        ...


class DataNodeService(Protocol):
    """A data node: heavy, idempotent, cancellable tasks."""

    async def compact(self, task: CompactionTask) -> TaskResult: ...
    async def compact_deltas(self, task: DeltaCompactionTask) -> TaskResult: ...
    async def build_index(self, task: IndexTask) -> TaskResult: ...
    async def import_files(self, task: ImportTask) -> ImportResult: ...
    async def stamp_segments(self, task: StampTask) -> TaskResult: ...
    async def import_progress(self, task_id: int) -> int:
        """Rows that a running import task has read; 0 of one that isn't running here."""
        ...


class NodeService(Protocol):
    """What every process of a cluster says of itself."""

    async def describe(self) -> NodeStatus: ...


class LivenessService(Protocol):
    """The active coordinator, as workers let it know that they are there."""

    async def beat(self, role: str, node_id: int) -> BeatAnswer:
        """From the first beat on the worker may be replaced when it falls silent."""
        ...


class ProxyService(Protocol):
    """A proxy, as the coordinator sees it."""

    async def invalidate(
        self, leader_id: int, collection_ids: tuple[int, ...], node_id: int = 0
    ) -> None:
        """Forget what is remembered of these collections; -1 means of all.

        A proxy may remember anything only from the first call of the present leader to its present
        ``node_id`` on: that tells it that it will be told of changes.
        """
        ...

    async def limit(self, leader_id: int, notice: QuotaNotice) -> None:
        """From now on this is the proxy's share, and what may not be written."""
        ...
