"""Which query nodes hold which segments: the same answer to the same question.

A segment has as many copies in each resource group as wanted, each on another node, or as many as
the group has nodes. What is there stays (``place``); then the fullest nodes give to the emptiest
(``balance``). Each move leaves both of its nodes below what the fuller one was, so a series of
moves ends, and none is taken back.

The functions change nothing but the sums of ``Fullness``, to which they tell what they decide.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from elanus.coordinator.query.fullness import NOTHING, Fullness, Weight

Placement = dict[int, tuple[int, ...]]
"""Segment id → ids of the query nodes that hold a copy, by group, the first one the longest."""

TOLERANCE = 0.05
"""Difference of two nodes, as a part of what a node has on average, that isn't worth a move."""

MAX_MOVES = 4
"""Segments of one shard that move at the same time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a shard is to have. weights: of its segments, by id. copies: number of replicas by
    resource group. pinned: segments that can't be copied anew."""

    vchannel: str
    weights: Mapping[int, Weight]
    copies: Mapping[str, int]
    pinned: Set[int] = frozenset()


def place(wanted: Wanted, current: Mapping[int, Sequence[int]], fullness: Fullness) -> Placement:
    """Copies stay where they are; what is missing goes, largest segments first, to the nodes with
    the smallest share, then the fewest rows, then the lowest id.

    current: nodes that hold a segment now, those to be kept first.
    """
    placement: Placement = {}
    loads: dict[int, Weight] = {}
    total = sum(wanted.copies.values())
    missing = []
    for segment_id, weight in wanted.weights.items():
        held = _kept(current.get(segment_id, ()), wanted.copies, fullness)
        placement[segment_id] = held
        for node_id in held:
            loads[node_id] = loads.get(node_id, NOTHING).plus(weight)
        if len(held) < total and segment_id not in wanted.pinned:
            missing.append(segment_id)
    fullness.tell(wanted.vchannel, loads)
    for segment_id in sorted(missing, key=lambda i: (-wanted.weights[i].load, i)):
        placement[segment_id] = _completed(wanted, segment_id, placement[segment_id], fullness)
    return placement


def balance(
    wanted: Wanted, placement: Placement, fullness: Fullness, tolerance: float = TOLERANCE
) -> Placement:
    """The placement after at most MAX_MOVES moves that help; the same one if none does."""
    uneven = [group for group in wanted.copies if fullness.is_uneven(group, tolerance)]
    if not uneven:
        return placement
    balanced = dict(placement)
    on_node: dict[int, list[int]] = {}
    for segment_id, nodes in placement.items():
        if segment_id not in wanted.pinned:
            for node_id in nodes:
                on_node.setdefault(node_id, []).append(segment_id)
    for _ in range(MAX_MOVES):
        moves = (_best_move(wanted, g, balanced, on_node, fullness, tolerance) for g in uneven)
        move = next((each for each in moves if each is not None), None)
        if move is None:
            break
        segment_id, source, target = move
        on_node[source].remove(segment_id)
        on_node.setdefault(target, []).append(segment_id)
        balanced[segment_id] = (*(n for n in balanced[segment_id] if n != source), target)
        fullness.remove(wanted.vchannel, source, wanted.weights[segment_id])
        fullness.add(wanted.vchannel, target, wanted.weights[segment_id])
    return balanced


def same_nodes(one: Placement, other: Placement) -> bool:
    """Whether two placements of the same segments differ in order at most."""
    return all(held == other[i] or set(held) == set(other[i]) for i, held in one.items())


def _kept(nodes: Sequence[int], copies: Mapping[str, int], fullness: Fullness) -> tuple[int, ...]:
    """Those of the nodes that may keep their copy, by group."""
    by_group: dict[str, list[int]] = {group: [] for group in copies}
    for node_id in nodes:
        group = fullness.group_of(node_id)
        if group in by_group and len(by_group[group]) < copies[group]:
            by_group[group].append(node_id)
    return tuple(node_id for kept in by_group.values() for node_id in kept)


def _completed(
    wanted: Wanted, segment_id: int, held: tuple[int, ...], fullness: Fullness
) -> tuple[int, ...]:
    nodes: list[int] = []
    for group, count in wanted.copies.items():
        mine = [node_id for node_id in held if fullness.group_of(node_id) == group]
        while len(mine) < count:
            chosen = next((n for n in fullness.emptiest(group) if n not in mine), None)
            if chosen is None:
                break
            mine.append(chosen)
            fullness.add(wanted.vchannel, chosen, wanted.weights[segment_id])
        nodes += mine
    return tuple(nodes)


def _best_move(
    wanted: Wanted,
    group: str,
    placement: Placement,
    on_node: Mapping[int, Sequence[int]],
    fullness: Fullness,
    tolerance: float,
) -> tuple[int, int, int] | None:
    """(segment, from, to): from the fullest node that has something to give, to the emptiest that
    can take it, the segment that brings them together best. ``on_node``: what may move, by node."""
    slack = tolerance * fullness.mean(group)
    least = fullness.share(next(fullness.emptiest(group)))
    sources = [
        (-fullness.share(node_id), node_id)
        for node_id in on_node
        if fullness.group_of(node_id) == group and fullness.share(node_id) - least > slack
    ]
    for negative, source in sorted(sources):
        share = -negative
        best: tuple[float, int, int] | None = None
        for segment_id in on_node[source]:
            held = placement[segment_id]
            target = next((n for n in fullness.emptiest(group) if n not in held), None)
            if target is None or share - fullness.share(target) <= slack:
                continue
            load = wanted.weights[segment_id].load
            after = max(fullness.share_after(source, -load), fullness.share_after(target, load))
            if after < share and (best is None or (after, segment_id) < best[:2]):
                best = after, segment_id, target
        if best is not None:
            return best[1], source, best[2]
    return None
