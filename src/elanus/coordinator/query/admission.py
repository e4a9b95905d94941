"""Whether there are nodes, and memory, for what a user wants to be loaded."""

from collections.abc import Iterable

from elanus.coordinator.context import Context
from elanus.coordinator.query.fullness import NOTHING
from elanus.coordinator.query.nodes import QueryNodes
from elanus.coordinator.query.weights import weights_of
from elanus.coordinator.records import LoadRecord
from elanus.errors import (
    MemoryLimitExceeded,
    ResourceGroupNodeNotEnough,
    ResourceGroupNotFound,
    ResourceInsufficient,
)
from elanus.model.catalog import CollectionInfo


def check_nodes(nodes: QueryNodes, record: LoadRecord) -> None:
    """Each replica can have nodes of its own. Raises ResourceGroupNotFound,
    ResourceGroupNodeNotEnough, ResourceInsufficient."""
    configs = nodes.configs()
    for group, count in record.copies().items():
        if group not in configs:
            raise ResourceGroupNotFound(group)
        available = len(nodes.members(group))
        if record.resource_groups and count > available:
            raise ResourceGroupNodeNotEnough(group, available, count)
        if count > max(1, available):
            raise ResourceInsufficient(
                f"{count} replicas need as many query nodes, there are {available}: "
                "service resource insufficient"
            )


def check_room(
    context: Context,
    nodes: QueryNodes,
    collection: CollectionInfo,
    record: LoadRecord,
    vchannels: Iterable[str],
) -> None:
    """What has to be in memory fits into that of the nodes, in sum and segment by segment. Mapped
    files don't have to. ``vchannels``: shards whose plans are replaced by this. Raises
    MemoryLimitExceeded."""
    percentage = context.settings.query_coord.overloaded_memory_threshold_percentage
    segments = [
        segment
        for segment in context.catalog.flushed(collection.collection_id)
        if not record.partition_ids or segment.partition_id in record.partition_ids
    ]
    weights = weights_of(context, collection.schema, segments).values()
    needed = sum(weight.resident_bytes for weight in weights)
    largest = max((weight.resident_bytes for weight in weights), default=0)
    given_back = nodes.fullness.planned(vchannels)
    for group, count in record.copies().items():
        room = nodes.fullness.room_bytes(group, percentage / 100)
        if room is None:
            continue
        own = sum(
            given_back.get(node.node_id, NOTHING).resident_bytes for node in nodes.members(group)
        )
        left = sum(max(0, each) for each in room) + own
        if needed * count > left or largest > max(room) + own:
            raise MemoryLimitExceeded(
                f"loading collection {collection.name} needs {needed * count} bytes of memory of "
                f"the query nodes of {group}, {percentage} % of theirs have {max(0, left)} left: "
                f"memory limit exceeded[predict={needed * count}][limit={max(0, left)}]"
            )
