"""What one read of a shard looks at, chosen in one step."""

from elanus.engine.segment.base import Segment
from elanus.errors import Unavailable
from elanus.model.reads import Snapshot
from elanus.model.timestamp import compose, physical_ms
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
        view = parts.view
        choice = shard.sealed_choices.of(view, shard.partition_ids, request.partition_ids)
        chosen = choice.chosen
        self.snapshot = snapshot
        self.growing: list[Segment] = [
            growing.segment
            for growing in parts.growing
            if not request.ignore_growing and (not chosen or growing.partition_id in chosen)
        ]
        self.sealed = choice.segment_ids
        self.all_growing: list[Segment] = [growing.segment for growing in parts.growing]
        self.all_sealed = choice.every_id
        self.deadline_s = deadline_s
        self.copies = Copies(shard.vchannel, view.placement, shard.lost_nodes, choice.only_node)
        self.schema = shard.collection.schema


def expiry_ts(now_ts: int, ttl_seconds: int) -> int:
    """Rows with an insert ts up to this one have expired at ``now_ts``."""
    if ttl_seconds <= 0:
        return 0
    return compose(max(0, physical_ms(now_ts) - ttl_seconds * 1000))


def check_fields(shard: Shard, request: SearchRequest | QueryRequest) -> None:
    """A field that was added just now may be asked for before the shard has heard of it."""
    known = shard.collection.schema.by_name
    wanted = [*request.output_fields, *(request.plan.fields if request.plan else ())]
    if isinstance(request, SearchRequest) and request.query.grouping is not None:
        wanted.append(request.query.grouping.field_name)
    if [name for name in wanted if name not in known]:
        raise Unavailable(f"the schema of {shard.vchannel} is being changed, try again")
