"""The state of one shard (vchannel): its growing segments, its deletes and its view of the rest.

Only the event loop changes it, each change in one synchronous step, so that a read which takes its
parts in one step (``read_parts``) has a consistent set for as long as it wants: segments are never
emptied, only dropped from the lists.

A growing segment goes through: current (takes writes) → sealed (takes deletes only, waits for its
flush) → flushed (still read here) → dropped, when a view with its sealed copy has taken over.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from elanus.engine.segment.growing import GrowingSegment
from elanus.model.catalog import CollectionInfo, IndexInfo
from elanus.model.timestamp import physical_ms
from elanus.services.messages import GrowingInfo, QueryView, SealedView
from elanus.workers.streaming.choices import SealedChoices
from elanus.workers.streaming.delete_buffer import DeleteBuffer
from elanus.workers.streaming.seal_policy import GrowingState

NOTHING = -1


@dataclass
class Growing:
    """A growing segment and what sealing, flush and checkpoint need to know of it.

    ``assigned_bytes`` counts what writes in flight will add too. ``first_position`` is NOTHING as
    long as no row is in.
    """

    segment: GrowingSegment
    assigned_bytes: int = 0
    size_bytes: int = 0
    first_position: int = NOTHING
    first_ts: int = 0
    last_ts: int = 0
    flushed: bool = False
    is_indexing: bool = False

    @property
    def segment_id(self) -> int:
        return self.segment.segment_id

    @property
    def partition_id(self) -> int:
        return self.segment.partition_id

    @property
    def is_empty(self) -> bool:
        return self.first_position == NOTHING

    def note_rows(self, position: int, timestamp: int, size_bytes: int) -> None:
        """Rows of a record at ``position`` are in."""
        if self.is_empty:
            self.first_position, self.first_ts = position, timestamp
        self.last_ts = timestamp
        self.size_bytes += size_bytes

    def state(self) -> GrowingState:
        return GrowingState(
            self.segment_id, self.size_bytes, physical_ms(self.first_ts), physical_ms(self.last_ts)
        )


@dataclass(frozen=True, slots=True)
class ReadParts:
    """What one read of the shard looks at: the view, and the growing segments beside it."""

    view: QueryView
    growing: tuple[Growing, ...]


@dataclass
class Offer:
    """The sealed part of ``view`` as proxies may ask for it, see ``offers``.

    partition_ids: those of its segments. told: partition (-1: all) → timestamp of the last delete
    that was told to the query nodes since the offer was begun. stands: all copies are marked.
    """

    view: QueryView
    sealed: SealedView
    partition_ids: frozenset[int]
    told: dict[int, int] = field(default_factory=dict)
    stands: bool = False


@dataclass
class Shard:
    """See the module. ``checkpoint_position`` and ``checkpoint_ts`` are the committed ones."""

    vchannel: str
    collection: CollectionInfo
    indexes: tuple[IndexInfo, ...] = ()
    checkpoint_position: int = NOTHING
    checkpoint_ts: int = 0
    # The first view after an open has to be compared with what is flushed; so has one after
    # growing segments went without a view that took over (``unread_drops`` counts how often).
    needs_coverage_check: bool = True
    unread_drops: int = 0
    view: QueryView | None = None
    sealed_choices: SealedChoices = field(default_factory=SealedChoices)
    # Query nodes that missed deletes of the view's segments, and the timestamp before the first.
    lost_nodes: dict[int, int] = field(default_factory=dict)
    offer: Offer | None = None
    is_offering: bool = False
    no_offer_until_s: float = 0.0
    deletes: DeleteBuffer = field(default_factory=DeleteBuffer)
    growing: dict[int, Growing] = field(default_factory=dict)
    current: dict[int, Growing] = field(default_factory=dict)
    retired: list[Growing] = field(default_factory=list)
    sealed: dict[int, Growing] = field(default_factory=dict)
    flush_requested_ts: int = 0
    view_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    apply_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    seal_timer: asyncio.Task[None] | None = None
    flush_task: asyncio.Task[None] | None = None
    repair_task: asyncio.Task[None] | None = None
    closed: bool = False

    def __post_init__(self) -> None:
        self.set_collection(self.collection, self.indexes)

    def set_collection(self, collection: CollectionInfo, indexes: tuple[IndexInfo, ...]) -> None:
        self.collection, self.indexes = collection, indexes
        self.partition_ids = frozenset(p.partition_id for p in collection.partitions)
        for growing in self.growing.values():
            growing.segment.schema = collection.schema

    # --- growing segments -------------------------------------------------------------------

    def add_growing(self, growing: Growing) -> None:
        """``growing`` takes the writes of its partition from now on."""
        assert growing.partition_id not in self.current
        self.growing[growing.segment_id] = growing
        self.current[growing.partition_id] = growing

    def retire(self, growing: Growing) -> None:
        """``growing`` takes no further write; what is in flight to it still comes."""
        del self.current[growing.partition_id]
        self.retired.append(growing)

    def seal(self, segment_ids: Iterable[int] | None = None) -> list[int]:
        """Seal these (or all) current segments and the retired ones; empty ones just go. Gives
        all that wait for their flush. Nothing may be in flight."""
        wanted = None if segment_ids is None else frozenset(segment_ids)
        for growing in list(self.current.values()):
            if wanted is None or growing.segment_id in wanted:
                self.retire(growing)
        for growing in self.retired:
            if growing.is_empty:
                self.growing.pop(growing.segment_id, None)
            elif growing.segment_id in self.growing:
                self.sealed[growing.segment_id] = growing
        self.retired.clear()
        return list(self.sealed)

    def mark_flushed(self, segment_ids: Iterable[int]) -> None:
        for segment_id in segment_ids:
            growing = self.sealed.pop(segment_id, None)
            if growing is not None:
                growing.flushed = True

    def drop_growing(self, segment_ids: Iterable[int]) -> int:
        """Forget these segments; gives the bytes of rows that they held."""
        freed = 0
        for segment_id in segment_ids:
            growing = self.growing.pop(segment_id, None)
            if growing is None:
                continue
            freed += growing.size_bytes
            self.sealed.pop(segment_id, None)
            if self.current.get(growing.partition_id) is growing:
                del self.current[growing.partition_id]
        return freed

    def drop_lost_partitions(self) -> int:
        """Forget the rows of partitions that are no more; gives their bytes."""
        kept = self.partition_ids
        gone = [g.segment_id for g in self.growing.values() if g.partition_id not in kept]
        return self.drop_growing(gone)

    def drop_everything(self) -> int:
        """Forget all rows and deletes; gives their bytes."""
        freed = self.drop_growing(list(self.growing)) + self.deletes.size_bytes
        self.retired.clear()
        self.deletes = DeleteBuffer()
        return freed

    def forget_deletes(self, upto_ts: int) -> int:
        """Forget the flushed deletes up to ``upto_ts`` but those that a query node has missed;
        gives their bytes."""
        return self.deletes.forget(min([upto_ts, *self.lost_nodes.values()]))

    def growing_states(self) -> list[GrowingState]:
        """Figures of the current segments that hold rows."""
        return [growing.state() for growing in self.current.values() if not growing.is_empty]

    def growing_infos(self) -> list[GrowingInfo]:
        return [
            GrowingInfo(
                segment_id=growing.segment_id,
                collection_id=self.collection.collection_id,
                partition_id=growing.partition_id,
                vchannel=self.vchannel,
                row_count=growing.segment.row_count,
                size_bytes=growing.size_bytes,
            )
            for growing in self.growing.values()
            if not growing.is_empty and not growing.flushed
        ]

    # --- what is loaded -----------------------------------------------------------------------

    def is_loaded(self, partition_id: int) -> bool:
        view = self.view
        return view is not None and (not view.partition_ids or partition_id in view.partition_ids)

    def read_parts(self) -> ReadParts | None:
        """None if the shard is not loaded."""
        if self.view is None:
            return None
        return ReadParts(self.view, tuple(g for g in self.growing.values() if not g.is_empty))

    # --- checkpoint ---------------------------------------------------------------------------

    def unflushed_bounds(
        self, flushing: frozenset[int], deletes_upto_ts: int
    ) -> tuple[int, int] | None:
        """(position, timestamp) of the earliest record that is not in objects once the segments
        ``flushing`` and the deletes up to ``deletes_upto_ts`` are; None if there is none."""
        firsts = [
            (growing.first_position, growing.first_ts)
            for growing in self.growing.values()
            if not growing.is_empty and not growing.flushed and growing.segment_id not in flushing
        ]
        later = self.deletes.after(max(deletes_upto_ts, self.deletes.flushed_ts))
        if later:
            firsts.append((later[0].position, later[0].timestamp))
        return min(firsts, default=None)
