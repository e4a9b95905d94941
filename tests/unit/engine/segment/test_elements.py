"""Searches for single vectors of arrays of structs give the elements that a slow search gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.engine.segment.reference import ArrowColumns

from elanus.engine.filter import compile_filter
from elanus.engine.index.files import build_index, open_index
from elanus.engine.reduce import merge_hits, slice_hits
from elanus.engine.segment.base import Segment
from elanus.engine.segment.growing import GrowingSegment
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema, StructSchema, arrow_type
from elanus.model.types import DataType, MetricType

DIM = 3
NOW = Snapshot(1_000)
PARAMS = {"dim": str(DIM), "max_capacity": "9"}
SCHEMA = CollectionSchema(
    name="clips",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(
            name="c[n]",
            struct="c",
            data_type=DataType.ARRAY,
            element_type=DataType.INT64,
            type_params=PARAMS,
            nullable=True,
        ),
        FieldSchema(
            name="c[v]",
            struct="c",
            data_type=DataType.ARRAY_OF_VECTOR,
            element_type=DataType.FLOAT_VECTOR,
            type_params=PARAMS,
            nullable=True,
        ),
    ),
    structs=(StructSchema(name="c", nullable=True),),
)
Row = tuple[int, list[tuple[int, list[float]]] | None]
"""An id, and the (number, vector) of its elements."""


class Columns(ArrowColumns):
    def vectors(self, name: str) -> Any:
        return self.rows.column(name)


def rows_of(ids: Sequence[int], seed: int) -> list[Row]:
    """Few numbers in the vectors, so that many score the same."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in ids:
        size = int(random.integers(-1, 4))
        vectors = random.integers(-2, 3, (max(size, 0), DIM)).astype(np.float32).tolist()
        numbers = random.integers(0, 4, max(size, 0)).tolist()
        rows.append((number, None if size < 0 else list(zip(numbers, vectors, strict=True))))
    return rows


def batch_of(rows: Sequence[Row]) -> pa.RecordBatch:
    numbers = [None if row is None else [n for n, _ in row] for _, row in rows]
    vectors = [None if row is None else [v for _, v in row] for _, row in rows]
    types = [arrow_type(field) for field in SCHEMA.fields]
    columns = [[number for number, _ in rows], numbers, vectors]
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA.arrow)


def growing_of(batches: Sequence[Sequence[Row]], number: int = 1) -> GrowingSegment:
    segment = GrowingSegment(SCHEMA, number, 10)
    for timestamp, rows in enumerate(batches, 1):
        segment.append(batch_of(rows), timestamp)
    return segment


def sealed_of(rows: Sequence[Row], number: int) -> SealedSegment:
    flushed = growing_of([rows]).rows_for_flush()
    return SealedSegment(SCHEMA, number, 10, Columns(flushed.rows, flushed.timestamps))


def best(
    rows: Sequence[Row], query: Any, metric: MetricType, top_k: int, test: Any = None
) -> list[tuple[int, int, float]]:
    """(id, place, score) of the best elements."""
    found = []
    for number, row in rows:
        for place, (n, vector) in enumerate(row or ()):
            x, q = np.array(vector, np.float64), query.astype(np.float64)
            score = float(((q - x) ** 2).sum() if metric is MetricType.L2 else q @ x)
            if test is None or test(number, n):
                found.append((number, place, score))
    sign = -1 if metric.larger_is_better else 1
    return sorted(found, key=lambda each: (sign * each[2], each[0], each[1]))[:top_k]


def listed(hits: Hits) -> list[list[tuple[int, int, float]]]:
    """The hits of each query."""
    every = []
    for number in range(len(hits.counts)):
        start = int(hits.counts[:number].sum())
        part = slice(start, start + int(hits.counts[number]))
        places = [] if hits.elements is None else hits.elements[part].tolist()
        columns = (hits.keys[part].tolist(), places, hits.scores[part].tolist())
        every.append(list(zip(*columns, strict=True)))
    return every


FILTERS = [
    (None, None),
    ("id % 2 == 0", lambda number, n: number % 2 == 0),
    ("element_filter(c, $[n] >= 2)", lambda number, n: n >= 2),
    ("id > 20 and element_filter(c, $[n] == 1)", lambda number, n: number > 20 and n == 1),
    ("element_filter(c, $[n] == 9)", lambda number, n: False),
]


@pytest.mark.parametrize(("text", "test"), FILTERS, ids=[str(text) for text, _ in FILTERS])
@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP])
@pytest.mark.parametrize("kind", ["growing", "descending", "sealed"])
def test_the_best_elements_are_found_with_their_places(
    kind: str, metric: MetricType, text: str | None, test: Any
) -> None:
    rows = rows_of(range(60), seed=3)
    segment: Segment
    if kind == "sealed":
        segment = sealed_of(rows[::-1], 7)
    else:
        ordered = rows if kind == "growing" else rows[::-1]
        segment = growing_of([ordered[:25], ordered[25:26], ordered[26:]], 7)
    plan = None if text is None else compile_filter(text, SCHEMA)
    queries = np.random.default_rng(4).integers(-2, 3, (3, DIM)).astype(np.float32)
    found = segment.search(VectorQuery("c[v]", metric, queries, 12), NOW, plan)
    assert listed(found) == [best(rows, query, metric, 12, test) for query in queries]
    taken = segment.take(found.offsets, ["id"]).column(0).to_pylist()
    assert taken == found.keys.tolist()


def test_rows_that_may_not_be_seen_have_no_elements() -> None:
    rows = rows_of(range(40), seed=5)
    for segment in (growing_of([rows[:20], rows[20:]], 1), sealed_of(rows, 2)):
        segment.delete(pa.array([3, 5, 30]), 100)
        query = VectorQuery("c[v]", MetricType.L2, np.zeros((1, DIM), np.float32), 400)
        alive = [row for row in rows if row[0] not in (3, 5, 30)]
        expected = best(alive, query.vectors[0], MetricType.L2, 400)
        assert listed(segment.search(query, NOW, None)) == [expected]
        before = best(rows, query.vectors[0], MetricType.L2, 400)
        assert listed(segment.search(query, Snapshot(50), None)) == [before]
    [early] = listed(growing_of([rows[:20], rows[20:]], 1).search(query, Snapshot(1), None))
    assert early == best(rows[:20], query.vectors[0], MetricType.L2, 400)


def test_elements_of_many_segments_become_one_answer() -> None:
    first, second = rows_of(range(30), seed=6), rows_of(range(30, 60), seed=7)
    queries = np.random.default_rng(8).integers(-2, 3, (2, DIM)).astype(np.float32)
    query = VectorQuery("c[v]", MetricType.IP, queries, 9)
    # A row that is in both has one element for each place.
    segments = [sealed_of([*first, *second[:4]], 1), growing_of([second], 2)]
    merged = merge_hits([one.search(query, NOW, None) for one in segments], 9, True)
    expected = [best([*first, *second], each, MetricType.IP, 9) for each in queries]
    assert listed(merged) == expected
    assert listed(slice_hits(merged, 2, 3)) == [each[2:5] for each in expected]


def test_a_range_search_gives_the_elements_within() -> None:
    rows = rows_of(range(40), seed=9)
    query = VectorQuery(
        "c[v]", MetricType.L2, np.ones((1, DIM), np.float32), 100, radius=9.0, range_filter=2.0
    )
    expected = [
        each for each in best(rows, query.vectors[0], MetricType.L2, 400) if 2 <= each[2] < 9
    ]
    for segment in (growing_of([rows]), sealed_of(rows, 2)):
        assert listed(segment.search(query, NOW, None)) == [expected]


@pytest.mark.parametrize("index_type", ["HNSW", "IVF_FLAT"])
def test_a_built_index_finds_the_elements(index_type: str, tmp_path: Path) -> None:
    random = np.random.default_rng(10)
    rows: list[Row] = [
        (number, [(int(n), random.normal(size=DIM).tolist()) for n in random.integers(0, 4, size)])
        for number, size in enumerate(random.integers(0, 4, 1_200).tolist())
    ]
    segment = sealed_of(rows, 1)
    column = batch_of(rows).column("c[v]")
    params = {"M": "16", "efConstruction": "100", "nlist": "16"}
    path = str(tmp_path / "index")
    assert build_index(index_type, MetricType.IP, params, column, path) == len(rows)
    count = segment.vector_count("c[v]")
    segment.attach_index("c[v]", open_index(path, index_type, MetricType.IP, count, DIM, params))
    queries = random.normal(size=(10, DIM)).astype(np.float32)
    asked = VectorQuery("c[v]", MetricType.IP, queries, 10, {"ef": 100, "nprobe": 16})
    for text, test in (FILTERS[0], FILTERS[2], FILTERS[3]):
        plan = None if text is None else compile_filter(text, SCHEMA)
        found = listed(segment.search(asked, NOW, plan))
        for query, hits in zip(queries, found, strict=True):
            expected = best(rows, query, MetricType.IP, 10, test)
            places = {each[:2] for each in expected}
            assert len(places & {each[:2] for each in hits}) >= 9
            assert [each[2] for each in hits[:1]] == pytest.approx([expected[0][2]], rel=1e-4)


def test_an_index_over_rows_without_elements_finds_nothing(tmp_path: Path) -> None:
    rows: list[Row] = [(1, []), (2, None)]
    path = str(tmp_path / "index")
    assert build_index("HNSW", MetricType.L2, {"M": "8"}, batch_of(rows).column("c[v]"), path) == 2
    segment = sealed_of(rows, 1)
    segment.attach_index("c[v]", open_index(path, "HNSW", MetricType.L2, 0, DIM))
    query = VectorQuery("c[v]", MetricType.L2, np.zeros((2, DIM), np.float32), 5)
    assert segment.search(query, NOW, None).counts.tolist() == [0, 0]


def test_null_structs_are_neither_found_nor_lost() -> None:
    rows = rows_of(range(30), seed=11)
    lists = VectorQuery("c[v]", MetricType.MAX_SIM_IP, batch_of([(0, [(0, [1, 0, 0])])])[2], 99)
    for segment in (growing_of([rows[:9], rows[9:]]), sealed_of(rows, 2)):
        taken = segment.take(np.arange(30), ["c[n]", "c[v]"])
        expected = batch_of(rows)
        assert taken.column(0).to_pylist() == expected.column("c[n]").to_pylist()
        assert taken.column(1).to_pylist() == expected.column("c[v]").to_pylist()
        found = segment.search(lists, NOW, None)
        assert sorted(found.keys.tolist()) == [number for number, row in rows if row]
        assert found.elements is None
        for text, test in (
            ("c is null", lambda row: row is None),
            ("array_length(c) == 0", lambda row: row == []),
            ("match_all(c, $[n] > 1)", lambda row: row is not None and all(n > 1 for n, _ in row)),
        ):
            plan = compile_filter(text, SCHEMA)
            keys = segment.select(NOW, plan).keys.tolist()
            assert keys == [number for number, row in rows if test(row)], text
