"""Everything that the coordinator knows, in memory, and the one way to change it.

The catalog is loaded once at start. A change is a pure function that reads the catalog and says
what to put and delete; its transaction compares the revision of every key that it touches, so an
ex-coordinator that still runs can't overwrite anything. Changes run one after another.

When the outcome of a transaction is unknown because the store failed, the keys it touched are
read again before the next change, so that memory never differs from the store. A change whose
answer was lost but that took effect counts as done.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from elanus.coordinator.records import (
    PREFIX,
    AliasRecord,
    CollectionRecord,
    CollectionState,
    LoadRecord,
    PchannelRecord,
    Record,
    ResourceGroupRecord,
    decode,
    encode,
    key_of,
)
from elanus.errors import CorruptData, Unavailable
from elanus.model.catalog import (
    ChannelCheckpoint,
    CollectionInfo,
    DatabaseInfo,
    IndexInfo,
    SegmentInfo,
    pchannel_of,
)
from elanus.model.imports import ImportJob, ImportState, as_imported
from elanus.model.types import SegmentLevel, SegmentState
from elanus.storage.meta.base import MAX_OPERATIONS, Compare, Delete, MetaStore, Put
from elanus.storage.uncancelled import run_to_end

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
N = TypeVar("N", bound=Hashable)

MAX_CHANGES = MAX_OPERATIONS - 1
"""Records that one change may touch: one comparison of each transaction is about the leadership."""

PAGE_RECORDS = 256
"""Records that are read, and decoded on the event loop, at a time."""

_COMMIT_ATTEMPTS = 5


@dataclass(frozen=True)
class Change:
    """What one transaction does. Records that are equal to the stored ones cost nothing."""

    put: Sequence[Record] = ()
    delete: Sequence[Record] = ()


@dataclass
class Tables:
    """The records by what they are looked up with. Only :class:`Catalog` changes them."""

    databases: dict[str, DatabaseInfo] = field(default_factory=dict)
    collections: dict[int, CollectionRecord] = field(default_factory=dict)
    aliases: dict[tuple[str, str], AliasRecord] = field(default_factory=dict)
    indexes: dict[int, dict[int, IndexInfo]] = field(default_factory=dict)
    segments: dict[int, dict[int, SegmentInfo]] = field(default_factory=dict)
    checkpoints: dict[str, ChannelCheckpoint] = field(default_factory=dict)
    loads: dict[int, LoadRecord] = field(default_factory=dict)
    pchannels: dict[str, PchannelRecord] = field(default_factory=dict)
    resource_groups: dict[str, ResourceGroupRecord] = field(default_factory=dict)
    imports: dict[int, ImportJob] = field(default_factory=dict)
    names: dict[tuple[str, str], int] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    """Collection id by vchannel, whatever the collection's state."""

    vchannels: dict[str, dict[str, None]] = field(default_factory=dict)
    """Vchannels of each pchannel, in the order in which they became known."""

    versions: dict[int, int] = field(default_factory=dict)
    """Of each collection, a number that grows with every change of what its shards consist of."""

    capacity: int = 0
    """Shards times partitions of all collections that aren't being dropped."""

    def put(self, record: Record) -> None:
        self._touch(record)
        match record:
            case DatabaseInfo():
                self.databases[record.name] = record
            case CollectionRecord():
                self._unname(record.info.collection_id)
                self.collections[record.info.collection_id] = record
                if record.state is not CollectionState.DROPPING:
                    self.names[record.info.database, record.info.name] = record.info.collection_id
                    self.capacity += _capacity_of(record.info)
                for vchannel in record.info.vchannels:
                    self.owners[vchannel] = record.info.collection_id
                    self.vchannels.setdefault(pchannel_of(vchannel), {})[vchannel] = None
            case AliasRecord():
                self.aliases[record.database, record.alias] = record
            case IndexInfo():
                self.indexes.setdefault(record.collection_id, {})[record.index_id] = record
            case SegmentInfo():
                job = self.imports.get(record.import_job)
                shown = as_imported(record, job) if job is not None else record
                self.segments.setdefault(record.collection_id, {})[record.segment_id] = shown
            case ChannelCheckpoint():
                self.checkpoints[record.vchannel] = record
            case LoadRecord():
                self.loads[record.collection_id] = record
            case PchannelRecord():
                self.pchannels[record.name] = record
            case ResourceGroupRecord():
                self.resource_groups[record.name] = record
            case ImportJob():
                self.imports[record.job_id] = record
                segments = self.segments.get(record.request.collection_id, {})
                for segment in segments.values() if record.state is ImportState.COMPLETED else ():
                    segments[segment.segment_id] = as_imported(segment, record)

    def remove(self, record: Record) -> None:
        self._touch(record)
        match record:
            case DatabaseInfo():
                self.databases.pop(record.name, None)
            case CollectionRecord():
                self._unname(record.info.collection_id)
                self.collections.pop(record.info.collection_id, None)
                for vchannel in record.info.vchannels:
                    self.owners.pop(vchannel, None)
                    _remove_nested(self.vchannels, pchannel_of(vchannel), vchannel)
            case AliasRecord():
                self.aliases.pop((record.database, record.alias), None)
            case IndexInfo():
                _remove_nested(self.indexes, record.collection_id, record.index_id)
            case SegmentInfo():
                _remove_nested(self.segments, record.collection_id, record.segment_id)
            case ChannelCheckpoint():
                self.checkpoints.pop(record.vchannel, None)
            case LoadRecord():
                self.loads.pop(record.collection_id, None)
            case PchannelRecord():
                self.pchannels.pop(record.name, None)
            case ResourceGroupRecord():
                self.resource_groups.pop(record.name, None)
            case ImportJob():
                self.imports.pop(record.job_id, None)

    def _touch(self, record: Record) -> None:
        match record:
            case SegmentInfo() | IndexInfo() | LoadRecord():
                collection_id = record.collection_id
            case CollectionRecord():
                collection_id = record.info.collection_id
            case ChannelCheckpoint():
                collection_id = self.owners.get(record.vchannel, 0)
            case ImportJob():
                collection_id = record.request.collection_id
            case _:
                return
        self.versions[collection_id] = self.versions.get(collection_id, 0) + 1

    def _unname(self, collection_id: int) -> None:
        old = self.collections.get(collection_id)
        if old is None or old.state is CollectionState.DROPPING:
            return
        self.capacity -= _capacity_of(old.info)
        if self.names.get((old.info.database, old.info.name)) == collection_id:
            del self.names[old.info.database, old.info.name]


def _capacity_of(info: CollectionInfo) -> int:
    return len(info.vchannels) * len(info.partitions)


def _remove_nested(table: dict[K, dict[N, T]], outer: K, inner: N) -> None:
    nested = table.get(outer, {})
    nested.pop(inner, None)
    if not nested:
        table.pop(outer, None)


class _Stored:
    """Records and their revisions by key, in one dictionary for each path above the last slash: one
    for all would, with a million keys, stand still for a tenth of a second whenever it grows."""

    def __init__(self) -> None:
        self._by_path: dict[str, dict[str, tuple[Record, int]]] = {}

    def record(self, key: str) -> Record | None:
        entry = self._entry(key)
        return None if entry is None else entry[0]

    def revision(self, key: str) -> int:
        """0 for a key that is not there."""
        entry = self._entry(key)
        return 0 if entry is None else entry[1]

    def put(self, key: str, record: Record, revision: int) -> None:
        path, _, name = key.rpartition("/")
        self._by_path.setdefault(path, {})[name] = (record, revision)

    def pop(self, key: str) -> Record | None:
        path, _, name = key.rpartition("/")
        entry = self._by_path.get(path, {}).get(name)
        _remove_nested(self._by_path, path, name)
        return None if entry is None else entry[0]

    def _entry(self, key: str) -> tuple[Record, int] | None:
        path, _, name = key.rpartition("/")
        return self._by_path.get(path, {}).get(name)


class Catalog:
    """The cached metadata. Reads are plain look-ups; ``commit`` is the only way to change it."""

    def __init__(self, store: MetaStore) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._stored = _Stored()
        self._unknown: list[str] = []
        self.tables = Tables()

    async def load(self) -> None:
        """Read everything. Raises Unavailable or CorruptData.

        By pages: between two of them nothing changes, since transactions of a former leader fail
        and this one has not begun to change anything.
        """
        last: str | None = None
        while True:
            pairs = await self._store.range(PREFIX, after=last, limit=PAGE_RECORDS)
            for pair in pairs:
                self._set(pair.key, pair.value, pair.modified_revision)
            if len(pairs) < PAGE_RECORDS:
                return
            last = pairs[-1].key
            await asyncio.sleep(0)

    async def commit(self, decide: Callable[[], Change | None]) -> None:
        """Make the change that ``decide`` returns (None: nothing to do), durably, as a whole.

        ``decide`` must not wait; it may raise, and then nothing happens. It may be called again
        if somebody else changed the store meanwhile. Cancelling the caller doesn't stop it.
        """
        await run_to_end(self._commit(decide))

    async def _commit(self, decide: Callable[[], Change | None]) -> None:
        async with self._lock:
            for _ in range(_COMMIT_ATTEMPTS):
                await self._settle_unknown()
                change = decide()
                if change is None or await self._transact(change):
                    return
            raise Unavailable("the metadata store is being changed by another coordinator")

    async def _transact(self, change: Change) -> bool:
        puts = {key_of(r): r for r in change.put if self._stored.record(key_of(r)) != r}
        deletes = {key_of(r): r for r in change.delete if self._stored.revision(key_of(r))}
        keys = [*puts, *deletes]
        if not keys:
            return True
        values = {key: encode(record) for key, record in puts.items()}
        operations: list[Put | Delete] = [Put(key, value) for key, value in values.items()]
        operations += [Delete(key) for key in deletes]
        compares = [Compare(key, self._stored.revision(key)) for key in keys]
        self._unknown = keys
        try:
            result = await self._store.transact(operations, compares)
        except Unavailable:
            await self._settle_unknown()
            if all(self._stored.record(key) == record for key, record in puts.items()) and not any(
                map(self._stored.revision, deletes)
            ):
                return True
            raise
        if not result.succeeded:
            return False
        self._unknown = []
        for key, record in puts.items():
            self._apply(key, record, result.revision)
        for key in deletes:
            self._forget(key)
        return True

    async def _settle_unknown(self) -> None:
        while self._unknown:
            key = self._unknown[-1]
            pair = await self._store.get(key)
            if pair is None:
                self._forget(key)
            else:
                self._set(key, pair.value, pair.modified_revision)
            self._unknown.pop()

    def _set(self, key: str, value: bytes, revision: int) -> None:
        try:
            record = decode(key, value)
        except ValueError as error:
            raise CorruptData(f"metadata key {key} can't be read: {error}") from error
        if record is not None:
            self._apply(key, record, revision)

    def _apply(self, key: str, record: Record, revision: int) -> None:
        self._stored.put(key, record, revision)
        self.tables.put(record)

    def _forget(self, key: str) -> None:
        record = self._stored.pop(key)
        if record is not None:
            self.tables.remove(record)

    # --- look-ups -----------------------------------------------------------------------------

    def collection(self, collection_id: int) -> CollectionInfo | None:
        """A collection that users can see, else None."""
        record = self.tables.collections.get(collection_id)
        if record is None or record.state is not CollectionState.CREATED:
            return None
        return record.info

    def collections(self, *states: CollectionState) -> list[CollectionInfo]:
        """Collections in these states, by id."""
        table = self.tables.collections
        records = (table[collection_id] for collection_id in sorted(table))
        return [record.info for record in records if record.state in states]

    def vchannels_on(self, pchannel: str) -> list[tuple[str, CollectionInfo]]:
        """Shards of a pchannel that must live on, by collection id."""
        living = [
            (self.tables.owners[vchannel], vchannel)
            for vchannel in self.tables.vchannels.get(pchannel, ())
        ]
        found = [(vchannel, self.tables.collections[owner]) for owner, vchannel in sorted(living)]
        return [(v, r.info) for v, r in found if r.state is not CollectionState.DROPPING]

    def owner(self, vchannel: str) -> CollectionInfo | None:
        """The collection of a shard, unless it is being dropped."""
        record = self.tables.collections.get(self.tables.owners.get(vchannel, 0))
        if record is None or record.state is CollectionState.DROPPING:
            return None
        return record.info

    def indexes(self, collection_id: int) -> tuple[IndexInfo, ...]:
        """A collection's indexes by id."""
        table = self.tables.indexes.get(collection_id, {})
        return tuple(table[index_id] for index_id in sorted(table))

    def built_indexes(self, collection_id: int) -> tuple[IndexInfo, ...]:
        """What segments have parts of: its indexes, and those that its schema implies."""
        info = self.collection(collection_id)
        implied = () if info is None else info.text_indexes
        return (*self.indexes(collection_id), *implied)

    def segments(self, collection_id: int) -> list[SegmentInfo]:
        """Every segment record of a collection by id, dropped ones included."""
        table = self.tables.segments.get(collection_id, {})
        return [table[segment_id] for segment_id in sorted(table)]

    def segment(self, collection_id: int, segment_id: int) -> SegmentInfo | None:
        return self.tables.segments.get(collection_id, {}).get(segment_id)

    def flushed(self, collection_id: int, vchannel: str | None = None) -> list[SegmentInfo]:
        """Flushed segments with rows (of one shard, if given) by id."""
        return [
            segment
            for segment in self.segments(collection_id)
            if segment.state is SegmentState.FLUSHED
            and segment.level is not SegmentLevel.L0
            and vchannel in (None, segment.vchannel)
        ]

    def deltas(self, collection_id: int, vchannel: str | None = None) -> list[SegmentInfo]:
        """Flushed L0 segments (of one shard, if given) by id."""
        return [
            segment
            for segment in self.segments(collection_id)
            if segment.state is SegmentState.FLUSHED
            and segment.level is SegmentLevel.L0
            and vchannel in (None, segment.vchannel)
        ]

    def checkpoint(self, vchannel: str) -> ChannelCheckpoint:
        return self.tables.checkpoints.get(vchannel) or ChannelCheckpoint(
            vchannel=vchannel, position=-1, timestamp=0
        )


def in_batches(items: Iterable[T], size: int = MAX_CHANGES // 2) -> list[list[T]]:
    """``items`` in lists that fit into one transaction."""
    everything = list(items)
    return [everything[start : start + size] for start in range(0, len(everything), size)]
