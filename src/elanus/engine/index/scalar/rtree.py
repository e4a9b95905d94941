"""The bounds of geometries in a packed tree of two levels: candidates for relations to a shape.

Rows are ordered by stripes of their centres, so that the bounds of a node of neighbours are small.
Arrays of its file: ``bounds`` float64 (rows, 4) as (min x, min y, max x, max y) in that order of
``rows`` int32; ``nodes`` float64 (ceil(rows / 256), 4). Empty geometries and nulls aren't there:
they are in no relation to a shape that isn't empty.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elanus.engine.filter.arrays import Bools
from elanus.engine.filter.evaluate_geometry import EARTH_RADIUS_M, METRES_PER_DEGREE, shapes_in
from elanus.engine.filter.expression import Leaf, Near, Spatial
from elanus.engine.filter.indexes import Answer
from elanus.engine.index.scalar.base import Arrays, ColumnIndex

NODE_ROWS = 256
FIXED_NS = 50_000
LOOKED_AT_ROW_NS = 10.0
VERIFIED_ROW_NS = 2_000.0
_SLACK_DEGREES = 1e-7
"""More than what rounding takes from a bound."""

Bounds = npt.NDArray[np.float64]


class RtreeIndex(ColumnIndex):
    """See the module. Raises KeyError if arrays are missing."""

    def __init__(self, row_count: int, facts: Mapping[str, int | str], arrays: Arrays) -> None:
        super().__init__(row_count, facts, arrays)
        self._bounds, self._nodes = arrays["bounds"], arrays["nodes"]
        self._rows = arrays["rows"]

    def answer(self, leaf: Leaf) -> Answer | None:
        if isinstance(leaf, Near):
            window = self._window_around(leaf)
        elif isinstance(leaf, Spatial) and leaf.relation != "isvalid":
            window = _window_of(leaf.shape)
        else:
            return None
        if window is None:
            return None
        found = self._within(window)
        cost = FIXED_NS + VERIFIED_ROW_NS * len(found)

        def ask() -> Bools:
            mask = np.zeros(self.row_count, np.bool_)
            mask[found] = True
            return mask

        return Answer(cost, ask, exact=False)

    def _within(self, window: Bounds) -> npt.NDArray[np.int32]:
        """Rows whose bounds meet the window."""
        nodes = np.flatnonzero(_meets(self._nodes, window))
        places = (nodes[:, None] * NODE_ROWS + np.arange(NODE_ROWS)).ravel()
        places = places[places < len(self._rows)]
        found: npt.NDArray[np.int32] = self._rows[places[_meets(self._bounds[places], window)]]
        return found

    def _window_around(self, leaf: Near) -> Bounds | None:
        """What holds every shape within the distance; None if coordinates aren't degrees."""
        if not len(self._nodes):
            return np.zeros(4)
        low, high = self._nodes[:, :2].min(0), self._nodes[:, 2:].max(0)
        if (low < (-180, -90)).any() or (high > (180, 90)).any() or leaf.distance_m < 0:
            return None
        cosine = np.cos(np.radians(leaf.latitude))
        planar = leaf.distance_m / (METRES_PER_DEGREE * np.sqrt((1 + cosine * cosine) / 2))
        angle = leaf.distance_m / EARTH_RADIUS_M
        tall = max(np.degrees(angle), planar) + _SLACK_DEGREES
        south, north = leaf.latitude - tall, leaf.latitude + tall
        sine = np.sin(min(angle, np.pi / 2)) / max(cosine, 1e-12)
        wide = max(np.degrees(np.arcsin(min(sine, 1.0))), planar) + _SLACK_DEGREES
        west, east = leaf.longitude - wide, leaf.longitude + wide
        # Beyond a pole or the line of date what is near lies at any longitude.
        if south <= -90 or north >= 90 or west <= -180 or east >= 180:
            west, east = -180.0, 180.0
        return np.array([west, south, east, north])


def _window_of(shape: bytes) -> Bounds | None:
    """The bounds of a WKB; None for what has none."""
    import shapely

    window: Bounds = shapely.bounds(shapely.from_wkb(shape))
    return None if np.isnan(window).any() else window


def _meets(bounds: Bounds, window: Bounds) -> Bools:
    met: Bools = (
        (bounds[:, 0] <= window[2])
        & (bounds[:, 2] >= window[0])
        & (bounds[:, 1] <= window[3])
        & (bounds[:, 3] >= window[1])
    )
    return met


def rtree_arrays(column: pa.Array) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an index over a column of WKB. Heavy: for a process of its own."""
    import shapely

    bounds = shapely.bounds(shapes_in(column)).reshape(-1, 4)
    rows = np.flatnonzero(~np.isnan(bounds).any(1))
    bounds = bounds[rows]
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    stripes = max(1, int(np.sqrt(len(rows) / NODE_ROWS)))
    ranks = np.empty(len(rows), np.int64)
    ranks[np.argsort(centres[:, 0], kind="stable")] = np.arange(len(rows))
    order = np.lexsort((centres[:, 1], ranks * stripes // max(len(rows), 1)))
    bounds, rows = bounds[order], rows[order]
    firsts = np.arange(0, len(rows), NODE_ROWS)
    nodes = np.empty((len(firsts), 4))
    if len(firsts):
        nodes[:, :2] = np.minimum.reduceat(bounds[:, :2], firsts)
        nodes[:, 2:] = np.maximum.reduceat(bounds[:, 2:], firsts)
    return {"bounds": bounds, "rows": rows.astype(np.int32), "nodes": nodes}
