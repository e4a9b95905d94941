"""Every index type against brute force: whatever the rows, deletes, ties and bounds are."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.engine.index.dense_indexes import (
    INDEX_TYPES,
    PARAMS,
    SEARCH_PARAMS,
    built,
    walking,
)

from elanus.engine.index.dense.neighbours import prepare_queries
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery
from elanus.model.types import DENSE_METRICS, DataType, MetricType
from elanus.model.vectors import narrowed, widened

COPIES = 20

__all__ = ["walking"]
pytestmark = pytest.mark.usefixtures("walking")


def similarities(vectors: np.ndarray, queries: np.ndarray, metric: MetricType) -> np.ndarray:
    rows = prepare_queries(widened(vectors), metric).astype(np.float64)
    prepared = prepare_queries(queries, metric).astype(np.float64)
    if metric is MetricType.L2:
        return -((prepared[:, None] - rows[None]) ** 2).sum(-1)
    return prepared @ rows.T


@pytest.mark.parametrize("metric", DENSE_METRICS)
@pytest.mark.parametrize("index_type", INDEX_TYPES)
@pytest.mark.parametrize("row_count", [1, 40, 700])
def test_few_rows_are_all_found(
    tmp_path: Path, index_type: str, metric: MetricType, row_count: int
) -> None:
    """Fewer than lists, than a training needs, than are asked for."""
    random = np.random.default_rng(row_count)
    vectors = random.standard_normal((row_count, 16)).astype(np.float32)
    index = built(tmp_path, index_type, metric, vectors)
    queries = random.standard_normal((3, 16)).astype(np.float32)
    for nq in (1, 3):
        found = index.search(VectorQuery("v", metric, queries[:nq], row_count, {"nprobe": 32}))
        every = [[*range(row_count)]] * nq
        assert np.sort(found.offsets.reshape(nq, -1), axis=1).tolist() == every
        expected = -np.sort(-similarities(vectors, queries[:nq], metric), axis=1)
        np.testing.assert_allclose(found.similarities.reshape(nq, -1), expected, atol=1e-4)


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_rows_that_are_equal_come_by_row_number(tmp_path: Path, index_type: str) -> None:
    """So many that graphs of few links still hold together: equal rows crowd out other links."""
    random = np.random.default_rng(1)
    vectors = np.repeat(random.standard_normal((30, 16)), COPIES, axis=0).astype(np.float32)
    params = {**PARAMS[index_type], **({"M": "16"} if "HNSW" in index_type else {})}
    index = built(tmp_path, index_type, MetricType.L2, vectors, params)
    mask = np.ones(len(vectors), bool)
    mask[::3] = False
    for rows in (None, RowSet(len(vectors), mask=mask)):
        query = vectors[2 * COPIES, None] + 0.01
        found = index.search(VectorQuery("v", MetricType.L2, query, 10, SEARCH_PARAMS), rows)
        assert set((found.offsets // COPIES).tolist()) == {2}
        assert found.offsets.tolist() == sorted(found.offsets.tolist())
        assert rows is None or rows.mask[found.offsets].all()


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_vectors_without_length_and_without_difference(tmp_path: Path, index_type: str) -> None:
    vectors = np.zeros((300, 16), np.float32)
    vectors[150:] = 1
    for metric in DENSE_METRICS:
        index = built(tmp_path, index_type, metric, vectors)
        found = index.search(VectorQuery("v", metric, vectors[-1:], 150, {**SEARCH_PARAMS}))
        assert len(set(found.offsets.tolist())) == 150
        assert np.isfinite(found.similarities).all()


@pytest.mark.parametrize("index_type", ["HNSW", "HNSW_SQ", "IVF_FLAT", "SCANN", "DISKANN"])
@pytest.mark.parametrize("metric", DENSE_METRICS)
@pytest.mark.parametrize(
    "data_type", [DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR, DataType.INT8_VECTOR]
)
def test_narrow_elements_are_found_and_scored_as_what_they_are(
    tmp_path: Path, index_type: str, metric: MetricType, data_type: DataType
) -> None:
    random = np.random.default_rng(2)
    floats = (random.standard_normal((1_500, 16)) * 20).astype(np.float32)
    if data_type is DataType.INT8_VECTOR:
        vectors = np.clip(np.round(floats), -128, 127).astype(np.int8)
    else:
        vectors = narrowed(floats, data_type)
    index = built(tmp_path, index_type, metric, vectors)
    queries = widened(vectors[:10])
    found = index.search(VectorQuery("v", metric, queries, 10, SEARCH_PARAMS))
    expected = similarities(vectors, queries, metric)
    assert found.counts.tolist() == [10] * 10
    scores = expected[np.repeat(np.arange(10), 10), found.offsets]
    np.testing.assert_allclose(found.similarities, scores, rtol=1e-4, atol=1e-4)
    best = np.argsort(-expected, axis=1)[:, :10]
    hits = [len({*best[i]} & {*found.offsets[i * 10 : i * 10 + 10]}) for i in range(10)]
    assert sum(hits) >= 85


@pytest.mark.parametrize("index_type", ["HNSW_SQ", "HNSW_PQ", "IVF_SQ8", "IVF_PQ", "IVF_RABITQ"])
def test_refine_k_counts_only_if_the_index_was_built_to_refine(
    tmp_path: Path, index_type: str
) -> None:
    random = np.random.default_rng(3)
    vectors = random.standard_normal((3_000, 16)).astype(np.float32)
    queries = random.standard_normal((20, 16)).astype(np.float32)
    best = np.argsort(-similarities(vectors, queries, MetricType.L2), axis=1)[:, :10]
    hits = {}
    for refine in ("true", "false"):
        params = {**PARAMS[index_type], "refine": refine}
        index = built(tmp_path, index_type, MetricType.L2, vectors, params)
        for refine_k in (1.0, 8.0):
            asked = {**SEARCH_PARAMS, "refine_k": refine_k}
            found = index.search(VectorQuery("v", MetricType.L2, queries, 10, asked))
            offsets = found.offsets.reshape(20, 10).tolist()
            hits[refine, refine_k] = sum(
                len({*own} & {*wanted}) for own, wanted in zip(offsets, best.tolist(), strict=True)
            )
    assert hits["false", 8.0] == hits["false", 1.0] == hits["true", 1.0] < hits["true", 8.0]
