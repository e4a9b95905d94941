"""Where copies of segments go, for any segments, nodes, memories and former placements."""

from hypothesis import given
from hypothesis import strategies as st

from elanus.coordinator.query.fullness import Fullness, Weight
from elanus.coordinator.query.placement import (
    MAX_MOVES,
    TOLERANCE,
    Placement,
    Wanted,
    balance,
    place,
)
from elanus.model.resource_groups import QueryNodeInfo

NODES = st.lists(st.integers(1, 9), min_size=1, max_size=6, unique=True).map(sorted)
MEMORY = st.lists(st.integers(1_000, 9_000), min_size=9, max_size=9)
SIZES = st.lists(st.integers(1, 1000), max_size=12)
REPLICAS = st.integers(1, 4)
ELSEWHERE = st.dictionaries(st.integers(1, 9), st.integers(1, 3000))
EQUAL = [1_000] * 9
ROUNDS = 300


def fullness_of(nodes: list[int], memory: list[int], elsewhere: dict[int, int]) -> Fullness:
    fullness = Fullness()
    set_nodes(fullness, nodes, memory)
    fullness.tell("other", {node: Weight(size, size, 0) for node, size in elsewhere.items()})
    return fullness


def set_nodes(fullness: Fullness, nodes: list[int], memory: list[int]) -> None:
    infos = [QueryNodeInfo(node_id=node, memory_bytes=memory[node - 1]) for node in nodes]
    fullness.set_nodes({"g": infos})


def wanted_of(sizes: list[int], replicas: int, pinned: bool = False) -> Wanted:
    weights = {number: Weight(size, size, 0) for number, size in enumerate(sizes, 1)}
    return Wanted("v", weights, {"g": replicas}, frozenset(weights) if pinned else frozenset())


def settled(wanted: Wanted, current: Placement, fullness: Fullness) -> Placement:
    """What repeated rounds come to."""
    placement = place(wanted, current, fullness)
    for _ in range(ROUNDS):
        moved = balance(wanted, placement, fullness)
        if moved == placement:
            return placement
        placement = moved
    raise AssertionError("segments move for ever")


def shares(wanted: Wanted, placement: Placement, memory: list[int], elsewhere: dict[int, int]):
    """Counted anew from the placement, by node."""
    held = {node: elsewhere.get(node, 0) for node in range(1, 10)}
    for segment_id, nodes in placement.items():
        for node in nodes:
            held[node] += wanted.weights[segment_id].load
    return {node: load / memory[node - 1] for node, load in held.items()}


@given(SIZES, NODES, MEMORY, REPLICAS, ELSEWHERE, st.data())
def test_every_segment_has_its_copies_on_different_live_nodes(
    sizes: list[int],
    nodes: list[int],
    memory: list[int],
    replicas: int,
    elsewhere: dict[int, int],
    data: st.DataObject,
) -> None:
    wanted = wanted_of(sizes, replicas)
    somewhere = st.lists(st.integers(1, 12), max_size=4, unique=True).map(tuple)
    current = {i: data.draw(somewhere) for i in wanted.weights}
    placed = place(wanted, current, fullness_of(nodes, memory, elsewhere))
    rounds = settled(wanted, current, fullness_of(nodes, memory, elsewhere))
    for placement in (placed, rounds):
        assert set(placement) == set(wanted.weights)
        for held in placement.values():
            assert len(held) == len(set(held)) == min(replicas, len(nodes))
            assert set(held) <= set(nodes)
    assert placed == place(wanted, current, fullness_of(nodes, memory, elsewhere))


@given(SIZES, NODES, MEMORY, REPLICAS, ELSEWHERE)
def test_the_sums_are_those_of_what_was_placed(
    sizes: list[int],
    nodes: list[int],
    memory: list[int],
    replicas: int,
    elsewhere: dict[int, int],
) -> None:
    fullness = fullness_of(nodes, memory, elsewhere)
    wanted = wanted_of(sizes, replicas)
    placement = settled(wanted, {}, fullness)
    counted = shares(wanted, placement, memory, elsewhere)
    assert {node: fullness.share(node) for node in nodes} == {n: counted[n] for n in nodes}
    assert list(fullness.emptiest("g")) == sorted(
        nodes, key=lambda n: (counted[n], fullness.total(n).rows, n)
    )
    fullness.forget("v")
    assert {n: fullness.total(n).load for n in nodes} == {n: elsewhere.get(n, 0) for n in nodes}


@given(SIZES, NODES, MEMORY, REPLICAS, ELSEWHERE)
def test_nodes_differ_by_less_than_a_segment_that_could_move(
    sizes: list[int],
    nodes: list[int],
    memory: list[int],
    replicas: int,
    elsewhere: dict[int, int],
) -> None:
    wanted = wanted_of(sizes, replicas)
    fullness = fullness_of(nodes, memory, elsewhere)
    placement = settled(wanted, {}, fullness)
    held = shares(wanted, placement, memory, elsewhere)
    slack = TOLERANCE * fullness.mean("g")
    for fuller in nodes:
        for emptier in nodes:
            movable = [
                wanted.weights[i].load
                for i, on in placement.items()
                if fuller in on and emptier not in on
            ]
            if movable:
                least = min(movable) / min(memory[n - 1] for n in nodes)
                assert held[fuller] - held[emptier] <= max(slack, least) + 1e-9


@given(SIZES, NODES, REPLICAS, st.data())
def test_a_node_that_leaves_moves_nothing_but_its_own_copies(
    sizes: list[int], nodes: list[int], replicas: int, data: st.DataObject
) -> None:
    wanted = wanted_of(sizes, replicas)
    fullness = fullness_of(nodes, EQUAL, {})
    before = settled(wanted, {}, fullness)
    gone = data.draw(st.sampled_from(nodes))
    left = [node for node in nodes if node != gone]
    if not left:
        return
    set_nodes(fullness, left, EQUAL)
    after = place(wanted, before, fullness)
    for segment_id, held in before.items():
        stayed = [node for node in held if node != gone]
        assert list(after[segment_id])[: len(stayed)] == stayed


@given(SIZES, NODES, MEMORY, REPLICAS, ELSEWHERE)
def test_a_round_moves_few_segments_and_never_makes_a_node_fuller_than_the_fullest_was(
    sizes: list[int],
    nodes: list[int],
    memory: list[int],
    replicas: int,
    elsewhere: dict[int, int],
) -> None:
    wanted = wanted_of(sizes, replicas)
    fullness = fullness_of(nodes[:1], memory, elsewhere)
    before = place(wanted, {}, fullness)
    set_nodes(fullness, nodes, memory)
    before = place(wanted, before, fullness)
    held = shares(wanted, before, memory, elsewhere)
    after = balance(wanted, before, fullness)
    moved = [i for i in before if before[i] != after[i]]
    assert len(moved) <= MAX_MOVES
    now = shares(wanted, after, memory, elsewhere)
    grown = [now[n] for n in nodes if now[n] > held[n]]
    assert max(grown, default=0) <= max(held[n] for n in nodes)


@given(SIZES, NODES, REPLICAS)
def test_what_can_not_be_copied_stays_as_it_is(
    sizes: list[int], nodes: list[int], replicas: int
) -> None:
    wanted = wanted_of(sizes, replicas, pinned=True)
    fullness = fullness_of(nodes, EQUAL, {})
    current = dict.fromkeys(wanted.weights, (nodes[0],))
    placed = place(wanted, current, fullness)
    assert placed == current
    assert balance(wanted, placed, fullness) == current


def test_a_new_node_gets_its_share() -> None:
    wanted = wanted_of([100] * 12, 1)
    fullness = fullness_of([1, 2], EQUAL, {})
    before = settled(wanted, {}, fullness)
    set_nodes(fullness, [1, 2, 3], EQUAL)
    after = settled(wanted, before, fullness)
    assert {fullness.total(node).load for node in (1, 2, 3)} == {400}
    assert sum(before[i] != after[i] for i in before) == 4


def test_other_collections_count() -> None:
    placement = settled(wanted_of([100] * 4, 1), {}, fullness_of([1, 2], EQUAL, {1: 400}))
    assert set(placement.values()) == {(2,)}


def test_a_node_with_twice_the_memory_gets_twice_as_much() -> None:
    fullness = fullness_of([1, 2], [1_000, 2_000], {})
    settled(wanted_of([10] * 60, 1), {}, fullness)
    assert [fullness.total(node).load for node in (1, 2)] == [200, 400]


def test_nodes_count_as_equal_if_the_memory_of_one_is_not_known() -> None:
    fullness = fullness_of([1, 2], [0, 2_000], {})
    settled(wanted_of([10] * 60, 1), {}, fullness)
    assert [fullness.total(node).load for node in (1, 2)] == [300, 300]


def test_replicas_stay_in_their_resource_groups() -> None:
    fullness = Fullness()
    groups = {"a": (1, 2), "b": (3,), "c": (4, 5)}
    fullness.set_nodes({g: [QueryNodeInfo(node_id=n) for n in ns] for g, ns in groups.items()})
    weights = {n: Weight(10, 1, 0) for n in range(1, 9)}
    placement = place(Wanted("v", weights, {"a": 1, "b": 1}), {}, fullness)
    assert all(len(set(held) & {1, 2}) == 1 and 3 in held for held in placement.values())
    moved = place(Wanted("v", weights, {"a": 1, "c": 1}), placement, fullness)
    for segment_id, held in moved.items():
        assert held[0] == placement[segment_id][0]
        assert held[1] in groups["c"]
    assert fullness.total(3).load == 0
