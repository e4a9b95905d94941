"""Any history of inserts, upserts and deletes, read at any instant: growing and sealed segments
answer what the row-by-row reference answers."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.segment.reference import (
    DIM,
    ArrowColumns,
    Reference,
    batch_of,
    listed,
    schema_with,
)

from elanus.engine.filter.compile import compile_filter
from elanus.engine.reduce import merge_rows
from elanus.engine.segment.base import Segment
from elanus.engine.segment.cache import BitmapCache
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import Snapshot, VectorQuery
from elanus.model.schema import arrow_type
from elanus.model.types import DENSE_METRICS, DataType, MetricType

key_numbers = st.lists(st.integers(0, 30), min_size=1, max_size=12)
writes = st.lists(
    st.tuples(st.sampled_from(["insert", "upsert", "delete"]), key_numbers), max_size=14
)
reads = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 8), st.booleans()), min_size=1, max_size=4
)


def key_of(number: int, kind: DataType) -> Any:
    return number if kind is DataType.INT64 else f"key {number:03d}"


def build(kind: DataType, history: Any, seed: int) -> tuple[Reference, list[Segment]]:
    """The reference, the growing segment, and its sealed copy with deletes applied afterwards, in
    another order."""
    schema = schema_with(kind)
    random = np.random.default_rng(seed)
    reference, growing = Reference(), GrowingSegment(schema, 1, 10)
    deletes: list[tuple[pa.Array, int]] = []
    for ts, (action, numbers) in enumerate(history, 1):
        keys = [key_of(number, kind) for number in numbers]
        if action == "upsert":
            keys = sorted(set(keys))
        if action != "insert":
            array = pa.array(keys, arrow_type(schema.primary))
            deletes.append((array, ts))
            assert growing.delete(array, ts) == reference.delete(keys, ts)
        if action != "delete":
            # Few distinct vectors, so that scores tie; zero vectors too.
            vectors = random.integers(-1, 2, (len(keys), DIM)).astype(np.float32)
            batch = batch_of(schema, keys, vectors)
            growing.append(batch, ts)
            reference.append(batch, ts)
    flushed = growing.rows_for_flush() if growing.row_count else None
    if flushed is None:
        return reference, [growing]
    columns = ArrowColumns(flushed.rows, flushed.timestamps)
    sealed = SealedSegment(schema, 1, 10, columns, BitmapCache(1 << 16))
    for array, ts in reversed(deletes):
        sealed.delete(array, ts)
    return reference, [growing, sealed]


@pytest.mark.parametrize("kind", [DataType.INT64, DataType.VARCHAR])
@settings(max_examples=60, deadline=None)
@given(history=writes, instants=reads, seed=st.integers(0, 99))
def test_reads_at_any_instant_equal_the_reference(
    kind: DataType, history: Any, instants: Any, seed: int
) -> None:
    reference, segments = build(kind, history, seed)
    plan = compile_filter("number >= 2", schema_with(kind))
    for read_ts, expired, filtered in instants:
        snapshot = Snapshot(read_ts, min(expired, read_ts))
        expected = reference.visible(snapshot, 2 if filtered else None)
        wanted = sorted((row.key, row.ts) for row in expected)
        for segment in segments:
            used = plan if filtered else None
            assert segment.count(snapshot, used) == len(expected)
            assert listed(segment.select(snapshot, used)) == wanted
            assert listed(segment.select(snapshot, used, 3)) == wanted[:3]
            latest = dict(wanted)
            assert listed(merge_rows([segment.select(snapshot, used)], None)) == list(
                latest.items()
            )


@pytest.mark.parametrize("kind", [DataType.INT64, DataType.VARCHAR])
@pytest.mark.parametrize("metric", DENSE_METRICS)
@settings(max_examples=25, deadline=None)
@given(
    history=writes,
    instant=st.integers(0, 14),
    seed=st.integers(0, 99),
    nq=st.sampled_from([1, 2, 5]),
    top_k=st.integers(1, 40),
    filtered=st.booleans(),
)
def test_searches_equal_the_reference(
    kind: DataType,
    metric: MetricType,
    history: Any,
    instant: int,
    seed: int,
    nq: int,
    top_k: int,
    filtered: bool,
) -> None:
    reference, segments = build(kind, history, seed)
    snapshot = Snapshot(instant)
    plan = compile_filter("number >= 2", schema_with(kind)) if filtered else None
    rows = reference.visible(snapshot, 2 if filtered else None)
    queries = np.random.default_rng(seed + 1).integers(-1, 2, (nq, DIM)).astype(np.float32)
    for segment in segments:
        hits = segment.search(VectorQuery("vector", metric, queries, top_k), snapshot, plan)
        assert hits.counts.tolist() == [min(top_k, len(rows))] * nq
        found = listed(hits)
        for number, query in enumerate(queries):
            scores = reference.scores(rows, query, metric)
            sign = -1 if metric.larger_is_better else 1
            start, end = int(hits.counts[:number].sum()), int(hits.counts[: number + 1].sum())
            best = sorted(scores, key=lambda score: sign * score)[:top_k]
            np.testing.assert_allclose(hits.scores[start:end], best, atol=1e-5)
            by_row: dict[Any, list[float]] = {}
            for row, score in zip(rows, scores, strict=True):
                by_row.setdefault((row.key, row.ts), []).append(score)
            for row, score in zip(found[start:end], hits.scores[start:end], strict=True):
                assert min(abs(score - own) for own in by_row[row]) < 1e-5
            tied = np.flatnonzero(np.diff(hits.scores[start:end]) == 0)
            assert all(found[start + i][0] <= found[start + i + 1][0] for i in tied)


@pytest.mark.parametrize("kind", [DataType.INT64, DataType.VARCHAR])
def test_a_filter_on_the_key_finds_its_rows(kind: DataType) -> None:
    history = [("insert", list(range(20))), ("upsert", [3, 4]), ("delete", [5])]
    _, segments = build(kind, history, 0)
    wanted = [key_of(number, kind) for number in (3, 5, 7, 99)]
    plan = compile_filter(f"pk in {wanted}".replace("'", '"'), schema_with(kind))
    assert plan is not None
    assert plan.primary_keys is not None
    for segment in segments:
        now, before = Snapshot(3), Snapshot(1)
        assert listed(segment.select(now, plan)) == [(wanted[0], 2), (wanted[2], 1)]
        assert segment.count(now, plan) == 2
        assert listed(segment.select(before, plan)) == [(key, 1) for key in wanted[:3]]
        query = VectorQuery("vector", MetricType.L2, np.zeros((1, DIM), np.float32), 10)
        assert sorted(listed(segment.search(query, now, plan))) == [(wanted[0], 2), (wanted[2], 1)]
