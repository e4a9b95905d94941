"""A growing segment: rows as they arrive, readable at any past instant while they do.

One owner appends and deletes; readers in other threads take one reference to an immutable state
and never wait. Rows lie in timestamp order, so that what a read may see is a prefix, found by
binary search. The state is published after the rows are in place: a reader sees whole appends only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.evaluate import evaluate, evaluate_elements
from elanus.engine.filter.plan import Plan
from elanus.engine.filter.text import TextIndexes
from elanus.engine.index.base import Interim, VectorColumn
from elanus.engine.index.dense.neighbours import Ints, Neighbours
from elanus.engine.index.rows import RowSet, intersect
from elanus.engine.index.sparse.column import SparseColumn
from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.engine.reduce import at_most
from elanus.engine.segment import chunks as chunk_list
from elanus.engine.segment.base import Segment, sampled
from elanus.engine.segment.blocks import Numbers, growing_vectors
from elanus.engine.segment.chunks import Chunks
from elanus.engine.segment.delete_times import DeleteTimes
from elanus.engine.segment.elements import SearchedElements
from elanus.engine.segment.grouped import search_groups
from elanus.engine.segment.hits import hits_of, key_order, missing_column, rows_of
from elanus.engine.segment.keys import KeyIndex, equal
from elanus.engine.segment.ties import find_with_ties
from elanus.engine.segment.usual_growing import UsualGrowing, is_usual
from elanus.model.reads import Hits, Rows, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema
from elanus.model.types import MetricType


@dataclass(frozen=True, slots=True)
class _State:
    """What readers see. ``integer_keys`` is empty if primary keys are strings. ``keys_ascend``:
    they are integers, and no row has a smaller one than those before it."""

    row_count: int
    chunks: Chunks
    vectors: Mapping[str, VectorColumn]
    timestamps: npt.NDArray[np.uint64]
    keys: KeyIndex
    integer_keys: Ints
    keys_ascend: bool


@dataclass(frozen=True, slots=True)
class FlushedRows:
    """Rows for files, sorted by (pk, ts). ``rows``: every field of the schema; timestamps and
    delete_timestamps (maximum = alive): uint64 (n,). Deleted rows are there: a flush keeps them."""

    rows: pa.RecordBatch
    timestamps: npt.NDArray[np.uint64]
    delete_timestamps: npt.NDArray[np.uint64]


class GrowingSegment(Segment):
    """See the module. ``schema`` may be replaced by its owner when a field is added."""

    def __init__(self, schema: CollectionSchema, segment_id: int, partition_id: int) -> None:
        self.schema = schema
        self.segment_id = segment_id
        self.partition_id = partition_id
        self._vectors = {field.name: growing_vectors(field) for field in schema.vector_fields}
        self._timestamps = Numbers(np.uint64)
        self._integer_keys = Numbers(np.int64)
        self._deletes = DeleteTimes()
        self._interim: dict[str, Interim] = {}
        self._usual = UsualGrowing()
        self._state = _State(
            row_count=0,
            chunks=(),
            vectors={},
            timestamps=self._timestamps.view,
            keys=KeyIndex(),
            integer_keys=self._integer_keys.view,
            keys_ascend=self.schema.primary.data_type.is_integer,
        )

    @property
    def row_count(self) -> int:
        return self._state.row_count

    @property
    def size_bytes(self) -> int:
        state = self._state
        held = sum(vectors.size_bytes for vectors in self._vectors.values())
        held += sum(index.size_bytes for index in list(self._interim.values()))
        held += sum(chunk.size_bytes + chunk.texts.size_bytes for chunk in state.chunks)
        held += self._timestamps.size_bytes + self._integer_keys.size_bytes
        return held + self._deletes.size_bytes + state.keys.size_bytes

    # --- the owner's side ---------------------------------------------------------------------

    def append(self, rows: pa.RecordBatch, timestamp: int) -> None:
        """Add complete rows, all inserted at ``timestamp``, which must not be below any before.

        Raises ValueError if time would run backwards: readers rely on the order.
        """
        state = self._state
        if not rows.num_rows:
            return
        if state.row_count and timestamp < state.timestamps[-1]:
            raise ValueError(
                f"segment {self.segment_id} has rows at {state.timestamps[-1]}, "
                f"can't append at {timestamp}"
            )
        vectors = {
            name: growing.append(rows.column(name)) for name, growing in self._vectors.items()
        }
        scalars = [name for name in rows.schema.names if name not in self._vectors]
        self._timestamps.append(timestamp, rows.num_rows)
        keys = rows.column(self.schema.primary.name)
        ascend = state.keys_ascend
        if pa.types.is_integer(keys.type):
            numbers = np.asarray(keys)
            ascend = ascend and _continues(state.integer_keys, numbers)
            self._integer_keys.append(numbers, rows.num_rows)
        count = state.row_count + rows.num_rows
        self._deletes.make_room(count)
        self._state = replace(
            state,
            row_count=count,
            chunks=chunk_list.with_batch(state.chunks, rows.select(scalars)),
            vectors=vectors,
            timestamps=self._timestamps.view,
            keys=state.keys.added(keys, state.row_count),
            integer_keys=self._integer_keys.view,
            keys_ascend=ascend,
        )

    def delete(self, keys: pa.Array, timestamp: int) -> int:
        state = self._state
        offsets = self._offsets_of(state, keys)
        offsets = np.unique(offsets[state.timestamps[offsets] < timestamp])
        if not len(offsets):
            return 0
        return self._deletes.mark(offsets, timestamp)

    def index_pending(self, field_name: str) -> bool:
        """Whether ``build_interim`` is worth calling: enough rows are not covered by an index."""
        column = self._state.vectors.get(field_name)
        return column is not None and column.is_interim_due(self._interim.get(field_name))

    def build_interim(self, field_name: str, metric: MetricType) -> None:
        """Let an interim index cover the rows of now, trained anew if they have grown much.

        Call in a compute thread, one call at a time for a segment; searches go on meanwhile.
        """
        column = self._state.vectors[field_name]
        extended = column.extended(metric, self._interim.get(field_name))
        if extended is not None:
            self._interim[field_name] = extended

    def rows_for_flush(self) -> FlushedRows:
        """All rows, deleted ones too, sorted for files."""
        state = self._state
        keys = self._column(state, self.schema.primary.name, state.row_count)
        order = key_order(keys, state.timestamps)
        rows = self.take(order, [field.name for field in self.schema.fields])
        deletes = self._deletes.first(state.row_count)
        return FlushedRows(rows, state.timestamps[order], deletes[order])

    # --- readers ------------------------------------------------------------------------------

    def search(self, query: VectorQuery, snapshot: Snapshot, plan: Plan | None) -> Hits:
        state = self._state
        column = state.vectors.get(query.field_name)
        if plan is None and column is not None:
            usual = self._usual_hits(state, column, query, snapshot)
            if usual is not None:
                return usual
        end, rows = self._wanted(state, snapshot, plan)
        if column is not None:
            rows = column.with_vectors(rows, end)

        elements = SearchedElements.of(
            column, query, end, lambda: self._passing_elements(state, plan, end)
        )

        def hits(asked: VectorQuery, wanted: RowSet | None) -> Hits:
            places = None
            if elements is None:
                found = self._found(state, column, end, asked, wanted)
            else:
                members, lists = elements.members(wanted), elements.lists
                found, places = elements.placed(
                    self._found(state, lists.elements, elements.count, asked, members)
                )
            keys = self._keys_at(state, found.offsets)
            timestamps = state.timestamps[found.offsets]
            return hits_of(found, asked.metric, keys, timestamps, self.segment_id, places)

        if query.grouping is not None:
            return search_groups(query, rows, end, hits, self.take)
        return at_most(hits(query, rows), query.top_k)

    def select(self, snapshot: Snapshot, plan: Plan | None, limit: int | None = None) -> Rows:
        state = self._state
        offsets = self._selected(state, snapshot, plan)
        keys = self._take(state, self.schema.primary.name, offsets)
        timestamps = state.timestamps[offsets]
        order = key_order(keys, timestamps)[:limit]
        return rows_of(
            offsets[order], keys.take(pa.array(order)), timestamps[order], self.segment_id
        )

    def count(self, snapshot: Snapshot, plan: Plan | None) -> int:
        end, rows = self._wanted(self._state, snapshot, plan)
        return end if rows is None else rows.count

    def take(self, offsets: npt.NDArray[np.int64], fields: Sequence[str]) -> pa.RecordBatch:
        state = self._state
        columns = [self._take(state, name, offsets) for name in fields]
        return pa.RecordBatch.from_arrays(columns, names=list(fields))

    def term_statistics(self, field_name: str, terms: npt.NDArray[np.uint32]) -> TermStatistics:
        column = self._state.vectors.get(field_name)
        if not isinstance(column, SparseColumn):
            return TermStatistics.none(len(terms))
        return column.statistics(terms, self._interim.get(field_name))

    # --- parts of the above -------------------------------------------------------------------

    def _usual_hits(
        self, state: _State, column: VectorColumn, query: VectorQuery, snapshot: Snapshot
    ) -> Hits | None:
        """None if it is another search."""
        interim = self._interim.get(query.field_name)
        if interim is None or not is_usual(query):
            return None
        if snapshot.expire_before_ts and state.timestamps[0] <= snapshot.expire_before_ts:
            return None
        end = _visible_prefix(state, snapshot)
        alive = self._deletes.alive(end, snapshot.read_ts)
        found = self._usual.find(column, interim, query, end, alive)
        if found is None:
            return None
        keys, timestamps = self._keys_at(state, found.offsets), state.timestamps[found.offsets]
        return hits_of(found, query.metric, keys, timestamps, self.segment_id)

    def _found(
        self,
        state: _State,
        column: VectorColumn | None,
        end: int,
        query: VectorQuery,
        rows: RowSet | None,
    ) -> Neighbours:
        """The best of ``rows`` (None: the first ``end``), and what ties with the last of them."""
        available = end if rows is None else rows.count
        if column is None or available == 0:
            return Neighbours.none(len(query.vectors))
        interim = self._interim.get(query.field_name)

        def find(asked: VectorQuery) -> Neighbours:
            return column.search(asked, end, rows, interim)

        if state.keys_ascend and (interim is None or interim.orders_ties):
            return find(query)
        return find_with_ties(find, query, available)

    def _wanted(
        self, state: _State, snapshot: Snapshot, plan: Plan | None
    ) -> tuple[int, RowSet | None]:
        """(end of the visible prefix, its rows that are visible and pass; None: all of them)."""
        end = _visible_prefix(state, snapshot)
        if end == 0:
            return 0, None
        start = 0
        if snapshot.expire_before_ts:
            expired_ts = np.uint64(snapshot.expire_before_ts)
            start = int(state.timestamps.searchsorted(expired_ts, "right"))
        rows = self._deletes.alive(end, snapshot.read_ts)
        if start:
            fresh = np.arange(end) >= start
            rows = intersect(rows, RowSet(end, mask=fresh))
        if plan is not None:
            rows = intersect(rows, RowSet(end, mask=self._passing(state, plan, end)))
            if plan.sample is not None:
                rows = sampled(rows, end, plan, self.segment_id)
        return end, rows

    def _passing(self, state: _State, plan: Plan, end: int) -> npt.NDArray[np.bool_]:
        if plan.primary_keys is not None:
            offsets = self._offsets_of(state, plan.primary_keys)
            mask = np.zeros(end, np.bool_)
            mask[offsets[offsets < end]] = True
            return mask
        parts = []
        for chunk, size in _first_rows(state, end):
            texts = self._texts(chunk, size)
            parts.append(evaluate(plan, self._reader(chunk, size), size, texts=texts))
        return np.concatenate(parts)

    def _passing_elements(
        self, state: _State, plan: Plan | None, end: int
    ) -> npt.NDArray[np.bool_] | None:
        """Of the first ``end`` rows."""
        if plan is None or plan.elements is None:
            return None
        parts = [
            evaluate_elements(plan.elements, self._reader(chunk, size), size)
            for chunk, size in _first_rows(state, end)
        ]
        return np.concatenate([np.zeros(0, np.bool_), *parts])

    def _reader(self, chunk: chunk_list.Chunk, size: int) -> Callable[[str], pa.Array]:
        """Gives the first ``size`` rows of the chunk's columns by name."""

        def column(name: str) -> pa.Array:
            at = chunk.rows.schema.get_field_index(name)
            if at < 0:
                return missing_column(self.schema, name, size)
            return chunk.rows.column(at).slice(0, size)

        return column

    def _texts(self, chunk: chunk_list.Chunk, size: int) -> TextIndexes:
        """Finds words in the first ``size`` rows of the chunk."""
        whole = self._reader(chunk, chunk.rows.num_rows)
        fields = self.schema.by_name
        return lambda name, column: chunk.texts.of(fields[name], whole(name), size)

    def _selected(self, state: _State, snapshot: Snapshot, plan: Plan | None) -> Ints:
        if plan is not None and plan.primary_keys is not None:
            # A few keys of many rows: no pass over the segment.
            offsets = np.unique(self._offsets_of(state, plan.primary_keys))
            timestamps = state.timestamps[offsets]
            visible = (timestamps <= snapshot.read_ts) & (timestamps > snapshot.expire_before_ts)
            return offsets[visible & self._deletes.are_alive(offsets, snapshot.read_ts)]
        end, rows = self._wanted(state, snapshot, plan)
        return np.arange(end) if rows is None else rows.ids

    def _offsets_of(self, state: _State, keys: pa.Array) -> Ints:
        """Rows that have one of the keys."""
        at, offsets = state.keys.candidates(keys)
        if len(at) and not pa.types.is_integer(keys.type):
            found = self._take(state, self.schema.primary.name, offsets)
            offsets = offsets[equal(found, keys.take(pa.array(at)))]
        return offsets

    def _keys_at(self, state: _State, offsets: Ints) -> Any:
        """As Hits hold them."""
        if len(state.integer_keys):
            return state.integer_keys[offsets]
        return self._take(state, self.schema.primary.name, offsets)

    def _take(self, state: _State, name: str, offsets: Ints) -> pa.Array:
        column = state.vectors.get(name)
        if column is not None:
            return column.take(offsets)
        return chunk_list.take(
            state.chunks, name, offsets, lambda size: missing_column(self.schema, name, size)
        )

    def _column(self, state: _State, name: str, size: int) -> pa.Array:
        return pa.concat_arrays([chunk.rows.column(name) for chunk in state.chunks]).slice(0, size)


def _first_rows(state: _State, end: int) -> Iterator[tuple[chunk_list.Chunk, int]]:
    """The chunks of the first ``end`` rows, and how many of these each has."""
    for chunk in state.chunks:
        size = min(chunk.rows.num_rows, end - chunk.first_row)
        if size <= 0:
            return
        yield chunk, size


def _visible_prefix(state: _State, snapshot: Snapshot) -> int:
    """How many rows were inserted by then."""
    if state.row_count and state.timestamps[-1] <= snapshot.read_ts:
        return state.row_count
    return int(state.timestamps.searchsorted(np.uint64(snapshot.read_ts), "right"))


def _continues(before: Ints, numbers: Ints) -> bool:
    """Whether ``numbers`` ascend, from the last of ``before`` on."""
    follows = not len(before) or bool(numbers[0] >= before[-1])
    return follows and bool((numbers[1:] >= numbers[:-1]).all())
