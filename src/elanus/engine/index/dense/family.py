"""What a family of vector indexes is: built from a column into one file, opened by mapping it, and
searched. Each family has a module of its own beside this one; ``families`` names them.

An index finds rows; their vectors stay in the segment's column. What it holds of them besides are
codes or a graph. So the scores of its hits are computed from the column and are exact, whatever the
index; codes decide only which rows are looked at.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine import strategy
from elanus.engine.index.base import Note, VectorColumn, VectorIndex, unheard
from elanus.engine.index.dense.column import DenseColumn
from elanus.engine.index.dense.exact import VectorBlock
from elanus.engine.index.dense.neighbours import Floats, Neighbours, prepare_queries
from elanus.engine.index.rows import RowSet
from elanus.engine.strategy import Search
from elanus.errors import InternalError
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.model.vectors import widened

PIECE_ROWS = 16_384
MIN_ROWS_PER_CENTROID = 39
"""Centroids of fewer rows are noise: a small segment gets fewer lists, and shorter codes."""
MIN_TRAINING_ROWS = 64


@dataclass(frozen=True, slots=True)
class Source:
    """What an index is built of.

    vectors: (rows, dim) of any dense kind of elements, mapped or not. params: the index's own,
    values may be text.
    """

    metric: MetricType
    params: Mapping[str, Any]
    vectors: npt.NDArray[Any]
    threads: int = 1
    note: Note = unheard

    @property
    def row_count(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    def number(self, name: str, default: int) -> int:
        return int(self.params.get(name, default))

    def text(self, name: str, default: str) -> str:
        """In lower case."""
        return str(self.params.get(name, default)).lower()

    def pieces(self) -> Iterator[Floats]:
        """All rows as kernels want them, float32 (n, dim): of unit length for COSINE."""
        for start in range(0, self.row_count, PIECE_ROWS):
            yield self._prepared(self.vectors[start : start + PIECE_ROWS])

    def sample(self, size: int) -> Floats:
        """About ``size`` rows, spread over all, as ``pieces`` gives them; some more than once if
        there are fewer than a training takes."""
        found = self._prepared(self.vectors[:: max(1, self.row_count // size)])
        return np.resize(found, (max(len(found), MIN_TRAINING_ROWS, self.dim), self.dim))

    def _prepared(self, vectors: npt.NDArray[Any]) -> Floats:
        return prepare_queries(widened(vectors), self.metric)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the caller knows of an index file. ``params`` as it was built with."""

    index_type: str
    metric: MetricType
    row_count: int
    dim: int
    params: Mapping[str, Any]


class DenseIndex(VectorIndex):
    """An index over dense vectors. See the module."""

    # Kernels keep any of equal rows.
    orders_ties = False

    def __init__(self, expected: Expected, size_bytes: int = 0) -> None:
        self.index_type = expected.index_type
        self.metric = expected.metric
        self.row_count = expected.row_count
        self.dim = expected.dim
        self.size_bytes = size_bytes

    @classmethod
    @abstractmethod
    def build(cls, index_type: str, source: Source, out_path: str) -> None:
        """Write the file of an index over ``source``, which has rows. The caller makes it
        durable."""

    @classmethod
    @abstractmethod
    def open(cls, path: str, expected: Expected) -> "DenseIndex":
        """Map the file. Raises CorruptData, with the file's name, unless it is a whole index of
        what is expected."""

    @abstractmethod
    def find(self, search: Search) -> Neighbours:
        """The hits of a search that has queries, and rows to find."""

    @property
    def vectors(self) -> Floats | None:
        """float32 (rows, dim): exact vectors that the index itself has, of unit length for COSINE,
        read only; None if it has none."""
        return None

    def search(self, column: VectorColumn, query: VectorQuery, rows: RowSet | None) -> Neighbours:
        if not isinstance(column, DenseColumn):
            raise InternalError(f"index {self.index_type} can't search a {type(column).__name__}")
        if rows is not None and rows.count == self.row_count:
            rows = None
        if self.row_count == 0 or (rows is not None and rows.count == 0):
            return Neighbours.none(len(query.vectors))
        return self.find(Search(query, self.metric, rows, self._blocks(column)))

    def beats_scan(self, depth: float, cost: float) -> bool:
        """Whether a walk of this depth and cost, ns, is worth it for one query of all rows."""
        scan = strategy.exact_cost(self.row_count, self.row_count, self.dim, 1)
        return depth < self.row_count and cost < scan

    def _blocks(self, column: DenseColumn) -> Sequence[VectorBlock]:
        return self._own_blocks or column.blocks(self.metric)

    @cached_property
    def _own_blocks(self) -> Sequence[VectorBlock]:
        return () if self.vectors is None else (VectorBlock(0, self.vectors),)


def largest_code(row_count: int) -> int:
    """Bits of a code whose centroids have rows enough to be trained with, at least 1."""
    return max(1, int(np.log2(max(2, row_count // MIN_ROWS_PER_CENTROID))))
