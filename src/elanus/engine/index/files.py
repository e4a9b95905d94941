"""Index files of every kind: which module builds and opens those of an index type."""

from collections.abc import Mapping
from typing import Any

from elanus.engine.index.base import VectorIndex
from elanus.engine.index.dense import families as dense
from elanus.model.types import MetricType


def build_index(
    index_type: str,
    metric: MetricType,
    params: Mapping[str, Any],
    vectors: Any,
    out_path: str,
    threads: int = 1,
) -> int:
    """Build over ``vectors`` and write ``out_path``; returns the number of rows.

    vectors: a column as :mod:`elanus.model.vectors` has it, NumPy (rows, width) or Arrow, mapped
    or not. Raises InvalidParameter for a type that has no file.
    """
    return dense.build_index(index_type, metric, params, vectors, out_path, threads)


def open_index(
    path: str,
    index_type: str,
    metric: MetricType,
    row_count: int,
    dim: int,
    params: Mapping[str, Any] | None = None,
) -> VectorIndex:
    """Map the index file at ``path``, built with ``params``. Raises CorruptData if it isn't a
    whole index of this type and metric over ``row_count`` rows of ``dim`` dimensions (0: sparse)."""
    return dense.open_index(path, index_type, metric, row_count, dim, params)
