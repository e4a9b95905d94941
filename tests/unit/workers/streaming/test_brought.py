"""Output fields that came with the hits."""

import numpy as np
import pyarrow as pa

from elanus.model.reads import Hits
from elanus.services.messages import SegmentHits
from elanus.workers.streaming.brought import rows_of

FIELDS = [pa.field("value", pa.int64(), nullable=False)]


def brought(offsets: list[int]) -> SegmentHits:
    """As they come from a query node, which doesn't know which fields may be null."""
    found = np.array(offsets)
    rows = pa.record_batch({"value": pa.array([10 * each for each in offsets], pa.int64())})
    count = np.array([len(offsets)])
    scores = found.astype(np.float32)
    stamps, source = found.astype(np.uint64), found * 0 + 7
    return SegmentHits(count, scores, found, stamps, source, found, rows=rows)


def chosen(offsets: list[int]) -> Hits:
    hits = brought(offsets)
    return Hits(hits.counts, hits.scores, hits.keys, hits.timestamps, hits.sources, hits.offsets)


def test_they_have_the_fields_of_the_schema() -> None:
    hits = brought([3, 1, 2])
    for wanted in (hits, chosen([2, 3])):
        rows = rows_of(wanted, [hits], FIELDS)
        assert rows is not None
        assert rows.schema.equals(pa.schema(FIELDS))
        assert rows.column("value").to_pylist() == [10 * each for each in wanted.offsets]


def test_hits_that_came_without_them_have_to_be_asked_for() -> None:
    assert rows_of(chosen([2, 9]), [brought([2])], FIELDS) is None
    assert rows_of(chosen([2]), [], FIELDS) is None
