"""Where copies of segments go, for any segments, nodes and former placements."""

from hypothesis import given
from hypothesis import strategies as st

from elanus.coordinator.query.placement import (
    MAX_MOVES,
    TOLERANCE,
    Placement,
    balance,
    place,
    rows_by_node,
)
from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentLevel, SegmentState

NODES = st.lists(st.integers(1, 9), min_size=1, max_size=6, unique=True).map(sorted)
ROWS = st.lists(st.integers(1, 1000), max_size=12)
REPLICAS = st.integers(1, 4)
ELSEWHERE = st.dictionaries(st.integers(1, 9), st.integers(0, 3000))
ROUNDS = 200


def segments_of(rows: list[int]) -> list[SegmentInfo]:
    return [
        SegmentInfo(
            segment_id=number,
            collection_id=1,
            partition_id=1,
            vchannel="v",
            state=SegmentState.FLUSHED,
            level=SegmentLevel.L1,
            row_count=count,
            min_ts=1,
            max_ts=1,
            manifest_key="",
            size_bytes=count,
        )
        for number, count in enumerate(rows, 1)
    ]


def settled(
    segments: list[SegmentInfo],
    nodes: list[int],
    current: Placement,
    elsewhere: dict[int, int],
    replicas: int,
) -> Placement:
    """What repeated rounds come to."""
    placement = place(segments, nodes, current, elsewhere, replicas)
    for _ in range(ROUNDS):
        moved = balance(segments, nodes, placement, elsewhere)
        if moved == placement:
            return placement
        placement = moved
    raise AssertionError("segments move for ever")


@given(ROWS, NODES, REPLICAS, ELSEWHERE, st.data())
def test_every_segment_has_its_copies_on_different_live_nodes(
    rows: list[int], nodes: list[int], replicas: int, elsewhere: dict[int, int], data: st.DataObject
) -> None:
    segments = segments_of(rows)
    somewhere = st.lists(st.integers(1, 12), max_size=4, unique=True).map(tuple)
    current = {s.segment_id: data.draw(somewhere) for s in segments}
    placed = place(segments, nodes, current, elsewhere, replicas)
    for placement in (placed, settled(segments, nodes, current, elsewhere, replicas)):
        assert set(placement) == {s.segment_id for s in segments}
        for held in placement.values():
            assert len(held) == len(set(held)) == min(replicas, len(nodes))
            assert set(held) <= set(nodes)
    assert placed == place(segments, nodes, current, elsewhere, replicas)


@given(ROWS, NODES, REPLICAS, ELSEWHERE)
def test_nodes_differ_by_less_than_a_segment_that_could_move(
    rows: list[int], nodes: list[int], replicas: int, elsewhere: dict[int, int]
) -> None:
    segments = segments_of(rows)
    placement = settled(segments, nodes, {}, elsewhere, replicas)
    held = rows_by_node(segments, nodes, placement, elsewhere)
    slack = TOLERANCE * sum(held.values()) / len(nodes)
    for fuller in nodes:
        for emptier in nodes:
            movable = [
                s.row_count
                for s in segments
                if fuller in placement[s.segment_id] and emptier not in placement[s.segment_id]
            ]
            if movable:
                assert held[fuller] - held[emptier] <= max(slack, min(movable))


@given(ROWS, NODES, REPLICAS, st.data())
def test_a_node_that_leaves_moves_nothing_but_its_own_copies(
    rows: list[int], nodes: list[int], replicas: int, data: st.DataObject
) -> None:
    segments = segments_of(rows)
    before = settled(segments, nodes, {}, {}, replicas)
    gone = data.draw(st.sampled_from(nodes))
    left = [node for node in nodes if node != gone]
    if not left:
        return
    after = place(segments, left, before, {}, replicas)
    for segment_id, held in before.items():
        stayed = [node for node in held if node != gone]
        assert list(after[segment_id])[: len(stayed)] == stayed


@given(ROWS, NODES, REPLICAS, ELSEWHERE)
def test_a_round_moves_few_segments_and_never_one_back(
    rows: list[int], nodes: list[int], replicas: int, elsewhere: dict[int, int]
) -> None:
    segments = segments_of(rows)
    before = place(segments, nodes[:1], {}, elsewhere, replicas)
    before = place(segments, nodes, before, elsewhere, replicas)
    after = balance(segments, nodes, before, elsewhere)
    assert sum(before[i] != after[i] for i in before) <= MAX_MOVES

    def unevenness(placement: Placement) -> int:
        return sum(n * n for n in rows_by_node(segments, nodes, placement, elsewhere).values())

    assert after == before or unevenness(after) < unevenness(before)


@given(ROWS, NODES, REPLICAS)
def test_what_can_not_be_copied_stays_as_it_is(
    rows: list[int], nodes: list[int], replicas: int
) -> None:
    segments = segments_of(rows)
    pinned = {s.segment_id for s in segments}
    current = dict.fromkeys(pinned, (nodes[0],))
    placed = place(segments, nodes, current, {}, replicas, pinned)
    assert placed == current
    assert balance(segments, nodes, placed, {}, pinned) == current


def test_a_new_node_gets_its_share() -> None:
    segments = segments_of([100] * 12)
    before = settled(segments, [1, 2], {}, {}, 1)
    after = settled(segments, [1, 2, 3], before, {}, 1)
    held = rows_by_node(segments, [1, 2, 3], after, {})
    assert set(held.values()) == {400}
    assert sum(before[i] != after[i] for i in before) == 4


def test_other_collections_count() -> None:
    segments = segments_of([100] * 4)
    placement = settled(segments, [1, 2], {}, {1: 400}, 1)
    assert set(placement.values()) == {(2,)}
