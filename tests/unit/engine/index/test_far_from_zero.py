"""Rows that are close together and far from 0 are found as well as the same rows around 0."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.engine.index.dense_indexes import INDEX_TYPES, Searchable, built, walking

from elanus.engine.index.dense.exact import VectorBlock, exact_search
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

__all__ = ["walking"]
pytestmark = pytest.mark.usefixtures("walking")

ROWS, DIM, TOP_K = 2_500, 64, 10
QUERIES, BATCH = 30, 2_000
"""More of a batch than faiss compares by differences."""
ASKED = {"ef": 40, "nprobe": 4, "refine_k": 4.0, "reorder_k": 60, "search_list": 40}
FAR = 3_000
IVF = [name for name in INDEX_TYPES if name.startswith("IVF")]


def points() -> np.ndarray:
    """Their numbers, and these plus FAR, are multiples of 1/64 that float32 has exactly."""
    random = np.random.default_rng(4)
    mixing = random.standard_normal((8, DIM))
    drawn = random.standard_normal((ROWS + QUERIES, 8)) @ mixing
    drawn += 0.3 * random.standard_normal(drawn.shape)
    return (np.round(drawn * 64) / 64).astype(np.float32)


def hits(index: Searchable, vectors: np.ndarray, rows: RowSet | None) -> int:
    """How many of the nearest rows of the last vectors are found."""
    queries = vectors[ROWS:]
    blocks = [VectorBlock(0, vectors[:ROWS])]
    best = exact_search(blocks, queries, MetricType.L2, TOP_K, rows).offsets.reshape(-1, TOP_K)
    answer = index.search(VectorQuery("v", MetricType.L2, queries, TOP_K, ASKED), rows)
    found = answer.offsets.reshape(-1, TOP_K)
    return sum(len({*a} & {*b}) for a, b in zip(found.tolist(), best.tolist(), strict=True))


@pytest.mark.parametrize("index_type", [*IVF, "SCANN", "HNSW_PQ"])
def test_the_same_rows_are_found_as_around_zero(tmp_path: Path, index_type: str) -> None:
    near = points()
    far = near + np.float32(FAR)
    around = built(tmp_path, index_type, MetricType.L2, near[:ROWS])
    (tmp_path / "far").mkdir()
    away = built(tmp_path / "far", index_type, MetricType.L2, far[:ROWS])
    half = RowSet(ROWS, mask=np.arange(ROWS) % 2 == 0)
    for rows in (None, half):
        # Trained at random, lists differ: by products alone a quarter and more would be missing.
        assert hits(away, far, rows) >= 0.9 * hits(around, near, rows)


@pytest.mark.parametrize("index_type", IVF)
def test_a_large_batch_finds_what_its_queries_find_alone(tmp_path: Path, index_type: str) -> None:
    far = points() + np.float32(FAR)
    index = built(tmp_path, index_type, MetricType.L2, far[:ROWS])
    asked = np.resize(far[ROWS:], (BATCH, DIM))
    half = RowSet(ROWS, mask=np.arange(ROWS) % 2 == 0)
    for rows in (None, half):
        found = index.search(VectorQuery("v", MetricType.L2, asked, TOP_K, ASKED), rows)
        offsets = found.offsets.reshape(BATCH, TOP_K)
        for number in range(QUERIES):
            query = VectorQuery("v", MetricType.L2, asked[number : number + 1], TOP_K, ASKED)
            alone = index.search(query, rows)
            assert offsets[number].tolist() == alone.offsets.tolist()
            assert offsets[number + QUERIES].tolist() == alone.offsets.tolist()
