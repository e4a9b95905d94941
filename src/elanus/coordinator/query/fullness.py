"""How full each query node will be.

Every shard tells its plan in the same step in which it makes it, before it acts on it: so two
shards that plan at the same time don't fill the same node. What a plan changes is added to and
taken from sums, and the nodes of a group are kept in order, so that a plan costs what it changes
and not what there is.

A node's *share* is what it will hold, mapped files included, as a part of its memory. If the memory
of a node of the group is not known, or with ``by_rows``, all nodes count as equally large.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from elanus.model.resource_groups import QueryNodeInfo


class Weight(msgspec.Struct, frozen=True, gc=False):
    """load: what is balanced, bytes or rows. resident_bytes: memory that no file stands behind."""

    load: int
    rows: int
    resident_bytes: int

    def plus(self, other: "Weight") -> "Weight":
        return Weight(
            self.load + other.load,
            self.rows + other.rows,
            self.resident_bytes + other.resident_bytes,
        )

    def minus(self, other: "Weight") -> "Weight":
        return Weight(
            self.load - other.load,
            self.rows - other.rows,
            self.resident_bytes - other.resident_bytes,
        )


NOTHING = Weight(0, 0, 0)

_Entry = tuple[float, int, int]
"""Share, rows, node id."""


class _Group:
    """Nodes in order of their shares."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.load = 0
        self.order: list[_Entry] = []

    @property
    def mean(self) -> float:
        return self.load / self.capacity if self.capacity else 0.0


class Fullness:
    """See the module."""

    def __init__(self, *, by_rows: bool = False) -> None:
        self._by_rows = by_rows
        self._groups: dict[str, _Group] = {}
        self._group_of: dict[int, str] = {}
        self._capacity: dict[int, float] = {}
        self._memory: dict[int, int] = {}
        self._total: dict[int, Weight] = {}
        self._of_shard: dict[str, dict[int, Weight]] = {}
        self._on_node: dict[int, set[str]] = {}
        self.changes = 0
        """Grows with every change of nodes and plans."""

    def set_nodes(self, groups: Mapping[str, Sequence[QueryNodeInfo]]) -> None:
        """The nodes that take segments, by resource group. Plans on others stay counted."""
        self.changes += 1
        self._groups, self._group_of, self._capacity, self._memory = {}, {}, {}, {}
        for name, nodes in groups.items():
            is_known = not self._by_rows and all(node.memory_bytes > 0 for node in nodes)
            for node in nodes:
                self._group_of[node.node_id] = name
                self._capacity[node.node_id] = float(node.memory_bytes if is_known else 1)
                self._memory[node.node_id] = node.memory_bytes
            group = _Group(sum(self._capacity[node.node_id] for node in nodes))
            group.load = sum(self.total(node.node_id).load for node in nodes)
            group.order = sorted(self._entry(node.node_id) for node in nodes)
            self._groups[name] = group
        used = {node for node, shards in self._on_node.items() if shards}
        self._total = {n: w for n, w in self._total.items() if n in used or n in self._group_of}

    # --- what there is --------------------------------------------------------------------------

    def group_of(self, node_id: int) -> str | None:
        """The resource group of a node that takes segments."""
        return self._group_of.get(node_id)

    def total(self, node_id: int) -> Weight:
        return self._total.get(node_id, NOTHING)

    def share(self, node_id: int) -> float:
        return self.total(node_id).load / self._capacity[node_id]

    def share_after(self, node_id: int, change: int) -> float:
        """The share with ``change`` more, or less, of load."""
        return (self.total(node_id).load + change) / self._capacity[node_id]

    def emptiest(self, group: str) -> Iterator[int]:
        """Nodes of the group, the emptiest first, as long as nothing is planned meanwhile."""
        found = self._groups.get(group)
        return (node_id for _, _, node_id in found.order) if found is not None else iter(())

    def mean(self, group: str) -> float:
        found = self._groups.get(group)
        return found.mean if found is not None else 0.0

    def is_uneven(self, group: str, tolerance: float) -> bool:
        """Whether two nodes of the group differ by more than this part of what one has on
        average."""
        found = self._groups.get(group)
        if found is None or len(found.order) < 2:
            return False
        return found.order[-1][0] - found.order[0][0] > tolerance * found.mean

    def room_bytes(self, group: str, threshold: float) -> list[int] | None:
        """Memory that is left of ``threshold`` of each node's; None if it is not known."""
        found = self._groups.get(group)
        nodes = [node_id for _, _, node_id in found.order] if found is not None else []
        if not nodes or any(self._memory[node_id] <= 0 for node_id in nodes):
            return None
        return [
            int(threshold * self._memory[node_id]) - self.total(node_id).resident_bytes
            for node_id in nodes
        ]

    def planned(self, vchannels: Iterable[str]) -> dict[int, Weight]:
        """What these shards have or will have, by node."""
        sums: dict[int, Weight] = {}
        for vchannel in vchannels:
            for node_id, weight in self._of_shard.get(vchannel, {}).items():
                sums[node_id] = sums.get(node_id, NOTHING).plus(weight)
        return sums

    # --- plans ----------------------------------------------------------------------------------

    def tell(self, vchannel: str, planned: Mapping[int, Weight]) -> None:
        """All that a shard will have where, instead of what it told before."""
        before = self._of_shard.get(vchannel, {})
        for node_id, weight in before.items():
            if planned.get(node_id) != weight:
                self._change(node_id, NOTHING.minus(weight))
                if node_id not in planned:
                    self._leave(vchannel, node_id)
        for node_id, weight in planned.items():
            if before.get(node_id) != weight:
                self._change(node_id, weight)
                self._on_node.setdefault(node_id, set()).add(vchannel)
        self._of_shard[vchannel] = dict(planned)

    def add(self, vchannel: str, node_id: int, weight: Weight) -> None:
        """One more copy of the shard on the node."""
        mine = self._of_shard.setdefault(vchannel, {})
        mine[node_id] = mine.get(node_id, NOTHING).plus(weight)
        self._on_node.setdefault(node_id, set()).add(vchannel)
        self._change(node_id, weight)

    def remove(self, vchannel: str, node_id: int, weight: Weight) -> None:
        """One copy less."""
        mine = self._of_shard[vchannel]
        left = mine[node_id].minus(weight)
        if left == NOTHING:
            del mine[node_id]
            self._leave(vchannel, node_id)
        else:
            mine[node_id] = left
        self._change(node_id, NOTHING.minus(weight))

    def forget(self, vchannel: str) -> None:
        """The shard has nothing anywhere."""
        self.tell(vchannel, {})
        self._of_shard.pop(vchannel, None)

    def _leave(self, vchannel: str, node_id: int) -> None:
        shards = self._on_node[node_id]
        shards.discard(vchannel)
        if not shards:
            del self._on_node[node_id]

    def _entry(self, node_id: int) -> _Entry:
        return self.share(node_id), self.total(node_id).rows, node_id

    def _change(self, node_id: int, change: Weight) -> None:
        self.changes += 1
        group = self._groups.get(self._group_of.get(node_id, ""))
        if group is None:
            self._total[node_id] = self.total(node_id).plus(change)
            return
        del group.order[bisect_left(group.order, self._entry(node_id))]
        self._total[node_id] = self.total(node_id).plus(change)
        insort(group.order, self._entry(node_id))
        group.load += change.load
