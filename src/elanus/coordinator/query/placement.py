"""Which query nodes hold which segments: pure functions, the same answer to the same question.

A segment has as many copies as wanted, each on another node, or as many as there are nodes. What is
there stays (``place``); then the fullest nodes give to the emptiest (``balance``). Each move makes
the fuller of its two nodes emptier than it was and leaves the other one below that, so a series of
moves ends, and none is taken back.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import combinations

from elanus.model.catalog import SegmentInfo

Placement = dict[int, tuple[int, ...]]
"""Segment id → ids of the query nodes that hold a copy, the first one the longest."""

TOLERANCE = 0.05
"""Difference of two nodes, as a part of what a node has on average, that isn't worth a move."""

MAX_MOVES = 4
"""Segments of one shard that move at the same time."""


def place(
    segments: Sequence[SegmentInfo],
    nodes: Sequence[int],
    current: Mapping[int, Sequence[int]],
    rows_elsewhere: Mapping[int, int],
    replicas: int,
    pinned: Set[int] = frozenset(),
) -> Placement:
    """Copies stay where they are; what is missing goes, largest segments first, to the nodes with
    the fewest rows, then the lowest id.

    current: nodes that hold a segment now, those to be kept first. rows_elsewhere: rows of other
    shards by node. pinned: segments that can't be copied anew.
    """
    placement = {
        segment.segment_id: tuple(
            node for node in current.get(segment.segment_id, ()) if node in nodes
        )[:replicas]
        for segment in segments
    }
    rows = rows_by_node(segments, nodes, placement, rows_elsewhere)
    for segment in sorted(segments, key=lambda s: (-s.row_count, s.segment_id)):
        if segment.segment_id in pinned:
            continue
        held = placement[segment.segment_id]
        free = sorted((n for n in nodes if n not in held), key=lambda n: (rows[n], n))
        chosen = free[: replicas - len(held)]
        placement[segment.segment_id] = (*held, *chosen)
        for node in chosen:
            rows[node] += segment.row_count
    return placement


def balance(
    segments: Sequence[SegmentInfo],
    nodes: Sequence[int],
    placement: Mapping[int, tuple[int, ...]],
    rows_elsewhere: Mapping[int, int],
    pinned: Set[int] = frozenset(),
) -> Placement:
    """The placement after at most MAX_MOVES moves that help; the same one if none does."""
    balanced = dict(placement)
    rows = rows_by_node(segments, nodes, balanced, rows_elsewhere)
    for _ in range(MAX_MOVES):
        move = _best_move(segments, rows, balanced, pinned)
        if move is None:
            break
        segment, source, target = move
        held = balanced[segment.segment_id]
        balanced[segment.segment_id] = (*(n for n in held if n != source), target)
        rows[source] -= segment.row_count
        rows[target] += segment.row_count
    return balanced


def rows_by_node(
    segments: Sequence[SegmentInfo],
    nodes: Sequence[int],
    placement: Mapping[int, Sequence[int]],
    rows_elsewhere: Mapping[int, int],
) -> dict[int, int]:
    """Rows that each of ``nodes`` holds, copies included."""
    rows = {node: rows_elsewhere.get(node, 0) for node in nodes}
    for segment in segments:
        for node in placement.get(segment.segment_id, ()):
            if node in rows:
                rows[node] += segment.row_count
    return rows


def _best_move(
    segments: Sequence[SegmentInfo],
    rows: Mapping[int, int],
    placement: Mapping[int, tuple[int, ...]],
    pinned: Set[int],
) -> tuple[SegmentInfo, int, int] | None:
    """(segment, from, to): of the two nodes that differ most and can be brought together, the
    segment that does it best."""
    for gap, source, target in _gaps(rows):
        if gap * len(rows) <= TOLERANCE * sum(rows.values()):
            return None
        helping = [
            segment
            for segment in segments
            if segment.segment_id not in pinned
            and 0 < segment.row_count < gap
            and source in placement[segment.segment_id]
            and target not in placement[segment.segment_id]
        ]
        if helping:
            best = min(helping, key=lambda s: (abs(2 * s.row_count - gap), s.segment_id))
            return best, source, target
    return None


def _gaps(rows: Mapping[int, int]) -> Iterator[tuple[int, int, int]]:
    """(difference, fuller node, emptier node) of all pairs, the largest first."""
    ordered = sorted(rows, key=lambda node: (-rows[node], node))
    pairs = [(rows[a] - rows[b], a, b) for a, b in combinations(ordered, 2)]
    yield from sorted(pairs, key=lambda pair: -pair[0])
