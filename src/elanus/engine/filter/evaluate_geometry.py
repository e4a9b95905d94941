"""Predicates on geometries: ``st_*`` functions, vectorised, without the GIL.

The column is the left operand. Each relation is asked of the constant, which shapely prepares once,
so that a relation that isn't symmetric is asked for its inverse. What is null or can't be read is
false.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from elanus.engine.filter.arrays import Bools, offsets_of
from elanus.engine.filter.expression import Near, Spatial
from elanus.model.geometry import shapes_of

EARTH_RADIUS_M = 6_371_000.0
METRES_PER_DEGREE = 111_320.0
INVERSES = {
    "equals": "equals",
    "touches": "touches",
    "overlaps": "overlaps",
    "crosses": "crosses",
    "intersects": "intersects",
    "contains": "within",
    "within": "contains",
}
"""The relation of the constant to the column, by that of the column to the constant."""

_POINT_BYTES = 21
_POINT_HEADER = np.array([1, 1, 0, 0, 0], np.uint8)
"""Little-endian, type 1, without z, m or a reference system."""


def spatial_truth(leaf: Spatial, column: pa.Array) -> Bools:
    """The truth of ``leaf`` (its ``negated`` aside) on each row of a column of WKB."""
    import shapely

    if leaf.relation == "isvalid":
        return np.asarray(shapely.is_valid(shapes_in(column)), np.bool_)
    shape = shapely.from_wkb(leaf.shape)
    shapely.prepare(shape)
    points = _points(column)
    if points is not None and leaf.relation in ("within", "intersects"):
        test = shapely.contains_xy if leaf.relation == "within" else shapely.intersects_xy
        return np.asarray(test(shape, points[:, 0], points[:, 1]), np.bool_)
    relation = getattr(shapely, INVERSES[leaf.relation])
    shapes = shapes_in(column)
    return np.asarray(relation(shape, shapes), np.bool_)


def near_truth(leaf: Near, column: pa.Array) -> Bools:
    """Points by the great circle; other shapes by their planar distance in degrees, scaled by the
    latitude of the query's point."""
    points = _points(column)
    if points is not None:
        near: Bools = _great_circle_m(leaf, points[:, 0], points[:, 1]) <= leaf.distance_m
        return near
    import shapely

    shapes = shapes_in(column)
    is_point = (shapely.get_type_id(shapes) == 0) & ~shapely.is_empty(shapes)
    cosine = np.cos(np.radians(leaf.latitude))
    scale = METRES_PER_DEGREE * np.sqrt((1 + cosine * cosine) / 2)
    with np.errstate(invalid="ignore"):
        distances = shapely.distance(shapely.Point(leaf.longitude, leaf.latitude), shapes) * scale
        distances[is_point] = _great_circle_m(
            leaf, shapely.get_x(shapes[is_point]), shapely.get_y(shapes[is_point])
        )
        result: Bools = distances <= leaf.distance_m
    return result


def _great_circle_m(leaf: Near, longitudes: Any, latitudes: Any) -> Any:
    """The haversine distance of points in degrees, metres."""
    there, here = np.radians(latitudes), np.radians(leaf.latitude)
    half_latitude = np.sin((there - here) / 2)
    half_longitude = np.sin(np.radians(longitudes - leaf.longitude) / 2)
    chord = half_latitude**2 + np.cos(here) * np.cos(there) * half_longitude**2
    return 2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(chord, 0, 1)))


def _points(column: pa.Array) -> Any | None:
    """float64 (rows, 2) if every row is a plain point; None otherwise. No object for any row."""
    offsets = offsets_of(column)
    rows = len(column)
    if not rows or column.null_count or offsets[-1] - offsets[0] != rows * _POINT_BYTES:
        return None
    if (np.diff(offsets) != _POINT_BYTES).any():
        return None
    raw = np.frombuffer(column.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    raw = raw.reshape(rows, _POINT_BYTES)
    if (raw[:, :5] != _POINT_HEADER).any():
        return None
    return np.ascontiguousarray(raw[:, 5:]).view("<f8")


def shapes_in(column: pa.Array) -> Any:
    """The geometries of a column of WKB, object (rows,); None for what is null or can't be read."""
    return shapes_of(column.to_numpy(zero_copy_only=False))
