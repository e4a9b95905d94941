"""What the sealed part of a shard should consist of: pure functions from metadata to a target.

Rows are in a target exactly once: every flushed segment of the loaded partitions, or else, for a
compaction's output whose indexes are not built yet, the indexed segments that it was made of, as
long as the shard still reads them. Those are not loaded anew: the deletes that came since the
compaction are in their loaded copies, but no longer in files that name them.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from elanus.model.catalog import ChannelCheckpoint, SegmentInfo
from elanus.model.types import IndexState, SegmentState


@dataclass(frozen=True, slots=True)
class ShardTarget:
    """segments: what to read, by id. superseded: ids of segments whose growing copies must not be
    read beside them. delta_ts: the deletes up to it are in files now. replaced: segments that are
    read as long as what replaces them isn't indexed; only the copies that are there can be."""

    vchannel: str
    segments: tuple[SegmentInfo, ...]
    superseded: frozenset[int]
    delta_ts: int
    partition_ids: tuple[int, ...]
    replaced: frozenset[int] = frozenset()


def shard_target(
    segments: Sequence[SegmentInfo],
    checkpoint: ChannelCheckpoint,
    partition_ids: tuple[int, ...],
    vector_indexes: Set[int],
    in_view: Mapping[int, SegmentInfo],
) -> ShardTarget:
    """The target of one shard.

    segments: every segment record of the shard that has rows, dropped ones included.
    vector_indexes: ids of the collection's vector indexes. in_view: the segments that the shard
    reads and that are still held by a query node, by id; empty: don't prefer replaced segments.
    """
    by_id = {segment.segment_id: segment for segment in segments}
    chosen: dict[int, SegmentInfo] = {}
    replaced: set[int] = set()
    for segment in segments:
        if segment.state is not SegmentState.FLUSHED or segment.row_count == 0:
            continue
        if partition_ids and segment.partition_id not in partition_ids:
            continue
        sources = None
        if segment.compacted_from and not has_indexes(segment, vector_indexes):
            sources = _read_sources(segment, by_id, in_view)
        if sources and all(has_indexes(source, vector_indexes) for source in sources):
            chosen.update((source.segment_id, source) for source in sources)
            replaced.update(source.segment_id for source in sources)
        else:
            chosen[segment.segment_id] = segment
    dropped = {s.segment_id for s in segments if s.state is SegmentState.DROPPED}
    return ShardTarget(
        vchannel=checkpoint.vchannel,
        segments=tuple(chosen[segment_id] for segment_id in sorted(chosen)),
        superseded=frozenset(dropped | set(chosen)),
        delta_ts=checkpoint.timestamp,
        partition_ids=partition_ids,
        replaced=frozenset(replaced),
    )


def has_indexes(segment: SegmentInfo, index_ids: Set[int]) -> bool:
    """Whether no part of these indexes is still awaited for the segment."""
    done = {
        part.index_id
        for part in segment.indexes
        if part.state in (IndexState.FINISHED, IndexState.FAILED)
    }
    return index_ids <= done


def _read_sources(
    segment: SegmentInfo, by_id: Mapping[int, SegmentInfo], in_view: Mapping[int, SegmentInfo]
) -> list[SegmentInfo] | None:
    """The segments in the view that hold the rows of ``segment``; None if some are not read."""
    found: list[SegmentInfo] = []
    for source_id in segment.compacted_from:
        if source_id in in_view:
            found.append(in_view[source_id])
            continue
        source = by_id.get(source_id)
        if source is None or not source.compacted_from:
            return None
        deeper = _read_sources(source, by_id, in_view)
        if deeper is None:
            return None
        found += deeper
    return found
