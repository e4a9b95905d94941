"""Filters on Geometry columns, against plain shapely calls for each row, and their errors."""

import math

import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from elanus.engine.filter import compile_filter, evaluate
from elanus.errors import FilterError
from elanus.model.geometry import wkb_of
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="places",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="g", data_type=DataType.GEOMETRY, nullable=True),
    ),
)
RELATIONS = ["equals", "touches", "overlaps", "crosses", "contains", "intersects", "within"]
METRES_PER_DEGREE = math.pi * 6_371_000 / 180

small = st.integers(-3, 3)
corners = st.tuples(small, small)
points = corners.map(shapely.Point)
lines = st.lists(corners, min_size=2, max_size=4, unique=True).map(shapely.LineString)
boxes = st.tuples(corners, st.integers(1, 4), st.integers(1, 4)).map(
    lambda at: shapely.box(at[0][0], at[0][1], at[0][0] + at[1], at[0][1] + at[2])
)
shapes = points | lines | boxes


def passing(text: str, texts: list[str | None]) -> list[int]:
    """Positions of the rows that pass."""
    plan = compile_filter(text, SCHEMA)
    assert plan is not None
    wkbs = [None if given is None else wkb_of(given) for given in texts]
    columns = {"g": pa.array(wkbs, pa.binary()), "id": pa.array(range(len(texts)))}
    found = evaluate(plan, columns.__getitem__, len(texts))
    return [at for at, passes in enumerate(found) if passes]


@settings(deadline=None, max_examples=150, derandomize=True)
@given(
    st.one_of(st.lists(points, min_size=1), st.lists(st.none() | shapes, min_size=1)),
    shapes,
    st.sampled_from(RELATIONS),
    st.booleans(),
)
def test_each_relation_is_that_of_the_row_to_the_constant(
    rows: list[shapely.Geometry | None], shape: shapely.Geometry, name: str, negated: bool
) -> None:
    text = f"{'not ' if negated else ''}st_{name}(g, '{shape.wkt}')"
    expected = [
        at
        for at, row in enumerate(rows)
        if row is not None and bool(getattr(row, name)(shape)) != negated
    ]
    assert passing(text, [None if row is None else row.wkt for row in rows]) == expected


@settings(deadline=None, max_examples=100, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(-179, 179), st.floats(-89, 89)), min_size=1),
    st.tuples(st.floats(-179, 179), st.floats(-89, 89)),
    st.floats(0, 2e7),
)
def test_points_are_near_by_the_great_circle(
    rows: list[tuple[float, float]], center: tuple[float, float], distance_m: float
) -> None:
    def metres(x: float, y: float) -> float:
        here, there = math.radians(center[1]), math.radians(y)
        turn = math.radians(x - center[0])
        across = math.sin((there - here) / 2) ** 2
        across += math.cos(here) * math.cos(there) * math.sin(turn / 2) ** 2
        return 2 * 6_371_000 * math.asin(math.sqrt(min(across, 1)))

    distances = [metres(*row) for row in rows]
    text = f"st_dwithin(g, 'POINT({center[0]!r} {center[1]!r})', {distance_m!r})"
    found = passing(text, [f"POINT({x!r} {y!r})" for x, y in rows])
    for at, exact in enumerate(distances):
        if abs(exact - distance_m) > 1e-3:
            assert (at in found) == (exact < distance_m)


def test_other_shapes_are_near_by_planar_distance() -> None:
    rows = ["LINESTRING(1 0, 1 1)", "POLYGON((2 0,3 0,3 1,2 0))", "POINT(1 0)", None]
    assert passing("st_dwithin(g, 'POINT(0 0)', 111321)", rows) == [0, 2]
    assert passing("st_dwithin(g, 'POINT(0 0)', 111200)", rows) == [2]
    assert passing("st_dwithin(g, 'POINT(0 0)', 222641)", rows) == [0, 1, 2]
    assert passing("not st_dwithin(g, 'POINT(0 0)', 111321)", rows) == [1]
    assert passing("ST_DWITHIN(g, 'POINT(1 0)', 0)", rows) == [0, 2]
    assert passing("st_dwithin(g, 'POINT(0 0)', 9)", ["POINT EMPTY", rows[0], "POINT(0 0)"]) == [2]


def test_nulls_and_invalid_shapes() -> None:
    bow_tie = "POLYGON((0 0,1 1,1 0,0 1,0 0))"
    rows = [bow_tie, "POINT(0 0)", None]
    assert passing("st_isvalid(g)", rows) == [1]
    assert passing("g is null", rows) == [2]
    assert passing("g is not null and st_isvalid(g)", rows) == [1]
    assert passing("not st_isvalid(g)", rows) == [0]


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        (
            'st_contains(id, "POINT(0 0)")',
            "STContains operation are only supported on geometry fields now, got: id",
            12,
        ),
        ('st_equals(id, "POINT(0 0)")', "STEuqals operation are only supported", 10),
        ('st_touches(id, "POINT(0 0)")', "STTouches operation are only supported", 11),
        ('st_overlaps(id, "POINT(0 0)")', "STOverlaps operation are only supported", 12),
        ('st_crosses(id, "POINT(0 0)")', "STCrosses operation are only supported", 11),
        ('st_intersects(id, "POINT(0 0)")', "STIntersects operation are only supported", 14),
        ('st_within(id, "POINT(0 0)")', "STWithin operation are only supported", 10),
        ('st_dwithin(id, "POINT(0 0)", 1)', "ST_DWITHIN operation are only supported", 11),
        ('st_within(g, "POINT(0")', "ParseException", 13),
        ('st_within(g, "")', "ParseException", 13),
        ("st_within(g, 1)", "a geometry must be given as a WKT string", 13),
        (
            'st_dwithin(g, "POINT(0 0)", -1)',
            "distance parameter must be non-negative, got: -1.000000",
            28,
        ),
        (
            'st_dwithin(g, "POINT(0 0)", "a")',
            'distance parameter must be a constant numeric value, got: "a"',
            28,
        ),
        (
            'st_dwithin(g, "POINT(0 0)", id)',
            "distance parameter must be a constant numeric value, got: id",
            28,
        ),
        ('st_dwithin(g, "LINESTRING(0 0, 1 1)", 1)', "expected a POINT", 14),
        ("st_within(g)", "st_within takes 2 arguments, but got: 1", 0),
        ('g == "POINT(0 0)"', "geometry field (g) is only supported in spatial functions", 0),
        ('g in ["POINT(0 0)"]', "geometry field (g) is only supported in spatial functions", 0),
        ('g like "P%"', "like operation on non-string or no-json field is unsupported", 0),
    ],
)
def test_a_wrong_filter_says_what_and_where(text: str, reason: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SCHEMA)
    assert reason in caught.value.message
    assert caught.value.position == position
