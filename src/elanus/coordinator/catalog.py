"""Everything that the coordinator knows, in memory, and the one way to change it.

The catalog is loaded once at start. A change is a pure function that reads the catalog and says
what to put and delete; its transaction compares the revision of every key that it touches, so an
ex-coordinator that still runs can't overwrite anything. Changes run one after another.

When the outcome of a transaction is unknown because the store failed, the keys it touched are
read again before the next change, so that memory never differs from the store. A change whose
answer was lost but that took effect counts as done.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
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
)
from elanus.model.types import SegmentLevel, SegmentState
from elanus.storage.meta.base import MAX_OPERATIONS, Compare, Delete, MetaStore, Put
from elanus.storage.uncancelled import run_to_end

T = TypeVar("T")

MAX_CHANGES = MAX_OPERATIONS - 1
"""Records that one change may touch: one comparison of each transaction is about the leadership."""

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
    names: dict[tuple[str, str], int] = field(default_factory=dict)

    def put(self, record: Record) -> None:
        match record:
            case DatabaseInfo():
                self.databases[record.name] = record
            case CollectionRecord():
                self._unname(record.info.collection_id)
                self.collections[record.info.collection_id] = record
                if record.state is not CollectionState.DROPPING:
                    self.names[record.info.database, record.info.name] = record.info.collection_id
            case AliasRecord():
                self.aliases[record.database, record.alias] = record
            case IndexInfo():
                self.indexes.setdefault(record.collection_id, {})[record.index_id] = record
            case SegmentInfo():
                self.segments.setdefault(record.collection_id, {})[record.segment_id] = record
            case ChannelCheckpoint():
                self.checkpoints[record.vchannel] = record
            case LoadRecord():
                self.loads[record.collection_id] = record
            case PchannelRecord():
                self.pchannels[record.name] = record

    def remove(self, record: Record) -> None:
        match record:
            case DatabaseInfo():
                self.databases.pop(record.name, None)
            case CollectionRecord():
                self._unname(record.info.collection_id)
                self.collections.pop(record.info.collection_id, None)
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

    def _unname(self, collection_id: int) -> None:
        old = self.collections.get(collection_id)
        if old is not None and self.names.get((old.info.database, old.info.name)) == collection_id:
            del self.names[old.info.database, old.info.name]


def _remove_nested(table: dict[int, dict[int, T]], outer: int, inner: int) -> None:
    nested = table.get(outer, {})
    nested.pop(inner, None)
    if not nested:
        table.pop(outer, None)


class Catalog:
    """The cached metadata. Reads are plain look-ups; ``commit`` is the only way to change it."""

    def __init__(self, store: MetaStore) -> None:
        self._store = store
        self._lock = asyncio.Lock()
        self._revisions: dict[str, int] = {}
        self._records: dict[str, Record] = {}
        self._unknown: list[str] = []
        self.tables = Tables()

    async def load(self) -> None:
        """Read everything. Raises Unavailable or CorruptData."""
        for pair in (await self._store.snapshot(PREFIX)).pairs:
            self._set(pair.key, pair.value, pair.modified_revision)

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
        puts = {key_of(r): r for r in change.put if self._records.get(key_of(r)) != r}
        deletes = {key_of(r): r for r in change.delete if key_of(r) in self._records}
        keys = [*puts, *deletes]
        if not keys:
            return True
        values = {key: encode(record) for key, record in puts.items()}
        operations: list[Put | Delete] = [Put(key, value) for key, value in values.items()]
        operations += [Delete(key) for key in deletes]
        compares = [Compare(key, self._revisions.get(key, 0)) for key in keys]
        self._unknown = keys
        try:
            result = await self._store.transact(operations, compares)
        except Unavailable:
            await self._settle_unknown()
            if all(self._records.get(key) == record for key, record in puts.items()) and not any(
                key in self._records for key in deletes
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
        self._revisions[key] = revision
        self._records[key] = record
        self.tables.put(record)

    def _forget(self, key: str) -> None:
        self._revisions.pop(key, None)
        record = self._records.pop(key, None)
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
        return [
            record.info
            for _, record in sorted(self.tables.collections.items())
            if record.state in states
        ]

    def indexes(self, collection_id: int) -> tuple[IndexInfo, ...]:
        """A collection's indexes by id."""
        table = self.tables.indexes.get(collection_id, {})
        return tuple(table[index_id] for index_id in sorted(table))

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
