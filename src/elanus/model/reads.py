"""What a read asks for and what it finds, in the words that engine and services share."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from elanus.model.types import DataType, MetricType


class Snapshot(msgspec.Struct, frozen=True):
    """The instant that a read sees. A row is visible iff ``expire_before_ts`` < its insert ts ≤
    ``read_ts`` and no delete of it has a ts ≤ ``read_ts``."""

    read_ts: int
    expire_before_ts: int = 0


class Grouping(msgspec.Struct, frozen=True):
    """Hits in groups: rows that have the same value, null included, in a field.

    path: of a JSON field, the subscripts that lead to the value. cast: the type that the value has
        there; None means the text of whatever stands there. What isn't of the type is null, or
        refuses the search if ``strict_cast``.
    size: most rows of a group.
    within: Arrow array of values, those of each query vector one after another: the groups that it
        is about, of each of which all of its best rows are wanted. None: the best groups, with such
        of their rows as are seen on the way.
    within_counts: int64 (nq,), how many values of ``within`` belong to each query vector.
    """

    field_name: str
    size: int = 1
    path: tuple[str, ...] = ()
    cast: DataType | None = None
    strict_cast: bool = False
    within: Any = None
    within_counts: Any = None


class VectorQuery(msgspec.Struct, frozen=True):
    """What to search for. A struct, as Hits are: each search makes some of them, and a frozen
    dataclass takes five times as long.

    metric: in a field of lists of vectors it may be one of vectors: then each of them may be a hit.
    vectors: one for each query, as the user gave them (not normalised). Of a dense field float32
        (nq, dim), C-contiguous, whatever its elements are; of a binary one uint8 (nq, dim / 8); of
        a sparse one an Arrow array (nq,) as :mod:`elanus.model.vectors` has them.
    top_k: hits wanted for each query vector, offset included; with a grouping, groups.
    params: search parameters of the index (ef, nprobe, …), already validated.
    radius, range_filter: bounds of a range search on the returned score (see the metric).
    grouping: None: hits stand for themselves.
    least: hits with a worse score than this are of no use to the caller, and may be left out.
    """

    field_name: str
    metric: MetricType
    vectors: Any
    top_k: int
    params: dict[str, int | float | str] = msgspec.field(default_factory=dict)
    radius: float | None = None
    range_filter: float | None = None
    grouping: Grouping | None = None
    least: float | None = None

    @property
    def most_hits(self) -> int:
        """That there can be for a query vector."""
        return self.top_k * (1 if self.grouping is None else self.grouping.size)

    def wanting(self, top_k: int) -> "VectorQuery":
        """The same for so many hits. Written out, which takes a part of the time of a copy field by
        field: most searches make one."""
        return VectorQuery(
            self.field_name,
            self.metric,
            self.vectors,
            top_k,
            self.params,
            self.radius,
            self.range_filter,
            self.grouping,
            self.least,
        )

    def at_least(self, score: float) -> "VectorQuery":
        """The same for hits that are no worse than ``score``. Written out: see ``wanting``."""
        return VectorQuery(
            self.field_name,
            self.metric,
            self.vectors,
            self.top_k,
            self.params,
            self.radius,
            self.range_filter,
            self.grouping,
            score,
        )

    def over(self, vectors: Any) -> "VectorQuery":
        """The same for other vectors. Written out: see ``wanting``."""
        return VectorQuery(
            self.field_name,
            self.metric,
            vectors,
            self.top_k,
            self.params,
            self.radius,
            self.range_filter,
            self.grouping,
            self.least,
        )


class Hits(msgspec.Struct, frozen=True):
    """Hits of a search, the queries' hits one after another, best first within a query.

    counts: int64 (nq,), hits of each query. scores: float32 (total,), as users see them (L2
    squared, COSINE and IP larger is better). keys: int64 NumPy array or Arrow string array
    (total,), the primary keys. timestamps: uint64 (total,), the rows' insert timestamps.
    sources: int64 (total,), segment ids. offsets: int64 (total,), row offsets in their segments.
    groups: Arrow array (total,), the values that the hits are grouped by; None if they are not, or
    there are no hits. elements: int64 (total,), the places of the hits in the lists of their rows,
    if they are single vectors of those; None if they are rows, or there are no hits.
    """

    counts: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    keys: Any
    timestamps: npt.NDArray[np.uint64]
    sources: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    groups: Any = None
    elements: Any = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a query by ascending primary key: keys and timestamps as in Hits."""

    keys: Any
    timestamps: npt.NDArray[np.uint64]
    sources: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
