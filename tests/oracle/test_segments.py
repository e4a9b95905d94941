"""Random schemas, rows, deletes and filters: growing and sealed segments select and count the rows
that the slow reference passes, at any instant."""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from elanus.engine.filter import compile_filter
from elanus.engine.segment.base import Segment
from elanus.engine.segment.cache import BitmapCache
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import Snapshot
from elanus.model.schema import CollectionSchema
from elanus.model.timestamp import MAX_TIMESTAMP
from tests.oracle import reference
from tests.oracle.profiles import examples
from tests.oracle.strategies import (
    DULL,
    KINDS,
    STRUCT,
    aligned,
    column_values,
    dynamic,
    field,
    filters,
    names_in,
)
from tests.oracle.test_filters import columns_of
from tests.unit.engine.segment.reference import ArrowColumns

PARTS = {name for name in KINDS if name.startswith("c[")}


@st.composite
def histories(draw: st.DrawFn) -> tuple[tuple, CollectionSchema, list[list[dict[str, Any]]], Any]:
    """A filter, a schema of what it reads and some more, batches of rows with keys of their own,
    and (key, timestamp) of deletes."""
    tree = draw(filters.filter(lambda tree: "x" not in names_in(tree)))
    others = draw(st.sets(st.sampled_from([name for name in KINDS if name not in ("k", "x")])))
    names = sorted(names_in(tree) | others | {"id"}, key=lambda name: (name != "id", name))
    required = draw(st.sets(st.sampled_from(names)))
    if required & PARTS:
        required |= PARTS
    fields = tuple(
        msgspec.structs.replace(field(name), nullable=field(name).nullable and name not in required)
        for name in names
    )
    schema = CollectionSchema(
        name="rows",
        fields=fields,
        structs=(STRUCT,) if PARTS & set(names) else (),
        enable_dynamic_field="$meta" in names,
    )
    values = {
        f.name: column_values(f.name).filter(lambda value, f=f: f.nullable or value is not None)
        for f in fields
        if f.name != "id"
    }
    batches = draw(
        st.lists(st.lists(st.fixed_dictionaries(values), max_size=6), min_size=1, max_size=4)
    )
    ids = iter(range(1_000))
    rows = [[DULL | aligned(row) | {"id": next(ids)} for row in batch] for batch in batches]
    deletes = draw(st.lists(st.tuples(st.integers(0, 25), st.integers(1, 10)), max_size=8))
    return tree, schema, rows, deletes


def batch_of(schema: CollectionSchema, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    columns = columns_of(rows)
    return pa.RecordBatch.from_arrays([columns[f.name] for f in schema.fields], schema=schema.arrow)


def segments_of(
    schema: CollectionSchema, batches: list[list[dict[str, Any]]], deletes: Any
) -> list[Segment]:
    growing = GrowingSegment(schema, 1, 10)
    for ts, rows in enumerate(batches, 1):
        growing.append(batch_of(schema, rows), 2 * ts)
    flushed = growing.rows_for_flush() if growing.row_count else None
    segments: list[Segment] = [growing]
    if flushed is not None:
        columns = ArrowColumns(flushed.rows, flushed.timestamps)
        segments.append(SealedSegment(schema, 2, 10, columns, BitmapCache(1 << 20)))
    for segment in segments:
        for key, ts in deletes:
            segment.delete(pa.array([key]), ts)
    return segments


@examples(share=0.25)
@given(history=histories(), read_ts=st.integers(0, 12) | st.just(MAX_TIMESTAMP - 1))
def test_segments_give_the_rows_of_the_reference(
    history: tuple[tuple, CollectionSchema, list[list[dict[str, Any]]], Any], read_ts: int
) -> None:
    tree, schema, batches, deletes = history
    text = reference.render(tree)
    plan = compile_filter(text, schema)
    assert plan is not None
    expected = []
    for number, rows in enumerate(batches, 1):
        inserted = 2 * number
        for row in rows:
            gone = any(key == row["id"] and inserted < ts <= read_ts for key, ts in deletes)
            passes = reference.decide(dynamic(tree), row, KINDS) is True
            if inserted <= read_ts and not gone and passes:
                expected.append(row["id"])
    for segment in segments_of(schema, batches, deletes):
        for _ in range(2):  # the second time from the cache
            found = segment.select(Snapshot(read_ts), plan)
            assert np.asarray(found.keys).tolist() == expected, text
        assert segment.count(Snapshot(read_ts), plan) == len(expected)
