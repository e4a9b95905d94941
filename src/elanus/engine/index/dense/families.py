"""The families of indexes over dense vectors by Milvus's names. FLAT has no file: it is a scan."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy.typing as npt

from elanus.engine.index.base import Note, unheard
from elanus.engine.index.dense.diskann import DiskannIndex
from elanus.engine.index.dense.family import DenseIndex, Expected, Source
from elanus.engine.index.dense.hnsw import HnswIndex
from elanus.engine.index.dense.ivf import IvfIndex
from elanus.engine.index.dense.products import are_blurred, differences_only
from elanus.engine.index.dense.scann import ScannIndex
from elanus.errors import InvalidParameter
from elanus.model.types import MetricType

FAMILIES: dict[str, type[DenseIndex]] = {
    "IVF_FLAT": IvfIndex,
    "IVF_SQ8": IvfIndex,
    "IVF_PQ": IvfIndex,
    "IVF_RABITQ": IvfIndex,
    "HNSW": HnswIndex,
    "HNSW_SQ": HnswIndex,
    "HNSW_PQ": HnswIndex,
    "HNSW_PRQ": HnswIndex,
    "SCANN": ScannIndex,
    "DISKANN": DiskannIndex,
}

SAMPLED_ROWS = 1_024
"""That tell how near rows are to each other."""


def build_index(
    index_type: str,
    metric: MetricType,
    params: Mapping[str, Any],
    vectors: npt.NDArray[Any],
    out_path: str,
    threads: int = 1,
    note: Note = unheard,
) -> int:
    """Build over ``vectors`` and write ``out_path``; returns the number of rows.

    vectors: (rows, dim) of any dense kind of elements, mapped or not. Raises InvalidParameter for
    a type that has no file.
    """
    family = FAMILIES.get(index_type)
    if family is None:
        raise InvalidParameter(
            "index type can't be built into a file",
            expected=" or ".join(sorted(FAMILIES)),
            actual=index_type,
        )
    source = Source(metric, params, vectors, threads, note)
    with _precision(source):
        family.build(index_type, source, out_path)
    return len(vectors)


def _precision(source: Source) -> AbstractContextManager[None]:
    """Centroids and codes of rows that products would blur are trained by differences."""
    is_needed = source.metric is MetricType.L2 and are_blurred(source.sample(SAMPLED_ROWS))
    return differences_only() if is_needed else nullcontext()


def open_index(
    path: str,
    index_type: str,
    metric: MetricType,
    row_count: int,
    dim: int,
    params: Mapping[str, Any] | None = None,
) -> DenseIndex:
    """Map the index file at ``path``, built with ``params``. Raises CorruptData if it isn't a
    whole index of this type and metric over ``row_count`` vectors of ``dim`` dimensions."""
    expected = Expected(index_type, metric, row_count, dim, params or {})
    return FAMILIES[index_type].open(path, expected)
