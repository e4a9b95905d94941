"""What reads of open segments do in a thread, or once for all of their segments."""

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.groups import merge_found
from elanus.engine.reduce import merge_rows
from elanus.engine.segment.base import Segment
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.catalog import ALL_PARTITIONS
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.types import DENSE_METRICS
from elanus.services.messages import PrimaryKeys, SegmentQuery, SegmentRows, SegmentSearch
from elanus.workers.gather import by_source, interleave
from elanus.workers.query.loader import Loaded


class SearchOf:
    """A search of fixed segments at a fixed snapshot, for any vectors."""

    __slots__ = ("plan", "segments", "snapshot")

    def __init__(self, segments: Sequence[Segment], request: SegmentSearch) -> None:
        self.segments = segments
        self.snapshot = request.snapshot
        self.plan = request.plan

    def __call__(self, query: VectorQuery) -> Hits:
        found = [segment.search(query, self.snapshot, self.plan) for segment in self.segments]
        return merge_found(found, query)


class WithRows:
    """Hits in fixed segments with their output fields, if there are any of either."""

    __slots__ = ("_names", "_segments")

    def __init__(self, segments: Sequence[Segment], names: tuple[str, ...]) -> None:
        self._segments = segments
        self._names = names

    def __call__(self, hits: Hits) -> tuple[Hits, pa.RecordBatch | None]:
        if not self._names or not len(hits.sources):
            return hits, None
        by_id = {segment.segment_id: segment for segment in self._segments}
        parts = [(by_id[source], positions) for source, positions in by_source(hits.sources)]
        return hits, take_rows(parts, hits.offsets, self._names)


class Beside:
    """Adds what other segments have to the hits of a search, at its own snapshot; ``then`` makes
    the answer of all hits."""

    __slots__ = ("_others", "_request", "_then")

    def __init__(self, others: Sequence[Segment], request: SegmentSearch, then: WithRows) -> None:
        self._others = others
        self._request = request
        self._then = then

    def __call__(self, hits: Hits) -> tuple[Hits, pa.RecordBatch | None]:
        query = with_least(self._request.query, hits)
        snapshot, plan = self._request.snapshot, self._request.plan
        found = [segment.search(query, snapshot, plan) for segment in self._others]
        if any(len(each.scores) for each in found):
            hits = merge_found([hits, *found], query)
        return self._then(hits)


def with_least(query: VectorQuery, hits: Hits) -> VectorQuery:
    """The query for further rows beside those that are found: if there are enough of these, others
    must be as good as the worst."""
    is_full = len(hits.counts) == 1 and len(hits.scores) == query.top_k
    if not is_full or hits.elements is not None or not takes_least(query):
        return query
    return query.at_least(hits.scores.item(-1))


def takes_least(query: VectorQuery) -> bool:
    """Whether it helps a search to know how good a row must be to be of any use."""
    is_plain = query.grouping is None and query.metric in DENSE_METRICS
    return is_plain and len(query.vectors) == 1


def batch_key(loaded: Sequence[Loaded], request: SegmentSearch) -> Hashable | None:
    """Equal keys: one call answers both. None: not to be batched.

    Snapshots behind the last change of all segments see the same rows; the change itself is in the
    key, because a later delete may be visible to later reads only.
    """
    plan, query, grouping = request.plan, request.query, request.query.grouping
    if plan is not None and plan.is_random:
        return None
    if grouping is not None and grouping.within is not None:
        return None
    change_ts = max([each.change_ts for each in loaded], default=0)
    min_ts = min([each.min_ts for each in loaded], default=0)
    snapshot: Snapshot | int = request.snapshot
    if request.snapshot.read_ts >= change_ts and request.snapshot.expire_before_ts < min_ts:
        snapshot = change_ts
    return (
        request.segment_ids,
        snapshot,
        None if plan is None else plan.key,
        query.field_name,
        query.metric,
        query.top_k,
        tuple(sorted(query.params.items())),
        query.radius,
        query.range_filter,
        grouping,
    )


def query_segments(segments: Sequence[SealedSegment], request: SegmentQuery) -> SegmentRows:
    """Runs in a thread."""
    if request.count_only:
        count = sum(segment.count(request.snapshot, request.plan) for segment in segments)
        return SegmentRows(count, None)
    found = [segment.select(request.snapshot, request.plan, request.limit) for segment in segments]
    rows = merge_rows(found, request.limit)
    return SegmentRows(len(rows.offsets), rows)


def merged_rows(found: Sequence[SegmentRows], request: SegmentQuery) -> SegmentRows:
    """Answers about some of the segments each become one."""
    if request.count_only:
        return SegmentRows(sum(each.count for each in found), None)
    rows = merge_rows([each.rows for each in found if each.rows is not None], request.limit)
    return SegmentRows(len(rows.offsets), rows)


def take_rows(
    parts: Sequence[tuple[Segment, npt.NDArray[np.int64]]],
    offsets: npt.NDArray[np.int64],
    names: tuple[str, ...],
) -> pa.RecordBatch:
    """Runs in a thread."""
    taken = [(positions, segment.take(offsets[positions], names)) for segment, positions in parts]
    return interleave(taken, names)


def delete_keys(segment: SealedSegment, deletes: Sequence[PrimaryKeys], timestamp: int) -> None:
    for part in deletes:
        if part.partition_id in (ALL_PARTITIONS, segment.partition_id):
            segment.delete(part.keys, timestamp)
