"""Opens index files by mapping them: nothing is read but headers and the graph's bounds.

A file that is truncated, or is not the index that the caller expects, is refused by name. What a
flipped bit inside the vectors or links does is for the checksum to find, before this is called.
"""

import os
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.build import faiss_metric
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, Ints
from elanus.engine.index.library import faiss
from elanus.errors import CorruptData
from elanus.model.types import MetricType


class LoadedIndex:
    """A mapped index over all rows of a segment; row offsets are its labels.

    index_type: HNSW or IVF_FLAT. Safe for concurrent searches.
    """

    def __init__(
        self, index: Any, index_type: str, metric: MetricType, size_bytes: int = 0
    ) -> None:
        self.index = index
        self.index_type = index_type
        self.metric = metric
        self.row_count = int(index.ntotal)
        self.dim = int(index.d)
        self.size_bytes = size_bytes

    @cached_property
    def vectors(self) -> Floats | None:
        """float32 (rows, dim): the index's own vectors by row, without a copy (of unit length for
        COSINE); None for IVF_FLAT, which holds them by list. Read only, valid while this lives."""
        if self.index_type != "HNSW":
            return None
        storage = faiss.downcast_index(self.index.storage)
        view = faiss.rev_swig_ptr(storage.get_xb(), self.row_count * self.dim)
        return np.asarray(view, np.float32).reshape(self.row_count, self.dim)

    @cached_property
    def blocks(self) -> tuple[VectorBlock, ...]:
        """For exact scans of what the index holds; empty for IVF_FLAT."""
        return () if self.vectors is None else (VectorBlock(0, self.vectors),)

    @cached_property
    def links_per_row(self) -> int:
        """M of an HNSW graph."""
        return int(self.index.hnsw.nb_neighbors(1))

    @cached_property
    def list_of_row(self) -> "npt.NDArray[np.int32]":
        """int32 (rows,): the list of an IVF that each row is in."""
        lists = self.index.invlists
        result = np.empty(self.row_count, np.int32)
        for number in range(self.index.nlist):
            result[self._ids(lists, number)] = number
        return result

    @staticmethod
    def _ids(lists: Any, number: int) -> Ints:
        size = lists.list_size(number)
        if size == 0:
            return np.empty(0, np.int64)
        ids: Ints = faiss.rev_swig_ptr(lists.get_ids(number), size)
        return ids


def open_index(
    path: str,
    index_type: str,
    metric: MetricType,
    row_count: int,
    dim: int,
    size_bytes: int | None = None,
) -> LoadedIndex:
    """Map the index file at ``path``. Raises CorruptData if it isn't a whole index of this type
    and metric over ``row_count`` vectors of ``dim`` dimensions, or not ``size_bytes`` long."""
    try:
        if size_bytes is not None and os.path.getsize(path) != size_bytes:
            found = os.path.getsize(path)
            raise CorruptData(f"index file {path} has {found} bytes, expected {size_bytes}")
        opened = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError, MemoryError) as error:
        reason = str(error).rsplit("Error: ", 1)[-1].strip()
        raise CorruptData(f"index file {path} can't be opened: {reason}") from error
    classes = {"HNSW": faiss.IndexHNSWFlat, "IVF_FLAT": faiss.IndexIVFFlat}
    if not isinstance(opened, classes[index_type]):
        raise CorruptData(f"index file {path} holds {type(opened).__name__}, not {index_type}")
    if opened.metric_type != faiss_metric(metric):
        raise CorruptData(f"index file {path} was not built for the metric {metric}")
    if (opened.ntotal, opened.d) != (row_count, dim):
        raise CorruptData(
            f"index file {path} has {opened.ntotal} rows of {opened.d} dimensions, "
            f"expected {row_count} of {dim}"
        )
    return LoadedIndex(opened, index_type, metric)
