"""The sealed segments that a read of some partitions looks at.

Reads of one view ask for the same few choices of partitions again and again, so what a choice has
is worked out once: to look through all segments for each read would cost each of them.
"""

import msgspec

from elanus.errors import PartitionNotLoaded
from elanus.services.messages import QueryView

MAX_CHOICES = 64
"""Of partitions, that are remembered of a view."""


class SealedChoice(msgspec.Struct, frozen=True):
    """The sealed part of a view for some partitions. chosen: these, empty means all. segment_ids:
    their segments; every_id: those of all partitions. only_node: the query node that alone has
    copies of the former, if there is one."""

    chosen: frozenset[int]
    segment_ids: tuple[int, ...]
    every_id: tuple[int, ...]
    only_node: int | None


class SealedChoices:
    """Those of the newest view of a shard, as long as its partitions are the same."""

    def __init__(self) -> None:
        self._view: QueryView | None = None
        self._partition_ids: frozenset[int] = frozenset()
        self._known: dict[tuple[int, ...], SealedChoice] = {}

    def of(
        self, view: QueryView, partition_ids: frozenset[int], wanted: tuple[int, ...]
    ) -> SealedChoice:
        """partition_ids: those that the shard has. wanted: empty means all that the view has.
        Raises PartitionNotLoaded."""
        is_old = self._view is not view or self._partition_ids != partition_ids
        if is_old or len(self._known) >= MAX_CHOICES:
            self._view, self._partition_ids = view, partition_ids
            self._known.clear()
        known = self._known.get(wanted)
        if known is None:
            known = self._known[wanted] = _choose(view, partition_ids, wanted)
        return known


def _choose(
    view: QueryView, partition_ids: frozenset[int], wanted: tuple[int, ...]
) -> SealedChoice:
    loaded = view.partition_ids
    missing = [each for each in wanted if each not in loaded] if loaded else []
    if missing:
        raise PartitionNotLoaded(missing[0])
    chosen = frozenset(wanted or loaded)
    # A view that was made while a partition was dropped may still name its segments.
    sealed = [each for each in view.sealed if each.partition_id in partition_ids]
    segment_ids = tuple(
        each.segment_id for each in sealed if not chosen or each.partition_id in chosen
    )
    nodes = {node_id for each in segment_ids for node_id in view.placement[each]}
    return SealedChoice(
        chosen,
        segment_ids,
        tuple(each.segment_id for each in sealed),
        nodes.pop() if len(nodes) == 1 else None,
    )
