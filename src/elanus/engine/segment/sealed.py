"""A sealed segment: immutable mapped columns, sorted by (primary key, insert ts), and its deletes.

Nothing is copied at load. Memory of its own has only what is asked for: delete timestamps after
the first delete, lengths of vectors for exact COSINE scans, hashes of string keys, bitmaps. One
owner deletes, and attaches and takes away indexes and columns, which are there before they are
read; readers in other threads never wait for it. Primary keys and timestamps always stay.
"""

import itertools
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.bounds import excludes
from elanus.engine.filter.evaluate import evaluate, evaluate_elements
from elanus.engine.filter.indexes import ScalarIndex
from elanus.engine.filter.plan import Plan
from elanus.engine.index.base import Interim, VectorColumn, VectorIndex
from elanus.engine.index.dense.neighbours import Ints, Neighbours
from elanus.engine.index.kinds import stored_column
from elanus.engine.index.rows import RowSet, intersect
from elanus.engine.index.sparse.column import SparseColumn
from elanus.engine.index.sparse.index import SparseIndex
from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.engine.reduce import at_most
from elanus.engine.segment.base import Segment, sampled
from elanus.engine.segment.cache import BitmapCache
from elanus.engine.segment.columns import SegmentColumns
from elanus.engine.segment.elements import SearchedElements
from elanus.engine.segment.grouped import search_groups
from elanus.engine.segment.hits import hits_of, missing_column, native_keys, rows_of
from elanus.engine.segment.keys import KeyIndex, equal, key_index, matches
from elanus.engine.segment.texts import ColumnTexts, SegmentTexts
from elanus.engine.segment.ties import find_with_ties
from elanus.engine.segment.usual import UsualSearches
from elanus.engine.text.index import TextIndex
from elanus.errors import CorruptData
from elanus.model.reads import Hits, Rows, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema
from elanus.model.timestamp import MAX_TIMESTAMP
from elanus.model.types import DataType, MetricType

_owners = itertools.count(1)


class SealedSegment(Segment):
    """See the module. ``schema`` may be replaced by its owner when a field is added."""

    def __init__(
        self,
        schema: CollectionSchema,
        segment_id: int,
        partition_id: int,
        columns: SegmentColumns,
        filter_cache: BitmapCache | None = None,
    ) -> None:
        self.schema = schema
        self.segment_id = segment_id
        self.partition_id = partition_id
        self._columns = columns
        self._row_count = columns.row_count
        self._timestamps = columns.timestamps
        if len(self._timestamps) != self._row_count:
            raise CorruptData(
                f"segment {segment_id} has {self._row_count} rows and "
                f"{len(self._timestamps)} timestamps"
            )
        self._min_ts = int(self._timestamps.min()) if self._row_count else 0
        self._max_ts = int(self._timestamps.max()) if self._row_count else 0
        self._cache = filter_cache or BitmapCache(0)
        self._owner = next(_owners)
        self._indexes: dict[str, VectorIndex] = {}
        self._interim: dict[str, Interim] = {}
        self._vectors: dict[str, VectorColumn] = {}
        self._list_vectors: dict[str, int] = {}  # how many, of lists that have been read once
        key = schema.primary.name
        self._usual = UsualSearches(
            segment_id, lambda: native_keys(columns.column(key)), self._timestamps
        )
        self._hashes: KeyIndex | None = None
        self._texts = SegmentTexts()
        # By index id: (field, index). Replaced as a whole, never changed.
        self._scalars: dict[int, tuple[str, ScalarIndex]] = {}
        self._deletes: npt.NDArray[np.uint64] | None = None
        self._first_delete_ts = MAX_TIMESTAMP
        self._last_delete_ts = 0
        # Odd while the owner writes deletes; a bitmap made meanwhile is not kept.
        self._delete_version = 0
        self._alive: tuple[int, RowSet] | None = None

    @property
    def row_count(self) -> int:
        return self._row_count

    @property
    def size_bytes(self) -> int:
        held = sum(index.size_bytes for index in list(self._interim.values()))
        held += sum(column.size_bytes for column in list(self._vectors.values()))
        held += self._hashes.size_bytes if self._hashes is not None else 0
        held += self._deletes.nbytes if self._deletes is not None else 0
        return held + self._texts.size_bytes

    # --- the owner's side ---------------------------------------------------------------------

    def vector_count(self, field_name: str) -> int:
        """How many vectors an index of the field has. A column of lists must have been there."""
        if self.schema.by_name[field_name].data_type is not DataType.ARRAY_OF_VECTOR:
            return self._row_count
        known = self._list_vectors.get(field_name)
        if known is None:
            column = self._column_of_vectors(field_name)
            known = self._row_count if column is None else column.vector_count
            self._list_vectors[field_name] = known
        return known

    def attach_index(self, field_name: str, loaded: VectorIndex) -> None:
        """Search the field by this index from now on. Raises CorruptData if it is of other rows."""
        dim, vectors = self.schema.by_name[field_name].dim, self.vector_count(field_name)
        if (loaded.row_count, loaded.dim) != (vectors, dim):
            raise CorruptData(
                f"index of {field_name} has {loaded.row_count} rows of {loaded.dim} dimensions, "
                f"segment {self.segment_id} has {vectors} of {dim}"
            )
        self._indexes[field_name] = loaded
        self._usual.forget()
        self._interim.pop(field_name, None)
        if field_name in self._vectors:
            self._vectors[field_name].forget()

    def detach_index(self, field_name: str, held: VectorIndex) -> None:
        """Forget this index, if it is still the field's."""
        if self._indexes.get(field_name) is held:
            del self._indexes[field_name]
            self._usual.forget()

    def forget_vectors(self, field_name: str) -> VectorColumn | None:
        """What was made of a field's column, which may be brought again."""
        self._usual.forget()
        return self._vectors.pop(field_name, None)

    def attach_scalar(self, index_id: int, field_name: str, loaded: ScalarIndex) -> None:
        """Let filters use this index from now on. Raises CorruptData if it is of other rows."""
        if loaded.row_count != self._row_count:
            raise CorruptData(
                f"index of {field_name} has {loaded.row_count} rows, "
                f"segment {self.segment_id} has {self._row_count}"
            )
        self._scalars = {**self._scalars, index_id: (field_name, loaded)}

    def detach_scalar(self, index_id: int, held: ScalarIndex | None = None) -> None:
        """``held``: only if the index is still this one."""
        if held is None or self._scalars.get(index_id, ("", None))[1] is held:
            self._scalars = {k: kept for k, kept in self._scalars.items() if k != index_id}

    def attach_texts(self, field_name: str, loaded: TextIndex) -> None:
        """Match words of the field by this token index over the segment's rows from now on."""
        self._texts.attach(field_name, loaded)

    def detach_texts(self, field_name: str, held: TextIndex) -> None:
        self._texts.detach(field_name, held)

    def build_texts(self, field_names: Collection[str]) -> None:
        """Make the token indexes of these fields. For a compute thread."""
        for name in field_names:
            column = self._columns.column(name)
            self._texts.of(self.schema.by_name[name], column, self._row_count)

    def attach_interim(self, field_name: str, index: Interim) -> None:
        self._interim[field_name] = index

    def build_interim(self, field_name: str, metric: MetricType) -> None:
        """Make and attach an interim index, if there are rows enough. For a compute thread."""
        column = self._column_of_vectors(field_name)
        if column is None or field_name in self._indexes or not column.is_interim_due(None):
            return
        interim = column.extended(metric, None)
        if interim is not None:
            self.attach_interim(field_name, interim)

    def release(self) -> None:
        """Give back what is cached elsewhere. Readers that still run may go on."""
        self._cache.forget(self._owner)

    def delete(self, keys: pa.Array, timestamp: int) -> int:
        return self.delete_at(keys, np.full(len(keys), timestamp, np.uint64))

    def delete_at(self, keys: pa.Array, timestamps: npt.NDArray[np.uint64]) -> int:
        """``delete`` for keys with a timestamp each, uint64 (n,), in one pass."""
        at, offsets = self._offsets_of(keys)
        when = timestamps[at]
        older = self._timestamps[offsets] < when
        offsets, when = offsets[older], when[older]
        if not len(offsets):
            return 0
        if self._deletes is None:
            self._deletes = np.full(self._row_count, MAX_TIMESTAMP, np.uint64)
        self._delete_version += 1
        self._first_delete_ts = min(self._first_delete_ts, int(when.min()))
        self._last_delete_ts = max(self._last_delete_ts, int(when.max()))
        touched = np.unique(offsets)
        fresh = int(np.count_nonzero(self._deletes[touched] == MAX_TIMESTAMP))
        np.minimum.at(self._deletes, offsets, when)
        self._delete_version += 1
        return fresh

    # --- readers ------------------------------------------------------------------------------

    def excludes(self, plan: Plan | None) -> bool:
        """Whether no row can pass, as far as can be told without reading any."""
        return plan is not None and excludes(plan.root, self._columns.bounds)

    def search(self, query: VectorQuery, snapshot: Snapshot, plan: Plan | None) -> Hits:
        nearest = None if plan is not None else self._nearest(query, snapshot)
        if nearest is not None:
            return nearest
        rows = self._wanted(snapshot, plan)
        column = self._column_of_vectors(query.field_name)
        if column is not None and column.valid is not None:
            rows = column.with_vectors(rows, self._row_count)

        elements = SearchedElements.of(
            column, query, self._row_count, lambda: self._passing_elements(plan)
        )

        def hits(asked: VectorQuery, wanted: RowSet | None) -> Hits:
            places = None
            if elements is None:
                found = self._found(column, asked, wanted, self._row_count)
            else:
                members, lists = elements.members(wanted), elements.lists
                found, places = elements.placed(
                    self._found(lists.elements, asked, members, elements.count)
                )
            keys = self._keys_at(found.offsets)
            timestamps = self._timestamps.take(found.offsets)
            return hits_of(found, asked.metric, keys, timestamps, self.segment_id, places)

        if query.grouping is not None:
            return search_groups(query, rows, self._row_count, hits, self.take)
        return at_most(hits(query, rows), query.top_k)

    def select(self, snapshot: Snapshot, plan: Plan | None, limit: int | None = None) -> Rows:
        if plan is not None and plan.primary_keys is not None:
            # A few keys of many rows: no pass over the segment.
            offsets = np.unique(self._offsets_of(plan.primary_keys)[1])
            offsets = offsets[self._visible_at(offsets, snapshot)][:limit]
        else:
            rows = self._wanted(snapshot, plan)
            offsets = np.arange(self._row_count) if rows is None else rows.ids
            offsets = offsets[:limit]
        keys = self._keys_at(offsets)
        return rows_of(offsets, keys, self._timestamps[offsets], self.segment_id)

    def count(self, snapshot: Snapshot, plan: Plan | None) -> int:
        rows = self._wanted(snapshot, plan)
        return self._row_count if rows is None else rows.count

    def take(self, offsets: npt.NDArray[np.int64], fields: Sequence[str]) -> pa.RecordBatch:
        indices = pa.array(offsets)
        columns = []
        for name in fields:
            if not self._columns.has_column(name):
                columns.append(missing_column(self.schema, name, len(offsets)))
            elif (vectors := self._column_of_vectors(name)) is not None:
                columns.append(vectors.take(offsets))
            else:
                columns.append(self._columns.column(name).take(indices))
        return pa.RecordBatch.from_arrays(columns, names=list(fields))

    def term_statistics(self, field_name: str, terms: npt.NDArray[np.uint32]) -> TermStatistics:
        loaded = self._indexes.get(field_name)
        if isinstance(loaded, SparseIndex):
            return loaded.statistics(terms)
        column = self._column_of_vectors(field_name)
        if not isinstance(column, SparseColumn):
            return TermStatistics.none(len(terms))
        return column.statistics(terms, self._interim.get(field_name))

    # --- parts of the above -------------------------------------------------------------------

    def _nearest(self, query: VectorQuery, snapshot: Snapshot) -> Hits | None:
        """Of the usual search, for which nothing is brought or made; None of another one."""
        name = query.field_name
        index, column = self._indexes.get(name), self._vectors.get(name)
        if index is None or column is None:
            return None
        return self._usual.find(index, column, query, self._visible(snapshot))

    def _found(
        self,
        column: VectorColumn | None,
        query: VectorQuery,
        rows: RowSet | None,
        row_count: int,
    ) -> Neighbours:
        """The best of ``rows`` (None: all ``row_count``), and what ties with the last of them."""
        available = row_count if rows is None else rows.count
        if column is None or available == 0:
            return Neighbours.none(len(query.vectors))
        loaded = self._indexes.get(query.field_name)
        if loaded is not None and loaded.metric is query.metric:
            index = loaded
            orders_ties = index.orders_ties

            def find(asked: VectorQuery) -> Neighbours:
                return index.search(column, asked, rows)

        else:
            interim = self._interim.get(query.field_name)
            orders_ties = interim is None or interim.orders_ties

            def find(asked: VectorQuery) -> Neighbours:
                return column.search(asked, row_count, rows, interim)

        # Rows are sorted by primary key: equal ones in the order of their offsets are as wanted.
        return find(query) if orders_ties else find_with_ties(find, query, available)

    @property
    def _keys(self) -> pa.Array:
        return self._columns.column(self.schema.primary.name)

    @cached_property
    def _native_keys(self) -> Any:
        return native_keys(self._keys)

    def _keys_at(self, offsets: Ints) -> Any:
        """As Hits hold them."""
        keys = self._native_keys
        return keys.take(offsets if isinstance(keys, np.ndarray) else pa.array(offsets))

    def _wanted(self, snapshot: Snapshot, plan: Plan | None) -> RowSet | None:
        """Rows that are visible and pass; None: all."""
        rows = self._visible(snapshot)
        if plan is None or plan.always_true:
            return rows
        rows = intersect(rows, self._passing(plan))
        return (
            rows if plan.sample is None else sampled(rows, self._row_count, plan, self.segment_id)
        )

    def _visible(self, snapshot: Snapshot) -> RowSet | None:
        version = self._delete_version
        all_inserted = self._max_ts <= snapshot.read_ts and self._min_ts > snapshot.expire_before_ts
        deletes = self._deletes if self._first_delete_ts <= snapshot.read_ts else None
        if all_inserted and deletes is None:
            return None
        covers_all = all_inserted and self._last_delete_ts <= snapshot.read_ts
        if covers_all and self._alive is not None and self._alive[0] == version:
            return self._alive[1]
        mask = np.ones(self._row_count, np.bool_)
        if not all_inserted:
            mask &= self._timestamps <= np.uint64(snapshot.read_ts)
            mask &= self._timestamps > np.uint64(snapshot.expire_before_ts)
        if deletes is not None:
            mask &= deletes > np.uint64(snapshot.read_ts)
        rows = RowSet(self._row_count, mask=mask)
        if covers_all and version % 2 == 0 and version == self._delete_version:
            self._alive = (version, rows)
        return rows

    def _visible_at(self, offsets: Ints, snapshot: Snapshot) -> npt.NDArray[np.bool_]:
        """Which of these rows are visible."""
        timestamps = self._timestamps[offsets]
        visible = (timestamps <= snapshot.read_ts) & (timestamps > snapshot.expire_before_ts)
        if self._deletes is not None:
            visible &= self._deletes[offsets] > snapshot.read_ts
        return visible

    def _passing(self, plan: Plan) -> RowSet:
        packed = self._cache.get(self._owner, plan.key)
        if packed is not None:
            return RowSet(self._row_count, packed=packed)
        if plan.primary_keys is not None:
            mask = np.zeros(self._row_count, np.bool_)
            mask[self._offsets_of(plan.primary_keys)[1]] = True
            return RowSet(self._row_count, mask=mask)
        if self.excludes(plan):
            return RowSet(self._row_count, mask=np.zeros(self._row_count, np.bool_))
        rows = RowSet(self._row_count, mask=self._evaluate(plan))
        self._cache.put(self._owner, plan.key, rows.packed)
        return rows

    def _passing_elements(self, plan: Plan | None) -> npt.NDArray[np.bool_] | None:
        if plan is None or plan.elements is None:
            return None
        return evaluate_elements(plan.elements, self._column, self._row_count)

    def _evaluate(self, plan: Plan) -> npt.NDArray[np.bool_]:
        def texts(name: str, column: pa.Array) -> ColumnTexts:
            return self._texts.of(self.schema.by_name[name], column, self._row_count)

        indexes: dict[str, list[ScalarIndex]] = {}
        for field_name, index in self._scalars.values():
            indexes.setdefault(field_name, []).append(index)
        return evaluate(plan, self._column, self._row_count, texts=texts, indexes=indexes)

    def _column(self, name: str) -> pa.Array:
        if self._columns.has_column(name):
            return self._columns.column(name)
        return missing_column(self.schema, name, self._row_count)

    def _offsets_of(self, keys: pa.Array) -> tuple[Ints, Ints]:
        """Pairs (position in ``keys``, row that has this key)."""
        column = self._keys
        if pa.types.is_integer(column.type):
            return matches(np.asarray(column), np.asarray(keys))
        if self._hashes is None:
            self._hashes = key_index(column)
        at, offsets = self._hashes.candidates(keys)
        same = equal(column.take(pa.array(offsets)), keys.take(pa.array(at)))
        return at[same], offsets[same]

    def _column_of_vectors(self, name: str) -> VectorColumn | None:
        """None if the field is no vector, or the segment was written without it."""
        column = self._vectors.get(name)
        if column is None:
            field = self.schema.by_name[name]
            if not field.data_type.is_vector or not self._columns.has_column(name):
                return None
            column = self._vectors.setdefault(
                name, stored_column(field, self._columns.vectors(name))
            )
        return column
