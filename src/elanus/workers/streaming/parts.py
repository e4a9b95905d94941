"""What one read of a shard looks at, chosen in one step."""

from elanus.engine.segment.base import Segment
from elanus.errors import PartitionNotLoaded
from elanus.model.reads import Snapshot
from elanus.services.messages import QueryRequest, SearchRequest
from elanus.workers.streaming.replicas import Copies
from elanus.workers.streaming.shard import ReadParts, Shard


class Parts:
    """Growing segments, and sealed ones with their copies, of the partitions that are asked for;
    ``all_…``: of every partition. ``deadline_s``: of the clock's ``monotonic_s``."""

    def __init__(
        self,
        shard: Shard,
        parts: ReadParts,
        request: SearchRequest | QueryRequest,
        snapshot: Snapshot,
        deadline_s: float | None,
    ) -> None:
        loaded = parts.view.partition_ids
        wanted = request.partition_ids
        if loaded and wanted and not set(wanted) <= set(loaded):
            missing = next(each for each in wanted if each not in loaded)
            raise PartitionNotLoaded(missing)
        chosen = frozenset(wanted or loaded)
        self.snapshot = snapshot
        self.growing: list[Segment] = [
            growing.segment
            for growing in parts.growing
            if not request.ignore_growing and (not chosen or growing.partition_id in chosen)
        ]
        self.sealed = [
            segment.segment_id
            for segment in parts.view.sealed
            if not chosen or segment.partition_id in chosen
        ]
        self.all_growing: list[Segment] = [growing.segment for growing in parts.growing]
        self.all_sealed = [segment.segment_id for segment in parts.view.sealed]
        self.deadline_s = deadline_s
        self.copies = Copies(shard.vchannel, parts.view.placement, shard.lost_nodes)
        self.schema = shard.collection.schema
