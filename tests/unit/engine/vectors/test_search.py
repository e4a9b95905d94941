"""Growing and sealed segments find what the row-by-row oracle finds, for every kind of vectors and
every metric: under filters, after deletes, within bounds, with ties, with rows without a vector."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.vectors.oracle import (
    KINDS,
    as_queries,
    plain_rows,
    random_vectors,
    schema_with,
    score,
)

from elanus.engine.filter.compile import compile_filter
from elanus.engine.index.files import build_index, open_index
from elanus.engine.segment.base import Segment
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.types import DataType, MetricType

NOW = Snapshot(1_000)


class Columns:
    """A sealed segment's columns in memory, in the form in which files give them."""

    def __init__(self, rows: pa.RecordBatch, timestamps: np.ndarray) -> None:
        self.rows, self.timestamps = rows, timestamps
        self.row_count = rows.num_rows

    def has_column(self, name: str) -> bool:
        return name in self.rows.schema.names

    def column(self, name: str) -> pa.Array:
        return self.rows.column(name)

    def bounds(self, name: str) -> None:
        return None

    def vectors(self, name: str) -> pa.Array:
        return self.rows.column(name)


def segments_of(
    kind: DataType, random: np.random.Generator, rows: int, nullable: bool
) -> tuple[list[Segment], dict[int, Any], dict[int, int]]:
    """(a growing segment and its sealed copy, living vectors by key, numbers by key)."""
    schema = schema_with(kind, nullable)
    growing = GrowingSegment(schema, 1, 10)
    vectors: dict[int, Any] = {}
    numbers: dict[int, int] = {}
    for ts, keys in enumerate(np.array_split(random.permutation(rows), 3), 1):
        column = random_vectors(kind, len(keys), random, nullable)
        number = random.integers(0, 4, len(keys))
        batch = [pa.array(keys), pa.array(number), column]
        growing.append(pa.RecordBatch.from_arrays(batch, schema=schema.arrow), ts)
        vectors |= dict(zip(keys.tolist(), plain_rows(kind, column), strict=True))
        numbers |= dict(zip(keys.tolist(), number.tolist(), strict=True))
    flushed = growing.rows_for_flush()
    sealed = SealedSegment(schema, 1, 10, Columns(flushed.rows, flushed.timestamps))
    dead = random.choice(rows, rows // 5, replace=False)
    for segment in (growing, sealed):
        segment.delete(pa.array(dead), 10)
    for key in dead.tolist():
        del vectors[key]
    return [growing, sealed], {k: v for k, v in vectors.items() if v is not None}, numbers


def check(
    hits: Hits, queries: list[Any], candidates: dict[int, Any], query: VectorQuery, exact: bool
) -> None:
    """The hits are the best candidates, and have the scores and the order that they should."""
    sign = 1 if query.metric.larger_is_better else -1
    ends = np.cumsum(hits.counts)
    for number, plain in enumerate(queries):
        part = slice(ends[number] - hits.counts[number], ends[number])
        scores = {key: score(query.metric, plain, row) for key, row in candidates.items()}
        scores = {key: value for key, value in scores.items() if value is not None}
        if query.radius is not None:
            low, high = sign * query.radius, sign * float(query.range_filter or 0)
            scores = {k: v for k, v in scores.items() if low < sign * v <= high}
        ranked = sorted(scores, key=lambda key: (-sign * scores[key], key))[: query.top_k]
        found = hits.keys[part].tolist()
        expected = [scores[key] for key in ranked]
        np.testing.assert_allclose(hits.scores[part], expected, rtol=1e-5, atol=1e-6)
        assert len(set(found)) == len(found)
        if exact:
            assert found == ranked
        for key, value in zip(found, hits.scores[part], strict=True):
            assert value == pytest.approx(scores[key], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("kind", "metric"), KINDS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(5, 50),
    top_k=st.integers(1, 12),
    nq=st.integers(1, 5),
    filtered=st.booleans(),
    nullable=st.booleans(),
    bounded=st.booleans(),
)
def test_segments_find_what_the_oracle_finds(
    kind: DataType,
    metric: MetricType,
    seed: int,
    rows: int,
    top_k: int,
    nq: int,
    filtered: bool,
    nullable: bool,
    bounded: bool,
) -> None:
    random = np.random.default_rng(seed)
    segments, vectors, numbers = segments_of(kind, random, rows, nullable)
    plan = compile_filter("number >= 2", schema_with(kind)) if filtered else None
    if filtered:
        vectors = {key: row for key, row in vectors.items() if numbers[key] >= 2}
    column = random_vectors(kind, nq, random)
    # Bounds that no score hits: rounding must not decide what is inside.
    bounds = {"radius": 0.13, "range_filter": 5.37} if metric.larger_is_better else {}
    bounds = bounds or {"radius": 5.37, "range_filter": 0.13}
    query = VectorQuery(
        "vector", metric, as_queries(kind, column), top_k, **(bounds if bounded else {})
    )
    # Sums of small whole numbers are exact, lengths and quotients are not.
    is_exact = metric not in (MetricType.COSINE, MetricType.JACCARD)
    for segment in segments:
        hits = segment.search(query, NOW, plan)
        check(hits, plain_rows(kind, column), vectors, query, is_exact)


@pytest.mark.parametrize(("kind", "metric"), KINDS)
def test_rows_come_back_as_they_were_given(kind: DataType, metric: MetricType) -> None:
    random = np.random.default_rng(3)
    for nullable in (False, True):
        schema = schema_with(kind, nullable)
        growing = GrowingSegment(schema, 1, 10)
        column = random_vectors(kind, 2_000, random, nullable)
        for ts, start in enumerate((0, 700, 1_300), 1):
            part = column.slice(start, (700, 600, 700)[ts - 1])
            keys = pa.array(range(start, start + len(part)))
            batch = pa.RecordBatch.from_arrays([keys, keys, part], schema=schema.arrow)
            growing.append(batch, ts)
        flushed = growing.rows_for_flush()
        sealed = SealedSegment(schema, 1, 10, Columns(flushed.rows, flushed.timestamps))
        offsets = random.permutation(2_000)[:50]
        expected = [plain_rows(kind, column)[offset] for offset in offsets]
        for segment in (growing, sealed):
            taken = segment.take(offsets, ["vector"])
            assert taken.column(0).type == schema.arrow.field("vector").type
            assert plain_rows(kind, taken.column(0)) == expected
        assert plain_rows(kind, sealed.take(offsets[:0], ["vector"]).column(0)) == []


SEARCHED_IN_FULL = [
    (DataType.SPARSE_FLOAT_VECTOR, MetricType.IP, "SPARSE_INVERTED_INDEX"),
    (DataType.SPARSE_FLOAT_VECTOR, MetricType.IP, "SPARSE_WAND"),
    (DataType.BINARY_VECTOR, MetricType.HAMMING, "BIN_IVF_FLAT"),
    (DataType.BINARY_VECTOR, MetricType.JACCARD, "BIN_IVF_FLAT"),
]


@pytest.mark.parametrize(("kind", "metric", "index_type"), SEARCHED_IN_FULL)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), filtered=st.booleans(), bounded=st.booleans())
def test_indexes_find_what_the_oracle_finds(
    kind: DataType,
    metric: MetricType,
    index_type: str,
    seed: int,
    filtered: bool,
    bounded: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    random = np.random.default_rng(seed)
    (growing, sealed), vectors, numbers = segments_of(kind, random, 200, True)
    assert isinstance(sealed, SealedSegment)
    assert isinstance(growing, GrowingSegment)
    path = str(tmp_path_factory.mktemp("index") / "file")
    column = growing.rows_for_flush().rows.column("vector")
    assert build_index(index_type, metric, {"nlist": "8"}, column, path) == 200
    dim = sealed.schema.by_name["vector"].dim
    sealed.attach_index("vector", open_index(path, index_type, metric, 200, dim))
    growing.build_interim("vector", metric)
    plan = compile_filter("number >= 2", schema_with(kind)) if filtered else None
    if filtered:
        vectors = {key: row for key, row in vectors.items() if numbers[key] >= 2}
    asked = random_vectors(kind, 3, random)
    bounds = (0.13, 5.37) if metric.larger_is_better else (5.37, 0.13)
    radius, inner = bounds if bounded else (None, None)
    query = VectorQuery("vector", metric, as_queries(kind, asked), 5, {"nprobe": 8}, radius, inner)
    for segment in (growing, sealed):
        hits = segment.search(query, NOW, plan)
        check(hits, plain_rows(kind, asked), vectors, query, metric is not MetricType.JACCARD)
