"""Searches of growing rows for those that beat hits found elsewhere, beside brute force: at any
instant, with deleted rows, behind what codes cover.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.segment.growing import GrowingSegment
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.types import DENSE_METRICS, DataType, MetricType
from elanus.model.vectors import vector_column

ROWS, BATCH, TOP_K, GROUPS = 6_000, 500, 10, 60
DELETED_EVERY = 7


class Words:
    """A growing segment with rows around some centres, in batches of ``BATCH`` at the instants 1,
    2 and so on; all but the last batch but a few are covered by codes."""

    def __init__(
        self, metric: MetricType, key: DataType = DataType.INT64, rows: int = ROWS, dim: int = 32
    ) -> None:
        self.random = np.random.default_rng(rows + dim)
        self.metric, self.dim = metric, dim
        fields = (
            FieldSchema(name="pk", data_type=key, is_primary=True, type_params={"max_length": "9"}),
            FieldSchema(
                name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(dim)}
            ),
        )
        schema = CollectionSchema(name="words", fields=fields)
        self.segment = GrowingSegment(schema, 1, 10)
        self.centres = self.random.standard_normal((GROUPS, dim))
        self.vectors = self.near_centres(rows)
        order = self.random.permutation(rows)
        self.keys = [int(i) if key is DataType.INT64 else f"{i}" for i in order]
        self.inserted = np.arange(rows) // BATCH + 1
        self.deleted = np.full(rows, np.iinfo(np.int64).max)
        for start in range(0, rows, BATCH):
            part = slice(start, start + BATCH)
            columns = [pa.array(self.keys[part], arrow_type(fields[0]))]
            columns.append(vector_column(self.vectors[part]))
            batch = pa.RecordBatch.from_arrays(columns, schema=schema.arrow)
            self.segment.append(batch, int(self.inserted[start]))
            if start < rows - BATCH <= self.segment.row_count:
                self.segment.build_interim("vector", metric)
        self.end = int(self.inserted[-1])

    def near_centres(self, count: int) -> np.ndarray:
        near = self.centres[self.random.integers(0, GROUPS, count)]
        return (near + 0.7 * self.random.standard_normal(near.shape)).astype(np.float32)

    def delete(self, rows: np.ndarray, ts: int) -> None:
        self.segment.delete(pa.array([self.keys[row] for row in rows]), ts)
        self.deleted[rows] = ts

    def similarities(self, query: np.ndarray) -> np.ndarray:
        vectors = self.vectors
        if self.metric is MetricType.L2:
            return -((vectors - query) ** 2).sum(1)
        if self.metric is MetricType.COSINE:
            vectors = vectors / np.linalg.norm(vectors, axis=1)[:, None]
            query = query / np.linalg.norm(query)
        return vectors @ query

    def expected(self, query: np.ndarray, least: float, read_ts: int) -> list[Any]:
        similar = self.similarities(query)
        there = (self.inserted <= read_ts) & (self.deleted > read_ts) & (similar >= least)
        rows = np.flatnonzero(there)
        return [self.keys[row] for row in rows[np.argsort(-similar[rows])][:TOP_K]]

    def found(self, query: np.ndarray, least: float, read_ts: int) -> Hits:
        score = least if self.metric.larger_is_better else -least
        asked = VectorQuery("vector", self.metric, query[None], TOP_K, least=score)
        return self.segment.search(asked, Snapshot(read_ts), None)

    def least(self, query: np.ndarray, place: int) -> float:
        """Between the rows at this place and the next."""
        ranked = -np.sort(-self.similarities(query))
        return float(ranked[place] + ranked[place + 1]) / 2

    def recall(self, queries: np.ndarray, place: int, read_ts: int) -> float:
        """Checks what was found on the way."""
        right = wanted = 0
        for query in queries:
            least = self.least(query, place)
            hits, expected = self.found(query, least, read_ts), self.expected(query, least, read_ts)
            scores = hits.scores if self.metric.larger_is_better else -hits.scores
            similar = self.similarities(query)[hits.offsets]
            np.testing.assert_allclose(scores, similar, rtol=1e-4, atol=1e-4)
            keys = (
                hits.keys.tolist() if isinstance(hits.keys, np.ndarray) else hits.keys.to_pylist()
            )
            assert keys == [self.keys[row] for row in hits.offsets]
            assert hits.timestamps.tolist() == self.inserted[hits.offsets].tolist()
            assert len(scores) <= TOP_K
            assert (np.diff(scores) <= 0).all()
            assert ((self.deleted[hits.offsets] > read_ts) & (hits.timestamps <= read_ts)).all()
            right += len(set(keys) & set(expected))
            wanted += len(expected)
        return right / max(wanted, 1)


@pytest.mark.parametrize("key", [DataType.INT64, DataType.VARCHAR])
@pytest.mark.parametrize("metric", DENSE_METRICS)
@pytest.mark.parametrize("place", [0, 4, 50])
def test_rows_that_are_good_enough_are_found_at_any_instant(
    metric: MetricType, key: DataType, place: int
) -> None:
    words = Words(metric, key)
    queries = words.near_centres(40)
    for read_ts in (words.end, words.end - 1, 3):
        assert words.recall(queries, place, read_ts) >= 0.98
    # Of those that would be hits, too.
    words.delete(np.arange(0, ROWS, DELETED_EVERY), words.end + 1)
    for read_ts in (words.end, words.end + 1):
        assert words.recall(queries, place, read_ts) >= 0.98


@pytest.mark.parametrize("dim", [32, 33])
def test_rows_that_have_expired_are_not_found(dim: int) -> None:
    words = Words(MetricType.COSINE, dim=dim)
    query = words.near_centres(1)[0]
    least = words.least(query, 100)
    score = VectorQuery("vector", words.metric, query[None], 60, least=least)
    hits = words.segment.search(score, Snapshot(words.end, expire_before_ts=4), None)
    assert hits.timestamps.min() > 4
    similar = words.similarities(query)
    fresh = np.flatnonzero((similar >= least) & (words.inserted > 4))
    assert set(hits.offsets.tolist()) == set(fresh[np.argsort(-similar[fresh])][:60].tolist())


def test_rows_that_come_later_are_found_too() -> None:
    words = Words(MetricType.L2, rows=4_000)
    query = words.near_centres(1)[0]
    least = words.least(query, 4)
    before = words.expected(query, least, words.end)
    assert words.found(query, least, 99).keys[:5].tolist() == before
    columns = [pa.array([10_000]), vector_column(query[None])]
    batch = pa.RecordBatch.from_arrays(columns, schema=words.segment.schema.arrow)
    words.segment.append(batch, 50)
    for _ in range(2):
        assert words.found(query, least, 99).keys[:6].tolist() == [10_000, *before]
        assert words.found(query, least, 49).keys[:5].tolist() == before
        words.segment.build_interim("vector", words.metric)


@pytest.mark.parametrize("metric", DENSE_METRICS)
def test_most_searches_take_the_short_way(
    metric: MetricType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which no answer tells."""
    words = Words(metric)
    long_ways = 0
    search = DenseColumn.search

    def asked(*args: Any) -> Any:
        nonlocal long_ways
        long_ways += 1
        return search(*args)

    monkeypatch.setattr(DenseColumn, "search", asked)
    words.delete(np.array([3]), words.end + 1)
    words.recall(words.near_centres(60), 4, words.end + 1)
    assert long_ways <= 6
