"""Index files of every kind: which module builds and opens those of an index type."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from elanus.engine.index.base import Note, VectorIndex, unheard
from elanus.engine.index.binary.ivf import build_binary_ivf, open_binary_ivf
from elanus.engine.index.dense import families as dense
from elanus.engine.index.dense.ivf import DEFAULT_NLIST
from elanus.engine.index.lists.index import VectorListIndex
from elanus.engine.index.sparse.index import build_sparse, open_sparse
from elanus.model.types import MetricType
from elanus.model.vectors import SparseRows, VectorLists, vectors_of

SPARSE_TYPES = frozenset({"SPARSE_INVERTED_INDEX", "SPARSE_WAND"})
BINARY_IVF = "BIN_IVF_FLAT"
_NOTHING = b"no vectors"


def build_index(
    index_type: str,
    metric: MetricType,
    params: Mapping[str, Any],
    vectors: Any,
    out_path: str,
    threads: int = 1,
    note: Note = unheard,
) -> int:
    """Build over ``vectors`` and write ``out_path``; returns the number of rows.

    vectors: a column as :mod:`elanus.model.vectors` has it, NumPy (rows, width) or Arrow, mapped
    or not. Raises InvalidParameter for a type that has no file.
    """
    if _are_lists(vectors):
        lists = VectorLists.of(vectors)
        return _build_lists(index_type, metric, params, lists, out_path, threads, note)
    if index_type in SPARSE_TYPES:
        return build_sparse(SparseRows.of(vectors), out_path)
    if not isinstance(vectors, np.ndarray):
        vectors = vectors_of(vectors)
    if index_type == BINARY_IVF:
        nlist = int(params.get("nlist", DEFAULT_NLIST))
        return build_binary_ivf(vectors, nlist, out_path, threads)
    return dense.build_index(index_type, metric, params, vectors, out_path, threads, note)


def _are_lists(vectors: Any) -> bool:
    return (
        not isinstance(vectors, np.ndarray)
        and pa.types.is_list(vectors.type)
        and pa.types.is_fixed_size_list(vectors.type.value_type)
    )


def _build_lists(
    index_type: str,
    metric: MetricType,
    params: Mapping[str, Any],
    lists: VectorLists,
    out_path: str,
    threads: int,
    note: Note,
) -> int:
    """The file of lists is that of their vectors, whichever of the two are compared."""
    if len(lists.vectors):
        build_index(index_type, metric.of_vectors, params, lists.vectors, out_path, threads, note)
    else:
        Path(out_path).write_bytes(_NOTHING)
    return len(lists)


def open_index(
    path: str,
    index_type: str,
    metric: MetricType,
    row_count: int,
    dim: int,
    params: Mapping[str, Any] | None = None,
) -> VectorIndex:
    """Map the index file at ``path``, built with ``params``. Raises CorruptData if it isn't a
    whole index of this type and metric over ``row_count`` rows (vectors, of a column of lists) of
    ``dim`` dimensions (0: sparse).
    """
    if metric.is_of_lists or not row_count:
        between = metric.of_vectors
        vectors = (
            open_index(path, index_type, between, row_count, dim, params) if row_count else None
        )
        return VectorListIndex(index_type, metric, dim, vectors)
    if index_type in SPARSE_TYPES:
        return open_sparse(path, index_type, metric, row_count)
    if index_type == BINARY_IVF:
        return open_binary_ivf(path, metric, row_count, dim)
    return dense.open_index(path, index_type, metric, row_count, dim, params)
