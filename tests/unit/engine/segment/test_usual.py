"""Searches of a sealed segment by a built index, one query and no filter, beside brute force: with
equal rows, with deleted ones, with another index after the first."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.engine.index.dense_indexes import walking
from tests.unit.engine.segment.reference import ArrowColumns

from elanus.engine.index.base import VectorIndex
from elanus.engine.index.dense.families import build_index, open_index
from elanus.engine.segment.sealed import SealedSegment
from elanus.model.reads import Hits, Snapshot, VectorQuery
from elanus.model.schema import CollectionSchema, FieldSchema, arrow_type
from elanus.model.types import DENSE_METRICS, DataType, MetricType
from elanus.model.vectors import vector_column

__all__ = ["walking"]
pytestmark = pytest.mark.usefixtures("walking")

DIM, ROWS, TOP_K = 16, 1_500, 10
DEEP = {"ef": 1_000, "nprobe": 16, "reorder_k": 600}
PARAMS = {
    "HNSW": {"M": "16", "efConstruction": "200"},
    "HNSW_SQ": {"M": "16", "efConstruction": "200", "sq_type": "fp16"},
    "IVF_FLAT": {"nlist": "16"},
    "SCANN": {"nlist": "16"},
}
INSERTED, DELETED, NOW = 5, 8, 9


class Words:
    """A sealed segment whose keys are not its row numbers, and what is in it. Vectors that are
    there more than once are of small integers: whichever kernel compares them, they score alike."""

    def __init__(self, key: DataType, copies: int = 1) -> None:
        random = np.random.default_rng(copies)
        made = random.standard_normal((ROWS // copies, DIM)).astype(np.float32)
        if copies > 1:
            made = np.rint(9 * made)
        self.vectors = np.repeat(made, copies, axis=0)[random.permutation(ROWS)]
        self.keys = sorted(2 * i if key is DataType.INT64 else f"{2 * i}" for i in range(ROWS))
        self.alive = np.ones(ROWS, np.bool_)
        fields = (
            FieldSchema(name="pk", data_type=key, is_primary=True, type_params={"max_length": "9"}),
            FieldSchema(
                name="vector", data_type=DataType.FLOAT_VECTOR, type_params={"dim": str(DIM)}
            ),
        )
        schema = CollectionSchema(name="words", fields=fields)
        columns = [pa.array(self.keys, arrow_type(fields[0])), vector_column(self.vectors)]
        rows = pa.RecordBatch.from_arrays(columns, schema=schema.arrow)
        stamps = np.full(ROWS, INSERTED, np.uint64)
        self.segment = SealedSegment(schema, 1, 10, ArrowColumns(rows, stamps))

    def index(self, index_type: str, metric: MetricType, folder: Path) -> VectorIndex:
        path, params = str(folder / f"{index_type}-{metric}"), PARAMS[index_type]
        build_index(index_type, metric, params, self.vectors, path)
        opened = open_index(path, index_type, metric, ROWS, DIM, params)
        self.segment.attach_index("vector", opened)
        return opened

    def delete(self, rows: np.ndarray) -> None:
        self.segment.delete(pa.array([self.keys[row] for row in rows]), DELETED)
        self.alive[rows] = False

    def found(self, query: np.ndarray, metric: MetricType, top_k: int, read_ts: int) -> Hits:
        asked = VectorQuery("vector", metric, query[None], top_k, DEEP)
        return self.segment.search(asked, Snapshot(read_ts), None)

    def expected(self, query: np.ndarray, metric: MetricType, top_k: int) -> list[Any]:
        """Keys of the best rows that are alive, equal ones in the order of the keys."""
        vectors, wanted = self.vectors.astype(np.float64), query.astype(np.float64)
        if metric is MetricType.COSINE:
            vectors = vectors / np.linalg.norm(vectors, axis=1)[:, None]
        if metric is MetricType.L2:
            worse = ((vectors - wanted) ** 2).sum(1)
        else:
            worse = -(vectors @ wanted)
        order = np.lexsort((np.arange(ROWS), worse.round(9)))
        return [self.keys[row] for row in order[self.alive[order]][:top_k]]


def keys_of(hits: Hits) -> list[Any]:
    return hits.keys.tolist() if isinstance(hits.keys, np.ndarray) else hits.keys.to_pylist()


def queries(count: int) -> np.ndarray:
    return np.random.default_rng(99).standard_normal((count, DIM)).astype(np.float32)


@pytest.mark.parametrize("key", [DataType.INT64, DataType.VARCHAR])
@pytest.mark.parametrize("metric", DENSE_METRICS)
@pytest.mark.parametrize("index_type", PARAMS)
def test_the_nearest_rows_come_with_key_score_and_time(
    tmp_path: Path, index_type: str, metric: MetricType, key: DataType
) -> None:
    words = Words(key)
    words.index(index_type, metric, tmp_path)
    for query in queries(10):
        for top_k in (1, TOP_K, 60):
            hits = words.found(query, metric, top_k, NOW)
            assert keys_of(hits) == words.expected(query, metric, top_k)
            assert hits.counts.tolist() == [top_k]
            assert hits.timestamps.tolist() == [INSERTED] * top_k
            assert hits.sources.tolist() == [1] * top_k
            assert [words.keys[row] for row in hits.offsets] == keys_of(hits)
            ways = -1 if metric.larger_is_better else 1
            assert (ways * hits.scores).tolist() == sorted((ways * hits.scores).tolist())


@pytest.mark.parametrize("index_type", ["HNSW", "SCANN"])
def test_scores_are_those_of_a_scan(tmp_path: Path, index_type: str) -> None:
    for metric in DENSE_METRICS:
        words = Words(DataType.INT64)
        asked = queries(5)
        scanned = [words.found(query, metric, TOP_K, NOW) for query in asked]
        words.index(index_type, metric, tmp_path)
        for query, expected in zip(asked, scanned, strict=True):
            found = words.found(query, metric, TOP_K, NOW)
            assert found.offsets.tolist() == expected.offsets.tolist()
            np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("metric", [MetricType.L2, MetricType.IP])
@pytest.mark.parametrize("index_type", ["HNSW", "SCANN"])
def test_equal_rows_come_in_the_order_of_their_keys(
    tmp_path: Path, index_type: str, metric: MetricType, copies: int
) -> None:
    """Also where the last hit ties with rows that are no hits."""
    words = Words(DataType.INT64, copies)
    words.index(index_type, metric, tmp_path)
    for query in np.rint(9 * queries(20)):
        found = keys_of(words.found(query, metric, TOP_K, NOW))
        assert found == words.expected(query, metric, TOP_K)


@pytest.mark.parametrize("part", [0.002, 0.008, 0.3])
@pytest.mark.parametrize("index_type", ["HNSW", "SCANN"])
def test_deleted_rows_are_found_before_their_deletion_only(
    tmp_path: Path, index_type: str, part: float
) -> None:
    words, metric = Words(DataType.INT64), MetricType.COSINE
    words.index(index_type, metric, tmp_path)
    asked = queries(40)
    before = [words.expected(query, metric, TOP_K) for query in asked]
    # Those that are hits first.
    nearest = {key for keys in before for key in keys}
    rows = np.array([row for row, key in enumerate(words.keys) if key in nearest])
    words.delete(rows[: max(1, int(part * ROWS))])
    assert [words.expected(query, metric, TOP_K) for query in asked] != before
    for query, keys in zip(asked, before, strict=True):
        assert keys_of(words.found(query, metric, TOP_K, DELETED - 1)) == keys
        found = keys_of(words.found(query, metric, TOP_K, NOW))
        assert found == words.expected(query, metric, TOP_K)


def test_another_index_answers_once_it_is_there(tmp_path: Path) -> None:
    words, query = Words(DataType.INT64), queries(1)[0]
    first = words.index("HNSW", MetricType.L2, tmp_path)
    by_length = keys_of(words.found(query, MetricType.L2, TOP_K, NOW))
    words.segment.detach_index("vector", first)
    words.index("SCANN", MetricType.IP, tmp_path)
    by_product = keys_of(words.found(query, MetricType.IP, TOP_K, NOW))
    assert by_product == words.expected(query, MetricType.IP, TOP_K) != by_length
    # An index by another metric is none.
    assert keys_of(words.found(query, MetricType.L2, TOP_K, NOW)) == by_length


def test_a_query_without_length_finds_rows(tmp_path: Path) -> None:
    words = Words(DataType.INT64)
    for index_type in ("HNSW", "SCANN"):
        words.index(index_type, MetricType.COSINE, tmp_path)
        hits = words.found(np.zeros(DIM, np.float32), MetricType.COSINE, TOP_K, NOW)
        assert hits.scores.tolist() == [0.0] * TOP_K
        assert len(set(keys_of(hits))) == TOP_K


@pytest.mark.parametrize("index_type", ["HNSW", "SCANN"])
def test_most_searches_walk_once(
    tmp_path: Path, index_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the short way is taken, which no answer tells: asking in any other is an error."""
    words, metric = Words(DataType.INT64), MetricType.COSINE
    index = words.index(index_type, metric, tmp_path)
    words.found(queries(1)[0], metric, TOP_K, NOW)
    words.segment.delete(pa.array([words.keys[0]]), DELETED)

    def asked(*_: Any) -> None:
        raise AssertionError("the long way")

    monkeypatch.setattr(index, "search", asked)
    for query in queries(20)[1:]:
        assert keys_of(words.found(query, metric, TOP_K, NOW))
