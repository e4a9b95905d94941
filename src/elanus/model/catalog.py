"""What the coordinator's metadata says: databases, collections, partitions, indexes, segments.

Records that there may be a million of are unknown to the garbage collector (``gc=False``): they
can't be part of a cycle, and looking through them would hold the coordinator up for seconds.
"""

from functools import cached_property

import msgspec

from elanus.model.schema import CollectionSchema
from elanus.model.types import (
    ConsistencyLevel,
    IndexState,
    LoadState,
    MetricType,
    SegmentLevel,
    SegmentState,
)

DEFAULT_DATABASE = "default"
DEFAULT_PARTITION = "_default"
ALL_PARTITIONS = -1
TEXT_INDEX = "TEXT"
"""The type of the token indexes of text_match, which no user defines."""


class DatabaseInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    database_id: int
    name: str
    created_ts: int
    properties: dict[str, str] = {}


class PartitionInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    partition_id: int
    name: str
    created_ts: int


class CollectionInfo(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A collection. ``vchannels`` are its shards in order; each is ``<pchannel>_<id>v<n>``.

    ``updated_ts`` changes with every change of the schema or the properties: clients send it back.
    ``revision`` grows with every change that shards are told of, of partitions and indexes too: of
    two states the one with the larger is the later.
    """

    collection_id: int
    database: str
    schema: CollectionSchema
    vchannels: tuple[str, ...]
    partitions: tuple[PartitionInfo, ...]
    consistency_level: ConsistencyLevel
    created_ts: int
    updated_ts: int
    properties: dict[str, str] = {}
    revision: int = 0

    @property
    def name(self) -> str:
        return self.schema.name

    @property
    def timezone(self) -> str:
        """The zone of times without an offset, and of output, by its IANA name."""
        return self.properties.get("timezone", "UTC")

    @cached_property
    def partition_by_name(self) -> dict[str, PartitionInfo]:
        return {partition.name: partition for partition in self.partitions}

    @cached_property
    def text_indexes(self) -> "tuple[IndexInfo, ...]":
        """The token indexes that the schema asks for. Their ids are negative, apart from those
        that are given out."""
        return tuple(
            IndexInfo(
                index_id=-field.field_id,
                collection_id=self.collection_id,
                field_name=field.name,
                name=field.name,
                index_type=TEXT_INDEX,
                metric_type=None,
                created_ts=self.created_ts,
                params=dict(field.type_params),
            )
            for field in self.schema.fields
            if field.enable_match
        )

    @property
    def ttl_seconds(self) -> int:
        """Life of a row in seconds; 0 or less means that rows do not expire."""
        return int(self.properties.get("collection.ttl.seconds", "-1"))


class IndexInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An index definition. ``index_type`` and ``params`` are resolved (no AUTOINDEX, defaults
    filled in); ``user_params`` is what the user gave and what is shown back."""

    index_id: int
    collection_id: int
    field_name: str
    name: str
    index_type: str
    metric_type: MetricType | None
    created_ts: int
    params: dict[str, str] = {}
    user_params: dict[str, str] = {}

    @property
    def has_file(self) -> bool:
        """Whether segments are searched by a file of this index, and not by scanning them."""
        return self.metric_type is None or self.index_type not in ("FLAT", "BIN_FLAT")


class SegmentIndex(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One segment's part of an index. ``key`` and ``checksum`` are those of the index file;
    both are empty for a segment that is too small to be indexed."""

    index_id: int
    state: IndexState
    key: str = ""
    checksum: int = 0
    size_bytes: int = 0
    fail_reason: str = ""


class SegmentInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A segment in metadata. An L0 segment holds deletes only.

    ``manifest_key`` names the manifest object; ``version`` grows with every change of what has to
    be loaded (new manifest, new index), so that a loaded copy can be told from a newer one.
    One in the state IMPORTING counts as FLUSHED as soon as the job ``import_job`` is completed.
    """

    segment_id: int
    collection_id: int
    partition_id: int
    vchannel: str
    state: SegmentState
    level: SegmentLevel
    row_count: int
    min_ts: int
    max_ts: int
    manifest_key: str = ""
    version: int = 0
    size_bytes: int = 0
    deleted_rows: int = 0
    indexes: tuple[SegmentIndex, ...] = ()
    compacted_from: tuple[int, ...] = ()
    dropped_at_ms: int = 0
    import_job: int = 0


class LoadInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asked to be loaded. Empty ``partition_ids`` means the whole collection.

    placement: the query nodes of each sealed segment that is read now, by its id (not in lists).
    restoring: not by a user's new wish; a coordinator that has just begun makes sure of it.
    resource_groups: of each replica; none: all are in the default group.
    """

    collection_id: int
    state: LoadState
    partition_ids: tuple[int, ...] = ()
    replica_number: int = 1
    progress: int = 0
    reason: str = ""
    placement: dict[int, tuple[int, ...]] = {}
    restoring: bool = False
    resource_groups: tuple[str, ...] = ()


class ChannelCheckpoint(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything of ``vchannel`` at or before ``position`` of its pchannel's WAL is in objects.

    ``position`` is -1 and ``timestamp`` 0 before the first flush.
    """

    vchannel: str
    position: int
    timestamp: int


def pchannel_of(vchannel: str) -> str:
    """``by-dev-rootcoord-dml_3_4511v0`` lies on ``by-dev-rootcoord-dml_3``."""
    return vchannel.rsplit("_", 1)[0]
