"""What the roles say to each other. Everything here can be sent over a wire; nothing has methods
that do I/O. Columns travel as Arrow record batches and NumPy arrays."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.plan import Plan
from elanus.model.catalog import (
    ChannelCheckpoint,
    CollectionInfo,
    IndexInfo,
    SegmentInfo,
)
from elanus.model.reads import Hits, Rows, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema

# --- writes: proxy → streaming node ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PartitionRows:
    """Complete rows (every field of the schema, in its order) for one partition."""

    partition_id: int
    rows: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class PrimaryKeys:
    """Primary keys to delete. ``partition_id`` ALL_PARTITIONS (-1) means in every partition.

    ``keys``: int64 or string Arrow array.
    """

    keys: pa.Array
    partition_id: int


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One atomic write to one vchannel at one timestamp: the deletes, then the inserts.

    An upsert has both. A row inserted by the same request is not touched by its deletes.
    """

    vchannel: str
    collection_id: int
    schema_version: int
    inserts: tuple[PartitionRows, ...] = ()
    deletes: tuple[PrimaryKeys, ...] = ()


@dataclass(frozen=True, slots=True)
class FlushTicket:
    """What a flush sealed. It is done when every segment is FLUSHED in metadata and the channel's
    checkpoint has reached ``flush_ts``."""

    vchannel: str
    segment_ids: tuple[int, ...]
    flush_ts: int


# --- reads: proxy → delegator (streaming node) → query node ----------------------------------

MAX_ROWS_BROUGHT = 1_024
"""Hits of a search up to which a query node sends the output fields along with them."""

_MARGIN = 0.1
_MAX_MARGIN_S = 0.5


def time_for_callee_s(left_s: float) -> float:
    """Of the time that is left for an answer, the time that a callee gets: some is kept to say
    what it failed to do."""
    return left_s - min(_MARGIN * left_s, _MAX_MARGIN_S)


class SearchRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A vector search on one shard. Empty ``partition_ids`` means all.

    The shard waits until it has seen every write up to ``guarantee_ts`` and picks its instant; a
    ``read_ts`` other than 0 names the instant (parts of one answer, pages of an iterator).
    ``deadline_s`` (here and below): seconds left for the call; None means the caller's default.
    ``is_issued``: the oracle gave these timestamps, so every later write is beyond them.
    ``is_strong``: not while it is open whether writes that have failed will be there.
    ``known_view``: None: the shard asks the query nodes. Else the caller can do so itself, and does
    for all of the view that has this mark; 0: for none, but it would like to have one.
    """

    collection_id: int
    vchannel: str
    query: VectorQuery
    guarantee_ts: int
    plan: Plan | None = None
    partition_ids: tuple[int, ...] = ()
    output_fields: tuple[str, ...] = ()
    ttl_seconds: int = 0
    ignore_growing: bool = False
    deadline_s: float | None = None
    read_ts: int = 0
    is_issued: bool = False
    known_view: int | None = None
    is_strong: bool = False


class QueryRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows by filter from one shard, by ascending primary key.

    ``limit`` is the number of rows wanted, offset included; None means all.
    With ``count_only`` only the number of rows is wanted. ``read_ts``, ``deadline_s``,
    ``is_issued`` and ``is_strong`` as in SearchRequest.
    """

    collection_id: int
    vchannel: str
    guarantee_ts: int
    plan: Plan | None = None
    partition_ids: tuple[int, ...] = ()
    output_fields: tuple[str, ...] = ()
    limit: int | None = None
    count_only: bool = False
    ttl_seconds: int = 0
    ignore_growing: bool = False
    deadline_s: float | None = None
    read_ts: int = 0
    is_issued: bool = False
    is_strong: bool = False


class SealedView(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sealed part of a shard, for a proxy that asks the query nodes itself.

    mark: what the copies bear that have missed no delete. placement: segment id → query nodes.
    partitions: segment id → partition.
    """

    mark: int
    placement: dict[int, tuple[int, ...]]
    partitions: dict[int, int]


class SearchResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """``rows`` has the output fields of every hit, in the order of the hits.

    told: None if this answers for all parts. Else it answers for the growing ones only, and the
    sealed ones must have heard of these deletes: partition (-1: all) → timestamp of the last.
    view: for a caller that would like to have one, or that knew a former one.
    """

    hits: Hits
    rows: pa.RecordBatch
    read_ts: int
    stages: dict[str, float] = {}
    told: dict[int, int] | None = None
    view: SealedView | None = None


class QueryResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """``rows`` has the output fields, by ascending primary key; ``count`` counts visible rows
    that match, also when ``count_only`` left ``rows`` empty."""

    rows: pa.RecordBatch
    timestamps: npt.NDArray[np.uint64]
    count: int
    read_ts: int
    stages: dict[str, float] = {}


class SegmentSearch(msgspec.Struct, frozen=True, omit_defaults=True):
    """A search on named sealed segments of one query node, at a fixed snapshot.

    ``schema`` (here and below): the shard's; fields may be newer than the loaded segment.
    ``output_fields``: send these of every hit along.
    ``mark``: other than 0, it takes the place of the snapshot: the segments are searched as they
    are now. All must bear this mark and know ``schema_version``, else the answer is Unavailable.
    """

    segment_ids: tuple[int, ...]
    query: VectorQuery
    snapshot: Snapshot
    plan: Plan | None = None
    schema: CollectionSchema | None = None
    output_fields: tuple[str, ...] = ()
    deadline_s: float | None = None
    mark: int = 0
    schema_version: int = 0


class SegmentHits(Hits, frozen=True):
    """Answer to SegmentSearch; ``rows``: the output fields of every hit, in the order of the hits,
    if they were asked for.

    Of a search by mark: ``change_ts``: no row or delete of the segments that was there is later;
    ``told_ts``: the last delete that they had wholly heard of from the delegator.
    """

    rows: pa.RecordBatch | None = None
    change_ts: int = 0
    told_ts: int = 0


class SegmentQuery(msgspec.Struct, frozen=True, omit_defaults=True):
    segment_ids: tuple[int, ...]
    snapshot: Snapshot
    plan: Plan | None = None
    limit: int | None = None
    count_only: bool = False
    schema: CollectionSchema | None = None
    deadline_s: float | None = None


class SegmentRows(msgspec.Struct, frozen=True, omit_defaults=True):
    """Answer to SegmentQuery; ``rows`` is None for ``count_only``."""

    count: int
    rows: Rows | None


class FetchRows(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows of loaded sealed segments by position: ``sources`` segment ids, ``offsets`` rows."""

    sources: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    fields: tuple[str, ...]
    schema: CollectionSchema | None = None
    deadline_s: float | None = None


class AskTerms(msgspec.Struct, frozen=True, omit_defaults=True):
    """How frequent ``terms``, uint32 (n,), ascending, are in a field of loaded sealed segments."""

    segment_ids: tuple[int, ...]
    field_name: str
    terms: npt.NDArray[np.uint32]


# --- life cycle -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FlushCommit:
    """Streaming node → coordinator: growing data is in object storage.

    In one metadata transaction: the segments become FLUSHED, the L0 segments appear, and the
    channel's checkpoint advances. ``term``: that of the pchannel's owner; an older owner's commit
    is refused.
    """

    segments: tuple[SegmentInfo, ...]
    deltas: tuple[SegmentInfo, ...]
    checkpoint: ChannelCheckpoint
    term: int


@dataclass(frozen=True, slots=True)
class VchannelRecovery:
    """What the owner of a pchannel needs to know of one of its shards to replay the WAL.

    ``flushed_segments`` are ids whose rows must not be replayed: flushed, dropped or compacted.
    """

    collection: CollectionInfo
    indexes: tuple[IndexInfo, ...]
    checkpoint: ChannelCheckpoint
    flushed_segments: frozenset[int]


@dataclass(frozen=True, slots=True)
class QueryView:
    """Coordinator → delegator: what the sealed part of a shard consists of from now on.

    sealed: segments that are loaded at the given versions; placement: segment id → the query nodes
    that hold a copy.
    superseded: growing segments whose rows the sealed part now holds (or that were dropped); the
    delegator stops reading them in the same step.
    delta_ts: every delete of the shard with a ts ≤ this is part of what was loaded; the delegator
    applies its later ones to newly loaded segments before it switches, and forgets the others.
    reloaded: segments whose copies may lack deletes after ``delta_ts``, even if the delegator knows
    them at this place and version.
    """

    vchannel: str
    version: int
    sealed: tuple[SegmentInfo, ...]
    superseded: frozenset[int]
    delta_ts: int
    placement: dict[int, tuple[int, ...]] = field(default_factory=dict)
    partition_ids: tuple[int, ...] = ()
    reloaded: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class LoadSegment:
    """Coordinator → query node: load this segment (or a newer version of a loaded one).

    ``deltas`` are the L0 segments of the channel whose deletes may touch the segment.
    """

    segment: SegmentInfo
    collection: CollectionInfo
    indexes: tuple[IndexInfo, ...]
    deltas: tuple[SegmentInfo, ...]


@dataclass(frozen=True, slots=True)
class CompactionTask:
    """Coordinator → data node: merge ``inputs`` into one segment, without the rows that are
    deleted at ``read_ts`` or expired."""

    task_id: int
    collection: CollectionInfo
    inputs: tuple[SegmentInfo, ...]
    deltas: tuple[SegmentInfo, ...]
    output_segment_id: int
    read_ts: int
    expire_before_ts: int


@dataclass(frozen=True, slots=True)
class DeltaCompactionTask:
    """Coordinator → data node: move the deletes of L0 segments into the manifests of the sealed
    segments that they touch."""

    task_id: int
    collection: CollectionInfo
    segments: tuple[SegmentInfo, ...]
    deltas: tuple[SegmentInfo, ...]


@dataclass(frozen=True, slots=True)
class IndexTask:
    """Coordinator → data node: build one index of one sealed segment."""

    task_id: int
    segment: SegmentInfo
    collection: CollectionInfo
    index: IndexInfo


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Data node → coordinator. ``segments`` are the rewritten or indexed segments' new records;
    a compaction that leaves no row gives none."""

    task_id: int
    segments: tuple[SegmentInfo, ...]


@dataclass(frozen=True, slots=True)
class GrowingInfo:
    """One growing segment, for statistics."""

    segment_id: int
    collection_id: int
    partition_id: int
    vchannel: str
    row_count: int
    size_bytes: int


# --- the cluster ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QuotaNotice:
    """Coordinator → proxy: how many proxies share the cluster's rates, and what is short.

    write_factors: collection id → part of its write rates that memory leaves, below 1; 0 = none.
    The others name what has used up its quota of disk: everything, databases, collections,
    partitions.
    """

    proxies: int = 1
    write_factors: dict[int, float] = field(default_factory=dict)
    is_full: bool = False
    full_databases: frozenset[str] = frozenset()
    full_collections: frozenset[int] = frozenset()
    full_partitions: frozenset[int] = frozenset()

    @property
    def is_all_well(self) -> bool:
        """Nothing is short."""
        return not (
            self.write_factors
            or self.is_full
            or self.full_databases
            or self.full_collections
            or self.full_partitions
        )


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """Coordinator → worker.

    trusted_s: for this time, from when the beat was sent, nobody takes over from the worker, unless
    its lease ends. next_s: the next beat is due after it. is_replaced: others take over.
    """

    trusted_s: float
    next_s: float
    is_replaced: bool = False


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A process of a cluster. ``state``: serving, standby, leading or stopping. ``owns``: pchannels
    with their terms, ids of segments, or the public address of a proxy. Memory is what its ledger
    accounts for."""

    state: str
    owns: tuple[str, ...] = ()
    term: int = 0
    memory_used_bytes: int = 0
    memory_limit_bytes: int = 0
