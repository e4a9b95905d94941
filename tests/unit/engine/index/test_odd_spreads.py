"""SCANN and AUTOINDEX find the nearest however the rows are spread."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.engine.index.dense_indexes import Searchable, walking

from elanus.access.ddl.index_parameters import AUTO_SCANN
from elanus.engine.index.dense.families import build_index, open_index
from elanus.engine.index.dense.ivf import IvfIndex
from elanus.engine.index.dense.scann import ScannIndex
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

__all__ = ["walking"]
pytestmark = pytest.mark.usefixtures("walking")
ROWS, DIM, QUERIES, TOP_K = 5_000, 16, 40, 10
RECALL = 0.93
"""0.95 and more, but no two trainings are the same."""
CODED = {
    MetricType.L2: ["ordinary", "outliers"],
    MetricType.COSINE: ["ordinary", "far from 0"],
    MetricType.IP: ["ordinary"],
}
"""Spreads that codes are kept for."""
IN_LISTS = {
    MetricType.L2: ["two groups"],
    MetricType.COSINE: ["two groups"],
    MetricType.IP: ["an outlier"],
}
"""Spreads of which no codes choose well, so that lists have vectors."""
KINDS = {
    "SCANN": ({"nlist": "32"}, {"nprobe": 16, "reorder_k": 200}),
    "AUTOINDEX": (AUTO_SCANN[1], {}),
}


def drawn(spread: str) -> np.ndarray:
    """Rows, then queries."""
    random = np.random.default_rng(3)
    mixed = random.standard_normal((ROWS + QUERIES, 8)) @ random.standard_normal((8, DIM))
    vectors = mixed + 0.3 * random.standard_normal(mixed.shape)
    match spread:
        case "an outlier":
            vectors[0] += 1_000
        case "outliers":
            count = ROWS // 100
            vectors[:count] += 1_000 * random.standard_normal((count, DIM))
        case "two groups":
            vectors[::2] += 1_000
            vectors[1::2] -= 1_000
        case "far from 0":
            vectors += 10 * vectors.std() * random.standard_normal(DIM)
    return vectors.astype(np.float32)


def cases(spreads: dict[MetricType, list[str]]) -> list[tuple[MetricType, str]]:
    return [(metric, spread) for metric, those in spreads.items() for spread in those]


class Built:
    """An index over all of the vectors but the queries, and what was noted of its build."""

    def __init__(self, folder: Path, kind: str, metric: MetricType, vectors: np.ndarray) -> None:
        params, self._asked = KINDS[kind]
        self.notes: list[str] = []
        rows, self._queries = vectors[:-QUERIES], vectors[-QUERIES:]
        path = str(folder / "index")
        build_index("SCANN", metric, params, rows, path, note=self.notes.append)
        self.index = open_index(path, "SCANN", metric, *rows.shape, params)
        self._searchable = Searchable(self.index, rows, metric)

    def recall(self) -> float:
        query = VectorQuery("v", self.index.metric, self._queries, TOP_K, self._asked)
        column = self._searchable.column
        bars = column.search(query, column.row_count, None, None).similarities
        found = self._searchable.search(query).similarities.reshape(QUERIES, TOP_K)
        return float((found >= bars.reshape(QUERIES, TOP_K)[:, -1:]).mean())


@pytest.mark.parametrize(("metric", "spread"), cases(CODED))
def test_codes_find_the_nearest(tmp_path: Path, metric: MetricType, spread: str) -> None:
    built = Built(tmp_path, "AUTOINDEX", metric, drawn(spread))
    assert isinstance(built.index, ScannIndex)
    assert built.notes == []
    assert built.recall() >= RECALL


@pytest.mark.parametrize("kind", KINDS)
def test_codes_find_the_nearest_beside_an_outlier(tmp_path: Path, kind: str) -> None:
    built = Built(tmp_path, kind, MetricType.L2, drawn("an outlier"))
    assert isinstance(built.index, ScannIndex)
    assert built.recall() >= RECALL


@pytest.mark.parametrize(("metric", "spread"), cases(IN_LISTS))
def test_lists_of_vectors_find_the_nearest_where_codes_do_not(
    tmp_path: Path, metric: MetricType, spread: str
) -> None:
    built = Built(tmp_path, "AUTOINDEX", metric, drawn(spread))
    assert isinstance(built.index, IvfIndex)
    # A quarter of the lists is searched, as of those of codes.
    assert built.index.nprobe == -(-built.index.nlist // 4)
    assert "lists of vectors are built" in " ".join(built.notes)
    assert built.recall() >= RECALL


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_two_dimensions_are_found(tmp_path: Path, kind: str) -> None:
    vectors = np.random.default_rng(5).random((ROWS, 2), np.float32)
    assert Built(tmp_path, kind, MetricType.L2, vectors).recall() >= RECALL
