"""Index files: built, mapped, and refused when they are not what was asked for."""

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

from elanus.engine.index.dense.families import build_index, open_index
from elanus.engine.index.dense.neighbours import prepare_queries
from elanus.errors import CorruptData, InvalidParameter
from elanus.model.reads import VectorQuery
from elanus.model.types import DENSE_METRICS, MetricType

__all__ = ["walking"]
pytestmark = pytest.mark.usefixtures("walking")
ROWS, DIM = 3_000, 16


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.standard_normal((30, DIM)) * 3
    return (centres[random.integers(0, 30, ROWS)] + random.standard_normal((ROWS, DIM))).astype(
        np.float32
    )


@pytest.mark.parametrize("metric", list(DENSE_METRICS))
@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_a_built_index_opens_and_finds_rows_with_exact_scores(
    tmp_path: Path, vectors: np.ndarray, index_type: str, metric: MetricType
) -> None:
    stored = tmp_path / "vectors.npy"
    np.save(stored, vectors)
    index = built(tmp_path, index_type, metric, np.load(stored, mmap_mode="r"))
    query = VectorQuery("v", metric, vectors[:20] * 2, 10, SEARCH_PARAMS)
    found = index.search(query)
    assert found.counts.tolist() == [10] * 20
    queries = prepare_queries(query.vectors, metric).astype(np.float64)
    rows = prepare_queries(vectors, metric).astype(np.float64)
    if metric is MetricType.L2:
        expected = -((queries[:, None] - rows[None]) ** 2).sum(-1)
    else:
        expected = queries @ rows.T
    of_query = np.repeat(np.arange(20), 10)
    np.testing.assert_allclose(
        found.similarities, expected[of_query, found.offsets], rtol=1e-5, atol=1e-5
    )
    best = np.argsort(-expected, axis=1)[:, :10]
    hits = [len({*best[i]} & {*found.offsets[i * 10 : i * 10 + 10]}) for i in range(20)]
    # Scores of the inner product are far from the graph's neighbourhoods.
    assert sum(hits) >= (200 if index_type == "IVF_FLAT" else 170)


def test_a_file_of_a_type_without_file_is_refused(tmp_path: Path, vectors: np.ndarray) -> None:
    with pytest.raises(InvalidParameter, match="FLAT"):
        build_index("FLAT", MetricType.L2, {}, vectors, str(tmp_path / "index"))


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_a_truncated_file_is_refused_by_name(
    tmp_path: Path, vectors: np.ndarray, index_type: str
) -> None:
    path = tmp_path / "index"
    build_index(index_type, MetricType.IP, PARAMS[index_type], vectors, str(path))
    whole = path.read_bytes()
    for size in (0, 3, 20, 1_000, len(whole) // 2, len(whole) - 500):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptData, match=str(path)):
            open_index(str(path), index_type, MetricType.IP, ROWS, DIM)
    path.write_bytes(b"\xff\xff" + whole[2:])
    with pytest.raises(CorruptData, match=str(path)):
        open_index(str(path), index_type, MetricType.IP, ROWS, DIM)
    path.unlink()
    with pytest.raises(CorruptData, match="No such file"):
        open_index(str(path), index_type, MetricType.IP, ROWS, DIM)


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_another_segments_index_is_refused(
    tmp_path: Path, vectors: np.ndarray, index_type: str
) -> None:
    path = str(tmp_path / "index")
    build_index(index_type, MetricType.L2, PARAMS[index_type], vectors, path)
    with pytest.raises(CorruptData, match="has 3000 rows of 16 dimensions, expected 2999 of 16"):
        open_index(path, index_type, MetricType.L2, ROWS - 1, DIM)
    with pytest.raises(CorruptData, match="metric COSINE"):
        open_index(path, index_type, MetricType.COSINE, ROWS, DIM)
    for other in ("IVF_PQ", "HNSW_PQ", "SCANN", "DISKANN"):
        if other != index_type:
            with pytest.raises(CorruptData, match=path):
                open_index(path, other, MetricType.L2, ROWS, DIM)
