"""The form in which SCANN's library has vectors. It decides only which rows are looked at.

Codes share one scale and few centres. A point that is far from all others, or an offset that all
share, leaves the differences between near rows no digits. So an origin may be taken from all
vectors, and those further than ``reach`` from it be drawn in to that distance: none that lie within
it change their distance, and no two become more distant. Vectors of unit length that all point
about the same way are compared by distance, which orders them as their products do and doesn't
change when an origin is taken away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from elanus.engine.index.dense.neighbours import Floats
from elanus.engine.index.dense.products import squared_lengths
from elanus.model.types import MetricType


@dataclass(frozen=True, slots=True)
class View:
    """by_distance: L2 inside the library, else products. origin: float32 (dim,), or None: 0.
    reach: a length, or None: any. Only views by distance have an origin or a reach."""

    by_distance: bool
    origin: Floats | None = None
    reach: float | None = None

    @staticmethod
    def plain(metric: MetricType) -> "View":
        return View(metric is MetricType.L2)

    @staticmethod
    def of(described: Mapping[str, Any], metric: MetricType) -> "View":
        """As an archive describes it; the first ones say nothing."""
        origin, reach = described.get("origin"), described.get("reach")
        return View(
            bool(described.get("by_distance", metric is MetricType.L2)),
            None if origin is None else np.array(origin, np.float32),
            None if reach is None else float(reach),
        )

    @property
    def is_plain(self) -> bool:
        """Whether the library has vectors as they are."""
        return self.origin is None and self.reach is None

    def described(self) -> dict[str, Any]:
        origin = None if self.origin is None else self.origin.tolist()
        return {"by_distance": self.by_distance, "origin": origin, "reach": self.reach}

    def queries(self, vectors: Floats) -> Floats:
        """float32 (n, dim) as the library has them; the vectors themselves if nothing changes."""
        if self.origin is not None:
            vectors = vectors - self.origin
        if self.reach is None:
            return vectors
        reach = np.float32(self.reach)
        lengths: Floats = np.sqrt(squared_lengths(vectors))
        factors: Floats = np.divide(reach, np.maximum(lengths, reach), dtype=np.float32)
        return vectors * factors[:, None]
