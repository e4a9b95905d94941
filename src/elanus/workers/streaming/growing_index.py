"""Keeps the interim indexes of growing segments up with their rows, while the shard is loaded.

One build at a time for a segment, in a compute thread; searches go on with what there is and scan
the rows behind it. Below a few thousand rows, and for fields whose index is FLAT, nothing is built.
"""

from collections.abc import Iterator

from elanus.model.types import MetricType
from elanus.runtime.world import World
from elanus.workers.streaming.shard import Growing, Shard


class GrowingIndexer:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world

    def consider(self, shard: Shard) -> None:
        """Rows came, or the shard was loaded: start the builds that are due."""
        if shard.view is None:
            return
        for growing in shard.growing.values():
            if not growing.is_indexing and next(_due(shard, growing), None) is not None:
                growing.is_indexing = True
                self._world.tasks.spawn(
                    f"interim index {growing.segment_id}", self._build(shard, growing)
                )

    async def _build(self, shard: Shard, growing: Growing) -> None:
        try:
            while not shard.closed and growing.segment_id in shard.growing:
                work = next(_due(shard, growing), None)
                if work is None:
                    return
                await self._world.executor.run("compute", growing.segment.build_interim, *work)
        finally:
            growing.is_indexing = False


def _due(shard: Shard, growing: Growing) -> Iterator[tuple[str, MetricType]]:
    """(field, metric) of the interim indexes that are worth building."""
    for index in shard.indexes:
        field = shard.collection.schema.by_name.get(index.field_name)
        if field is None or not field.data_type.is_vector:
            continue
        if index.metric_type is None or not index.has_file:
            continue
        if growing.segment.index_pending(index.field_name):
            yield index.field_name, index.metric_type
