"""Indexes over dense vectors for tests, of every type, small enough to be built at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elanus.engine import strategy
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.families import build_index, open_index
from elanus.engine.index.dense.family import DenseIndex
from elanus.engine.index.dense.neighbours import Neighbours
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

PARAMS: dict[str, dict[str, str]] = {
    "HNSW": {"M": "8", "efConstruction": "60"},
    "HNSW_SQ": {"M": "8", "efConstruction": "60", "sq_type": "sq4u", "refine": "true"},
    "HNSW_PQ": {"M": "8", "efConstruction": "60", "m": "8", "refine": "true"},
    "HNSW_PRQ": {"M": "8", "efConstruction": "60", "m": "4", "nbits": "4", "refine": "true"},
    "IVF_FLAT": {"nlist": "32"},
    "IVF_SQ8": {"nlist": "32", "refine": "true"},
    "IVF_PQ": {"nlist": "32", "m": "8", "refine": "true"},
    "IVF_RABITQ": {"nlist": "32", "refine": "true"},
    "SCANN": {"nlist": "32"},
    "DISKANN": {"max_degree": "24", "search_list_size": "60"},
}
INDEX_TYPES = list(PARAMS)
SEARCH_PARAMS: dict[str, Any] = {
    "ef": 100,
    "nprobe": 32,
    "refine_k": 8.0,
    "reorder_k": 100,
    "search_list": 150,
}


class Searchable:
    """An index, or none, with the column that it was built over."""

    def __init__(self, index: DenseIndex | None, vectors: np.ndarray, metric: MetricType) -> None:
        self.index = index
        self.metric = metric
        self.column = DenseColumn([VectorBlock(0, vectors)], vectors.shape[1])

    def search(self, query: VectorQuery, rows: RowSet | None = None) -> Neighbours:
        if self.index is None:
            return self.column.search(query, self.column.row_count, rows, None)
        return self.index.search(self.column, query, rows)


def built(
    folder: Path,
    index_type: str,
    metric: MetricType,
    vectors: np.ndarray,
    params: dict[str, str] | None = None,
) -> Searchable:
    path = str(folder / f"{index_type}-{metric}")
    given = PARAMS[index_type] if params is None else params
    assert build_index(index_type, metric, given, vectors, path) == len(vectors)
    opened = open_index(path, index_type, metric, len(vectors), vectors.shape[1], given)
    return Searchable(opened, vectors, metric)


@pytest.fixture
def walking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes are used where a scan of so few rows would cost less."""
    monkeypatch.setattr(strategy, "exact_cost", lambda *_: float("inf"))
