"""Timestamps with time zone: texts in, microseconds, texts and parts out, civil arithmetic."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.errors import InvalidParameter, Rejected
from elanus.model.timestamptz import (
    InvalidTimestamp,
    format_timestamps,
    parse_interval,
    parse_parts,
    parse_timestamp,
    parse_timestamps,
    parts_of,
    shifted,
    zone_of,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = ["UTC", "Asia/Shanghai", "America/New_York", "Asia/Kathmandu", "Pacific/Auckland"]


def micros(*civil: int) -> int:
    return (datetime(*civil, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-01T00:00:00Z", micros(2025, 1, 1)),
        ("2025-01-01 00:00:00Z", micros(2025, 1, 1)),
        ("2025-01-01T08:00:00+08:00", micros(2025, 1, 1)),
        ("2025-01-01 08:00:00+08", micros(2025, 1, 1)),
        ("2024-12-31T18:30:00-05:30", micros(2025, 1, 1)),
        ("2025-01-01T00:00:00.5Z", micros(2025, 1, 1, 0, 0, 0, 500_000)),
        ("2025-01-01T00:00:00.123456789Z", micros(2025, 1, 1, 0, 0, 0, 123_456)),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00Z", micros(1, 1, 1)),
        ("9999-12-31T23:59:59Z", micros(9999, 12, 31, 23, 59, 59)),
        ("9999-12-31T23:59:59-12:00", micros(9999, 12, 31, 23, 59, 59) + 12 * 3_600_000_000),
    ],
)
def test_a_text_is_an_instant(text: str, expected: int) -> None:
    assert parse_timestamp(text) == expected


def test_a_text_without_an_offset_is_of_the_given_zone() -> None:
    zone = zone_of("Asia/Shanghai")
    assert parse_timestamp("2025-01-01 08:00:00", zone) == micros(2025, 1, 1)
    assert parse_timestamp("2025-01-01T00:00:00", zone) == micros(2024, 12, 31, 16)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025",
        "2025-13-01T00:00:00Z",
        "2025-02-30T00:00:00Z",
        "2025-01-01T25:00:00Z",
        "a",
        "٢٠٢٥-01-01T00:00:00Z",
        "2025-01-01T00:00:00z",
        " 2025-01-01T00:00:00Z",
        "2025-01-01T00:00:00Z\n",
        "0000-01-01T00:00:00Z",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidTimestamp) as caught:
        parse_timestamp(text)
    assert str(caught.value) == (
        f"invalid timestamp string: '{text}'. Does not match any known format"
    )


@pytest.mark.parametrize("offset", ["+14:01", "-12:01", "+15", "-13:00", "+99"])
def test_offsets_have_bounds(offset: str) -> None:
    with pytest.raises(InvalidTimestamp, match=r"UTC offset hour .* is out of the valid range"):
        parse_timestamp(f"2025-01-01T00:00:00{offset}")


def test_a_column_names_the_text_that_is_none() -> None:
    with pytest.raises(InvalidParameter, match="got invalid timestamptz string 'x': invalid"):
        parse_timestamps(["2025-01-01T00:00:00Z", "x"])


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(Rejected, match="unknown or invalid IANA Time Zone ID: Mars/Olympus"):
        zone_of("Mars/Olympus")
    with pytest.raises(Rejected):
        zone_of("../../etc/passwd")


@given(
    st.lists(st.datetimes(datetime(1950, 1, 1), datetime(9998, 1, 1)), min_size=1),
    st.sampled_from(ZONES),
)
def test_texts_and_parts_are_those_of_the_calendar(moments: list[datetime], name: str) -> None:
    zone = zone_of(name)
    values = np.array(
        [(m.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) for m in moments]
    )
    local = [m.replace(tzinfo=UTC).astimezone(ZoneInfo(name)) for m in moments]
    shown = format_timestamps(values, zone)
    assert [parse_timestamp(text) for text in shown] == values.tolist()
    assert [datetime.fromisoformat(text).replace(tzinfo=None) for text in shown] == [
        m.replace(tzinfo=None) for m in local
    ]
    names = ("microsecond", "year", "day", "month", "hour", "second", "minute")
    assert parts_of(values, zone, names).tolist() == [[getattr(m, n) for n in names] for m in local]


def test_needless_zeros_are_left_out() -> None:
    values = np.array([0, 1_500_000, 1_000_001])
    assert format_timestamps(values) == [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:01.5Z",
        "1970-01-01T00:00:01.000001Z",
    ]
    assert format_timestamps(values[:1], zone_of("Asia/Kathmandu")) == ["1970-01-01T05:30:00+05:30"]
    assert format_timestamps(values[:1], timezone(timedelta(hours=-3))) == [
        "1969-12-31T21:00:00-03:00"
    ]


def test_parts_are_named() -> None:
    assert parse_parts("year, month,HOUR") == ("year", "month", "hour")
    assert parse_parts("") == ()
    with pytest.raises(InvalidParameter, match="unsupported time field 'week'"):
        parse_parts("year,week")


@pytest.mark.parametrize(
    ("start", "interval", "sign", "end"),
    [
        ((2025, 1, 31), "P1M", 1, (2025, 3, 3)),
        ((2024, 1, 31), "P1M", 1, (2024, 3, 2)),
        ((2025, 3, 31), "P1M", -1, (2025, 3, 3)),
        ((2024, 2, 29), "P1Y", 1, (2025, 3, 1)),
        ((2025, 1, 1), "P1Y2M3DT4H5M6S", 1, (2026, 3, 4, 4, 5, 6)),
        ((2025, 1, 1), "PT25H", -1, (2024, 12, 30, 23)),
        ((2025, 12, 31, 23, 59, 59), "PT1S", 1, (2026, 1, 1)),
        ((1969, 12, 31, 23, 59, 59, 1), "P0D", 1, (1969, 12, 31, 23, 59, 59)),
    ],
)
def test_intervals_are_added_to_civil_time(
    start: tuple[int, ...], interval: str, sign: int, end: tuple[int, ...]
) -> None:
    moved = shifted(np.array([micros(*start)]), parse_interval(interval), sign)
    assert moved.tolist() == [micros(*end)]


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "1D", "P1W", "P1.5D", "P-1D", "P1H", "P9999999999Y"]
)
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(InvalidTimestamp, match="invalid ISO 8601 duration: "):
        parse_interval(text)
