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

ROWS, QUERIES, TOP_K = 4_000, 30, 10
ASKED = {"ef": 40, "nprobe": 4, "refine_k": 4.0, "reorder_k": 60, "search_list": 40}
FAR = 3_000


def points() -> np.ndarray:
    """Their numbers, and these plus FAR, are multiples of 1/64 that float32 has exactly."""
    random = np.random.default_rng(4)
    centers = random.standard_normal((80, 16)) * 2
    spread = random.standard_normal((ROWS + QUERIES, 16))
    drawn = centers[random.integers(0, len(centers), len(spread))] + spread
    return (np.round(drawn * 64) / 64).astype(np.float32)


def hits(index: Searchable, vectors: np.ndarray, nq: int, rows: RowSet | None) -> int:
    """Of the nearest rows of all queries, which are asked ``nq`` at a time."""
    queries = vectors[ROWS:]
    blocks = [VectorBlock(0, vectors[:ROWS])]
    best = exact_search(blocks, queries, MetricType.L2, TOP_K, rows).offsets.reshape(-1, TOP_K)
    found: list[list[int]] = []
    for start in range(0, QUERIES, nq):
        asked = VectorQuery("v", MetricType.L2, queries[start : start + nq], TOP_K, ASKED)
        answer = index.search(asked, rows)
        distances = (vectors[answer.offsets] - queries[start : start + nq].repeat(TOP_K, 0)) ** 2
        np.testing.assert_allclose(answer.similarities, -distances.sum(1), rtol=1e-5)
        found += answer.offsets.reshape(-1, TOP_K).tolist()
    return sum(len({*a} & {*b}) for a, b in zip(found, best.tolist(), strict=True))


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_the_same_rows_are_found_as_around_zero(tmp_path: Path, index_type: str) -> None:
    near = points()
    far = near + np.float32(FAR)
    around = built(tmp_path, index_type, MetricType.L2, near[:ROWS])
    (tmp_path / "far").mkdir()
    away = built(tmp_path / "far", index_type, MetricType.L2, far[:ROWS])
    half = RowSet(ROWS, mask=np.arange(ROWS) % 2 == 0)
    for rows in (None, half):
        expected = hits(around, near, QUERIES, rows)
        for nq in (1, QUERIES):
            assert hits(away, far, nq, rows) >= 0.95 * expected
