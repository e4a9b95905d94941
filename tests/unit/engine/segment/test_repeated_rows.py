"""Growing rows that are the same again and again, some of them deleted, found by codes."""

import numpy as np
import pyarrow as pa
import pytest

from elanus.engine.segment.growing import GrowingSegment
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType, MetricType
from elanus.model.vectors import vector_column

DIM, ROWS, COPIES, QUERIES, TOP_K = 32, 5_000, 5, 25, 10
FIELDS = (
    FieldSchema(name="pk", data_type=DataType.INT64, is_primary=True),
    FieldSchema(name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)}),
)
SCHEMA = CollectionSchema(name="things", fields=FIELDS)
DELETED_AT, LATER = ROWS + 1, ROWS + 2


class Things:
    """A growing segment, and its rows in the order of their keys. Vectors are small integers, so
    that scores are exact."""

    def __init__(self, metric: MetricType, seed: int = 5) -> None:
        self.random = np.random.default_rng(seed)
        self.metric = metric
        self.segment = GrowingSegment(SCHEMA, 1, 10)
        self.vectors = np.empty((0, DIM), np.float32)
        self.alive = np.ones(0, np.bool_)
        self.distinct = self.random.integers(-9, 10, (ROWS // COPIES, DIM)).astype(np.float32)

    def insert(self, rows: int, timestamp: int, *, covered: bool) -> None:
        """Copies of a few vectors, by keys in no order."""
        first = len(self.vectors)
        vectors = self.distinct[self.random.integers(0, len(self.distinct), rows)]
        order = self.random.permutation(rows)
        columns = [pa.array(first + order), vector_column(np.ascontiguousarray(vectors[order]))]
        self.segment.append(pa.RecordBatch.from_arrays(columns, schema=SCHEMA.arrow), timestamp)
        self.vectors = np.concatenate((self.vectors, vectors))
        self.alive = np.concatenate((self.alive, np.ones(rows, np.bool_)))
        if covered:
            self.segment.build_interim("vector", self.metric)

    def delete(self, keys: np.ndarray, timestamp: int) -> None:
        assert self.segment.delete(pa.array(keys), timestamp) == int(self.alive[keys].sum())
        self.alive[keys] = False

    def queries(self) -> np.ndarray:
        near = self.distinct[self.random.integers(0, len(self.distinct), QUERIES)]
        return near + self.random.integers(-3, 4, near.shape).astype(np.float32)

    def scores(self, query: np.ndarray) -> np.ndarray:
        if self.metric is MetricType.L2:
            return ((self.vectors - query) ** 2).sum(1)
        return self.vectors @ query

    def search(self, query: np.ndarray, read_ts: int, least: float | None = None) -> Hits:
        asked = VectorQuery("vector", self.metric, query[None], TOP_K, least=least)
        return self.segment.search(asked, Snapshot(read_ts), None)

    def best(self, query: np.ndarray, alive: np.ndarray, count: int) -> list[tuple[int, float]]:
        """(key, score) of the best rows, equal ones by key."""
        scores = self.scores(query)
        worse = -scores if self.metric.larger_is_better else scores
        keys = np.flatnonzero(alive)
        keys = keys[np.lexsort((keys, worse[keys]))][:count]
        return list(zip(keys.tolist(), scores[keys].tolist(), strict=True))


def listed(hits: Hits) -> list[tuple[int, float]]:
    return list(zip(hits.keys.tolist(), hits.scores.tolist(), strict=True))


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP])
@pytest.mark.parametrize("covered", [True, False])
@pytest.mark.parametrize("dead_part", [0.0, 0.002, 0.3, 0.7])
def test_equal_rows_are_found_in_the_order_of_their_keys(
    metric: MetricType, covered: bool, dead_part: float
) -> None:
    things = Things(metric)
    things.insert(ROWS - 100, 1, covered=covered)
    things.insert(100, 2, covered=False)
    everything = things.alive.copy()
    dead = things.random.permutation(ROWS)[: int(dead_part * ROWS)]
    things.delete(dead, DELETED_AT)
    for query in things.queries():
        assert listed(things.search(query, LATER)) == things.best(query, things.alive, TOP_K)
        # Before the deletes nothing is missing.
        before = things.search(query, DELETED_AT - 1)
        assert listed(before) == things.best(query, everything, TOP_K)


@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP])
@pytest.mark.parametrize("place", [2, 7, 40])
def test_rows_as_good_as_a_known_one_are_found_with_all_that_tie(
    metric: MetricType, place: int
) -> None:
    things = Things(metric)
    things.insert(ROWS, 1, covered=True)
    things.delete(np.arange(0, ROWS, 50), DELETED_AT)
    for query in things.queries():
        known = things.best(query, things.alive, place + 1)
        least = known[-1][1]
        good = [
            (key, score)
            for key, score in things.best(query, things.alive, TOP_K)
            if (score >= least if metric.larger_is_better else score <= least)
        ]
        found = listed(things.search(query, LATER, least))
        assert found[: len(good)] == good


def test_many_copies_of_one_row_are_all_considered() -> None:
    """More than codes choose at first: the smallest keys win wherever they lie."""
    things = Things(MetricType.L2)
    things.distinct = things.distinct[:3]
    things.insert(ROWS, 1, covered=True)
    for query in things.queries():
        assert listed(things.search(query, LATER)) == things.best(query, things.alive, TOP_K)


def test_rows_and_deletes_that_come_between_two_searches_count() -> None:
    things = Things(MetricType.L2)
    things.insert(3_000, 1, covered=True)
    for ts in range(2, 40, 2):
        alive_before = things.alive.copy()
        things.delete(np.flatnonzero(things.alive)[::101], ts)
        alive = things.alive.copy()
        query = things.queries()[0]
        for _ in range(2):
            assert listed(things.search(query, ts)) == things.best(query, alive, TOP_K)
        assert listed(things.search(query, ts - 1)) == things.best(query, alive_before, TOP_K)
        things.insert(50, ts + 1, covered=ts % 4 == 0)
        found = listed(things.search(query, ts + 1))
        assert found == things.best(query, things.alive, TOP_K)
        assert things.segment.count(Snapshot(ts + 1), None) == int(things.alive.sum())
