"""What every segment, growing or sealed, can be asked. Pure computation: callers choose the thread.

A segment's methods may run in several threads at once; only its owner changes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.evaluate import sample_rows
from elanus.engine.filter.plan import Plan
from elanus.engine.index.rows import RowSet
from elanus.engine.index.sparse.statistics import TermStatistics
from elanus.model.reads import Hits, Rows, Snapshot, VectorQuery


class Segment(ABC):
    """Rows of one partition of one shard."""

    segment_id: int
    partition_id: int

    @property
    @abstractmethod
    def row_count(self) -> int:
        """Rows held, deleted ones included."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Memory that is accounted to this segment."""

    @abstractmethod
    def search(self, query: VectorQuery, snapshot: Snapshot, plan: Plan | None) -> Hits:
        """The best visible rows that pass the plan, for each query vector."""

    @abstractmethod
    def select(self, snapshot: Snapshot, plan: Plan | None, limit: int | None = None) -> Rows:
        """Visible rows that pass the plan, by ascending primary key (by timestamp within equal
        keys); at most the first ``limit``."""

    @abstractmethod
    def count(self, snapshot: Snapshot, plan: Plan | None) -> int:
        """How many rows ``select`` would give without a limit."""

    @abstractmethod
    def take(self, offsets: npt.NDArray[np.int64], fields: Sequence[str]) -> pa.RecordBatch:
        """The named columns of the rows at ``offsets``, in that order. Nullable or defaulted
        fields that the segment was written without read as null or the default."""

    @abstractmethod
    def term_statistics(self, field_name: str, terms: npt.NDArray[np.uint32]) -> TermStatistics:
        """Of ``terms``, uint32 (n,), ascending, in a field of sparse vectors: in all rows, whoever
        may see them."""

    @abstractmethod
    def delete(self, keys: pa.Array, timestamp: int) -> int:
        """Mark the rows with these primary keys and an insert ts < ``timestamp`` as deleted at
        ``timestamp``; returns how many rows this newly deleted. Idempotent, any order."""


def sampled(rows: RowSet | None, row_count: int, plan: Plan, segment_id: int) -> RowSet:
    """The random part of ``rows`` (None: all) that the plan asks for; the same one for the same
    plan and segment."""
    assert plan.sample is not None
    passing = np.ones(row_count, np.bool_) if rows is None else rows.mask
    return RowSet(row_count, mask=sample_rows(passing, plan.sample, (plan.seed, segment_id)))
