"""Output fields that came along with the hits of a search, which saves a second call."""

from collections.abc import Sequence

import pyarrow as pa

from elanus.model.reads import Hits
from elanus.services.messages import SegmentHits
from elanus.workers.gather import with_fields


def rows_of(
    hits: Hits, brought: Sequence[SegmentHits], fields: Sequence[pa.Field]
) -> pa.RecordBatch | None:
    """The output ``fields`` of ``hits`` if a query node has sent them along with all of these."""
    if not fields or len(brought) != 1 or brought[0].rows is None:
        return None
    source, rows = brought[0], brought[0].rows
    if hits is source:
        return with_fields(rows.columns, fields)
    places = {
        place: row
        for row, place in enumerate(
            zip(source.sources.tolist(), source.offsets.tolist(), strict=True)
        )
    }
    wanted = zip(hits.sources.tolist(), hits.offsets.tolist(), strict=True)
    taken = [places.get(place, -1) for place in wanted]
    if -1 in taken:
        return None  # some are growing
    return with_fields(rows.take(pa.array(taken, pa.int64())).columns, fields)
