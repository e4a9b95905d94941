"""take(): the asked columns of the asked rows in the asked order, also of fields added later."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from tests.unit.engine.segment.reference import DIM, ArrowColumns, batch_of, schema_with

from elanus.engine.filter.compile import compile_filter
from elanus.engine.segment.base import Segment
from elanus.engine.segment.cache import BitmapCache
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import Snapshot
from elanus.model.schema import FieldSchema
from elanus.model.types import DataType

SCHEMA = schema_with(DataType.INT64)
VECTORS = np.arange(3_000 * DIM, dtype=np.float32).reshape(-1, DIM)


def in_chunks() -> tuple[GrowingSegment, pa.Table]:
    """3,000 rows in batches of very different size."""
    segment = GrowingSegment(SCHEMA, 1, 10)
    batches = []
    start = 0
    for ts, size in enumerate([1, 1, 1, 900, 1, 1, 1_500, 595], 1):
        keys = list(range(start, start + size))
        batches.append(batch_of(SCHEMA, keys, VECTORS[start : start + size]))
        segment.append(batches[-1], ts)
        start += size
    return segment, pa.Table.from_batches(batches)


def sealed_from(segment: GrowingSegment) -> SealedSegment:
    flushed = segment.rows_for_flush()
    return SealedSegment(SCHEMA, 1, 10, ArrowColumns(flushed.rows, flushed.timestamps))


@pytest.mark.parametrize("sealed", [False, True])
def test_take_gathers_rows_in_any_order_from_any_chunk(sealed: bool) -> None:
    growing, table = in_chunks()
    segment: Segment = sealed_from(growing) if sealed else growing
    offsets = np.random.default_rng(0).permutation(3_000)[:500]
    names = ["vector", "number", "$meta", "pk", "text"]
    taken = segment.take(offsets, names)
    assert taken.schema.names == names
    expected = table.take(pa.array(offsets)).select(names)
    assert pa.Table.from_batches([taken]).cast(expected.schema).equals(expected)
    assert segment.take(offsets[:0], names).num_rows == 0


@pytest.mark.parametrize("sealed", [False, True])
def test_fields_added_later_read_as_default_or_null(sealed: bool) -> None:
    growing, _ = in_chunks()
    segment = sealed_from(growing) if sealed else growing
    added = (
        FieldSchema(name="size", data_type=DataType.INT64, nullable=True),
        FieldSchema(name="grade", data_type=DataType.DOUBLE, nullable=True, default_value=2.5),
    )
    segment.schema = msgspec.structs.replace(SCHEMA, fields=(*SCHEMA.fields, *added), version=1)
    taken = segment.take(np.array([5, 0]), ["size", "grade"])
    assert taken.to_pylist() == [{"size": None, "grade": 2.5}] * 2
    at = Snapshot(100)
    assert segment.count(at, compile_filter("grade == 2.5", segment.schema)) == 3_000
    assert segment.count(at, compile_filter("size is null", segment.schema)) == 3_000
    assert segment.count(at, compile_filter("size > 0", segment.schema)) == 0


def test_a_growing_segment_refuses_time_that_runs_backwards() -> None:
    segment, _ = in_chunks()
    with pytest.raises(ValueError, match="can't append at 3"):
        segment.append(batch_of(SCHEMA, [1], VECTORS[:1]), 3)


def test_the_arriving_buffer_is_not_kept_alive() -> None:
    keys = list(range(1_000))
    batch = batch_of(SCHEMA, keys, np.zeros((1_000, DIM), np.float32))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    pool = pa.default_memory_pool()
    buffer = pa.py_buffer(sink.getvalue().to_pybytes() + bytes(1 << 22))
    segment = GrowingSegment(SCHEMA, 1, 10)
    arrived = pa.ipc.open_stream(buffer).read_next_batch()
    segment.append(arrived, 1)
    addresses = {
        part.address
        for name in ("pk", "number", "text", "$meta")
        for part in segment._state.chunks[0].rows.column(name).buffers()
        if part is not None
    }
    low, high = buffer.address, buffer.address + buffer.size
    assert not [address for address in addresses if low <= address < high]
    assert pool.bytes_allocated() > 0


def test_filter_bitmaps_are_reused_and_bounded() -> None:
    growing, _ = in_chunks()
    flushed = growing.rows_for_flush()
    cache = BitmapCache(2_500)
    segment = SealedSegment(SCHEMA, 1, 10, ArrowColumns(flushed.rows, flushed.timestamps), cache)
    for bound in range(6):
        plan = compile_filter(f"number >= {bound}", SCHEMA)
        first = segment.count(Snapshot(100), plan)
        assert segment.count(Snapshot(100), plan) == first
        assert 0 < cache.used_bytes <= cache.limit_bytes
    segment.release()
    assert cache.used_bytes == 0


def test_a_filter_that_no_row_can_pass_reads_no_column() -> None:
    class Unread(ArrowColumns):
        def column(self, name: str) -> pa.Array:
            raise AssertionError(f"{name} is read")

        def bounds(self, name: str) -> tuple[int, int] | None:
            return (0, 6) if name == "number" else None

    growing, _ = in_chunks()
    flushed = growing.rows_for_flush()
    segment = SealedSegment(SCHEMA, 1, 10, Unread(flushed.rows, flushed.timestamps))
    plan = compile_filter("number > 6 and text like '%5%'", SCHEMA)
    assert segment.count(Snapshot(100), plan) == 0
    with pytest.raises(AssertionError, match="number is read"):
        segment.count(Snapshot(100), compile_filter("number > 5", SCHEMA))
