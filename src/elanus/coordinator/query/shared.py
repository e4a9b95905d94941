"""What all loaded shards have in common."""

import asyncio
from typing import Any

from elanus.coordinator.context import Context
from elanus.coordinator.query.copies import Holders
from elanus.coordinator.query.load_queue import LoadQueue
from elanus.coordinator.query.nodes import QueryNodes
from elanus.coordinator.streaming.channels import Channels


class Shared:
    """``turns``: held by the shard that plans. ``holders``: shards by what is on the nodes."""

    def __init__(self, context: Context, channels: Channels) -> None:
        self.context = context
        self.channels = channels
        self.nodes = QueryNodes(context)
        self.queue = LoadQueue(context.world, context.settings.query_coord.task_execution_cap)
        self.holders: Holders[Any] = Holders()
        self.turns = asyncio.Lock()

    def is_uneven(self, group: str) -> bool:
        """Whether segments of the group should move."""
        settings = self.context.settings.query_coord
        tolerance = settings.score_unbalance_toleration_factor
        return settings.auto_balance and self.nodes.fullness.is_uneven(group, tolerance)
