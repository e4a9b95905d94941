"""Filters on Timestamptz columns: ISO comparisons, intervals, zones, nulls, and their errors."""

from datetime import tzinfo

import pyarrow as pa
import pytest

from elanus.engine.filter import compile_filter, evaluate
from elanus.errors import FilterError
from elanus.model.schema import CollectionSchema, FieldSchema
from elanus.model.timestamptz import parse_timestamp, zone_of
from elanus.model.types import DataType

SCHEMA = CollectionSchema(
    name="times",
    fields=(
        FieldSchema(name="id", data_type=DataType.INT64, is_primary=True),
        FieldSchema(name="t", data_type=DataType.TIMESTAMPTZ, nullable=True),
        FieldSchema(name="u", data_type=DataType.TIMESTAMPTZ),
        FieldSchema(name="s", data_type=DataType.VARCHAR),
    ),
)
TIMES = [
    "2024-12-31T23:59:59.5Z",
    "2025-01-01T00:00:00Z",
    "2025-01-31T12:00:00Z",
    None,
    "2026-06-01T00:00:00+08:00",
]
MICROS = [None if text is None else parse_timestamp(text) for text in TIMES]
COLUMNS = {
    "id": pa.array([1, 2, 3, 4, 5]),
    "t": pa.array(MICROS, pa.int64()),
    "u": pa.array([0] * 5, pa.int64()),
    "s": pa.array([""] * 5),
}


def passing(text: str, zone: tzinfo | None = None, **templates: object) -> list[int]:
    plan = compile_filter(text, SCHEMA, templates, zone or zone_of("UTC"))
    assert plan is not None
    found = evaluate(plan, COLUMNS.__getitem__, 5)
    return [at + 1 for at, passes in enumerate(found) if passes]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ('t == iso "2025-01-01T00:00:00Z"', [2]),
        ('t == ISO "2025-01-01 08:00:00+08"', [2]),
        ('t != iso "2025-01-01T00:00:00Z"', [1, 3, 5]),
        ('t < iso "2025-01-01T00:00:00Z"', [1]),
        ('t >= iso "2025-01-31T12:00:00.000001Z"', [5]),
        ('iso "2025-01-01T00:00:00Z" < t', [3, 5]),
        ('not t > iso "2025-01-01T00:00:00Z"', [1, 2]),
        ('not (t > iso "2025-01-01T00:00:00Z")', [1, 2]),
        ('t > iso "2025-01-01T00:00:00Z" and t < iso "2026-01-01T00:00:00Z"', [3]),
        ('t is null or t == iso "2025-01-01T00:00:00Z"', [2, 4]),
        ("t is not null", [1, 2, 3, 5]),
        ('t + interval "P1D" == iso "2025-01-02T00:00:00Z"', [2]),
        ('t + interval "PT1S" == iso "2025-01-01T00:00:00Z"', [1]),
        ('t + INTERVAL "P1M" >= iso "2025-03-03T12:00:00Z"', [3, 5]),
        ('t - interval "P1Y" < iso "2024-01-01T00:00:00Z"', [1]),
        ('iso "2025-02-01T00:00:00Z" == t + interval "P1M"', [2]),
        ('not t + interval "P1D" == iso "2025-01-02T00:00:00Z"', [1, 3, 5]),
    ],
)
def test_a_filter_gives_its_rows(text: str, ids: list[int]) -> None:
    assert passing(text) == ids


def test_a_time_without_an_offset_is_of_the_requests_zone() -> None:
    shanghai = zone_of("Asia/Shanghai")
    assert passing('t == iso "2025-01-01 08:00:00"', shanghai) == [2]
    assert passing('t == iso "2025-01-01 08:00:00"') == []
    assert passing('t == iso "2025-01-01T00:00:00Z"', shanghai) == [2]


def test_microseconds_come_by_lists_and_templates() -> None:
    assert passing(f"t in [{MICROS[1]}, 7]") == [2]
    assert passing("t not in {x}", x=[MICROS[1]]) == [1, 3, 5]
    assert passing("t == {x}", x=MICROS[2]) == [3]
    assert passing("{x} <= t < {y}", x=MICROS[1], y=MICROS[2]) == [2]


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ('s > iso "2025-01-01T00:00:00Z"', "field 's' is not a timestamptz datatype", 0),
        ('nokey > iso "2025-01-01T00:00:00Z"', "field nokey not exist", 0),
        (
            't > iso "yesterday"',
            "invalid timestamp string: 'yesterday'. Does not match any known format",
            8,
        ),
        (
            't > iso "2025-01-01T00:00:00+15:00"',
            "UTC offset hour 15 is out of the valid range [-12, 14]",
            8,
        ),
        (
            't + interval "P1W" > iso "2025-01-01T00:00:00Z"',
            "invalid ISO 8601 duration: P1W",
            13,
        ),
        ("t > 5", "comparisons between Timestamptz and Int64 are not supported", 0),
        ('t > "2025-01-01T00:00:00Z"', "comparisons between Timestamptz and VarChar", 0),
        ("t == u", "comparisons between Timestamptz and Timestamptz are not supported", 0),
        ("1 < t < 5", "invalid range operations", 0),
        ("t + 1 == 2", "'add' can only be used between integer or floating", 2),
        ('t in ["2025-01-01T00:00:00Z"]', "in list cannot be casted to Timestamptz", 5),
        ('t > iso "2025-01-01T00:00:00Z" > t', "two incompatible operands", 0),
        ('t + interval "P1D"', "extraneous input", 13),
        ('iso "2025-01-01T00:00:00Z"', "extraneous input", 4),
        ('t like "a"', "like operation on non-string or no-json field is unsupported", 0),
        ("t", "predicate is not a boolean expression: t, data type: Timestamptz", 0),
    ],
)
def test_a_wrong_filter_says_what_and_where(text: str, reason: str, position: int) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, SCHEMA)
    assert reason in caught.value.message
    assert caught.value.position == position
