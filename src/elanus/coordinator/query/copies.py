"""The copies of segments on query nodes that the coordinator believes in.

Each shard knows its own; ``Holders`` knows the same by node, so that what concerns one node costs
what it holds, not what there is.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

S = TypeVar("S")

UNKNOWN = -1
"""Version of a copy whose loading was not answered."""

Key = tuple[int, int]
"""A copy: the segment's id and the node's."""


class Copy(msgspec.Struct, frozen=True, gc=False):
    """What is loaded: which version, with the deletes of files up to which timestamp."""

    version: int
    delta_ts: int


class Holders(Generic[S]):
    """The shards (``S``) whose copies a node has, by node and segment."""

    def __init__(self) -> None:
        self._by_node: dict[int, dict[int, S]] = {}

    def on(self, node_id: int) -> dict[int, S]:
        """The shard of each segment with a copy on the node."""
        return self._by_node.get(node_id, {})

    def add(self, node_id: int, segment_id: int, shard: S) -> None:
        self._by_node.setdefault(node_id, {})[segment_id] = shard

    def remove(self, node_id: int, segment_id: int) -> None:
        held = self._by_node.get(node_id, {})
        held.pop(segment_id, None)
        if not held:
            self._by_node.pop(node_id, None)


class Copies(Generic[S]):
    """One shard's copies."""

    def __init__(self, shard: S, holders: Holders[S]) -> None:
        self._shard = shard
        self._holders = holders
        self._copies: dict[Key, Copy] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._copies

    def __iter__(self) -> Iterator[Key]:
        return iter(self._copies)

    def get(self, key: Key) -> Copy | None:
        return self._copies.get(key)

    def set(self, key: Key, copy: Copy) -> None:
        self._copies[key] = copy
        segment_id, node_id = key
        self._holders.add(node_id, segment_id, self._shard)

    def drop(self, key: Key) -> None:
        if self._copies.pop(key, None) is not None:
            segment_id, node_id = key
            self._holders.remove(node_id, segment_id)

    def by_segment(self) -> dict[int, list[int]]:
        """The nodes with a copy of each segment."""
        nodes: dict[int, list[int]] = {}
        for segment_id, node_id in self._copies:
            nodes.setdefault(segment_id, []).append(node_id)
        return nodes
