"""How much of a query node a segment will take, as metadata and schema say it."""

from collections.abc import Iterable

from elanus.coordinator.context import Context
from elanus.coordinator.query.fullness import Weight
from elanus.coordinator.query.nodes import BY_ROWS
from elanus.engine.segment.footprint import resident_bytes_per_row
from elanus.model.catalog import SegmentInfo
from elanus.model.schema import CollectionSchema


def weights_of(
    context: Context, schema: CollectionSchema, segments: Iterable[SegmentInfo]
) -> dict[int, Weight]:
    """By segment id. A segment's load is its files, indexes too, and what stands beside them in
    memory; with the balancer by rows, its rows."""
    by_rows = context.settings.query_coord.balancer == BY_ROWS
    maps_files = context.objects.maps_files
    row_bytes = resident_bytes_per_row(schema)
    weights = {}
    for segment in segments:
        rows = segment.row_count
        beside = rows * row_bytes
        files = segment.size_bytes + sum(part.size_bytes for part in segment.indexes)
        weights[segment.segment_id] = Weight(
            load=rows if by_rows else files + beside,
            rows=rows,
            resident_bytes=beside if maps_files else beside + files,
        )
    return weights
