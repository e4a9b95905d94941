"""What a segment holds of a vector field, and how it is searched, whatever the kind of its vectors.

Each kind has a folder beside this module: ``dense`` (float32, float16, bfloat16, int8), ``binary``,
``sparse``, and ``lists`` (of dense or binary vectors). Which class serves a field stands in
:mod:`elanus.engine.index.kinds`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from elanus.engine.index.dense.neighbours import Ints, Neighbours
from elanus.engine.index.rows import RowSet
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType

Note = Callable[[str], None]
"""Hears, in a sentence, of what an index build did otherwise than asked for."""


Nearest = Callable[[Any], tuple[npt.NDArray[np.float32], Ints] | None]
"""(similarities, rows), best first, of the vectors of a query, of which there is one."""

Better = Callable[
    [Any, float, int, npt.NDArray[np.bool_] | None], tuple[npt.NDArray[np.float32], Ints] | None
]
"""(similarities, rows), best first, of (the vectors of a query, of which there is one; the least
similarity that is wanted; the end of the rows that are; which of all rows are, None: any)."""


def unheard(_: str) -> None:
    """A Note that nobody reads."""


class Interim(ABC):
    """Answers for the rows ``0 … covered-1`` of a column while no built index is there.

    Never changes: covering more rows gives a new one. ``metric``: the one it was made for.
    ``orders_ties``: of rows that score the same, searches give those with the smaller offsets.
    """

    metric: MetricType
    covered: int
    orders_ties = True

    @property
    @abstractmethod
    def size_bytes(self) -> int: ...


class VectorColumn(ABC):
    """The vectors of some consecutive rows from a segment's first on. Immutable; safe in many
    threads.

    dim: dimensions, 0 of a sparse column. valid: bool (rows,), which rows have a vector; None: all.
    """

    dim: int
    row_count: int
    valid: npt.NDArray[np.bool_] | None

    @property
    def vector_count(self) -> int:
        """Vectors that an index over the column has: one of each row, but in a column of lists."""
        return self.row_count

    @abstractmethod
    def search(
        self, query: VectorQuery, row_count: int, rows: RowSet | None, interim: Interim | None
    ) -> Neighbours:
        """The best of ``rows`` (None: all) among the first ``row_count`` rows for each query
        vector, exactly or by ``interim`` as far as that covers them. ``rows`` has none without a
        vector."""

    @abstractmethod
    def take(self, offsets: Ints) -> Any:
        """The rows at ``offsets`` as an Arrow array of the field's type."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Memory for what was computed from the vectors (their lengths, …)."""

    @abstractmethod
    def forget(self) -> None:
        """Give back what was computed; it is computed again when it is needed."""

    def better(self, metric: MetricType, top_k: int, interim: Interim) -> Better | None:
        """What most searches of growing rows want, prepared to be done by as few steps as can be: a
        function that finds the best ``top_k`` of those rows that are as similar as rows found
        elsewhere. None, of either, if that takes more steps; then ``search`` tells."""
        return None

    def is_interim_due(self, current: Interim | None) -> bool:
        """Whether ``extended`` would make searches faster."""
        return False

    def extended(self, metric: MetricType, current: Interim | None) -> Interim | None:
        """An interim index over all rows that builds on ``current``. For a compute thread."""
        return current

    def with_vectors(self, rows: RowSet | None, row_count: int) -> RowSet | None:
        """Those of ``rows`` (None: the first ``row_count``) that have a vector."""
        if self.valid is None:
            return rows
        valid = self.valid[:row_count]
        if rows is None:
            return None if valid.all() else RowSet(row_count, mask=valid)
        return RowSet(row_count, mask=rows.mask & valid)


class VectorIndex(ABC):
    """A built index over all vectors of a segment; the hits are rows. Safe in many threads.

    row_count: of vectors (see ``VectorColumn.vector_count``).

    dim: dimensions, 0 of a sparse index. size_bytes: memory beside what is mapped.
    orders_ties: as of an Interim.
    """

    index_type: str
    metric: MetricType
    row_count: int
    dim: int
    size_bytes: int
    orders_ties = True

    @abstractmethod
    def search(self, column: VectorColumn, query: VectorQuery, rows: RowSet | None) -> Neighbours:
        """The best of ``rows`` (None: all) for each query vector. ``column`` has the vectors that
        the index was built over."""

    def nearest(self, column: VectorColumn, query: VectorQuery) -> Nearest | None:
        """What most searches want, prepared to be done by as few steps as can be: a function that
        finds the best ``top_k`` of all rows for queries of one vector without a radius, with the
        parameters of ``query``. None, of either, if that takes more steps, or if the last hit may
        tie with another row; then ``search`` tells."""
        return None
