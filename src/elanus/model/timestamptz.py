"""Timestamps with time zone: ISO 8601 text, microseconds since 1970 in UTC, and civil time.

A value is stored as an int64 of microseconds. A text without an offset is read in a zone that the
caller names; output is written in one. Civil arithmetic (:class:`Interval`) is done in UTC.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import numpy.typing as npt

from elanus.errors import InvalidParameter, Rejected

PARTS = ("year", "month", "day", "hour", "minute", "second", "microsecond")
LEAST_OFFSET_HOURS, MOST_OFFSET_HOURS = -12, 14
MOST_INTERVAL = 1_000_000_000
"""Of each number in an interval; with more the sum could leave int64."""

_SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TEXT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
_INTERVAL = re.compile(
    r"P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?",
    re.ASCII,
)

Int64s = npt.NDArray[np.int64]


class InvalidTimestamp(ValueError):
    """A text that is no timestamp or interval; its message is Milvus's."""


class TimeOutput(msgspec.Struct, frozen=True):
    """How timestamps are shown: as texts of ``zone``, or as the named ``parts`` of civil time."""

    zone: tzinfo
    parts: tuple[str, ...] = ()


UTC_TEXT = TimeOutput(UTC)


class Interval(msgspec.Struct, frozen=True):
    """What is added to a civil time: months (years among them), days, and seconds."""

    months: int
    days: int
    seconds: int


def zone_of(name: str) -> tzinfo:
    """The time zone with an IANA name. Raises Rejected for an unknown one."""
    if name in ("", "UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Rejected(f"unknown or invalid IANA Time Zone ID: {name}") from None


def parse_timestamp(text: str, zone: tzinfo = UTC) -> int:
    """Microseconds UTC; digits beyond are dropped. ``zone`` is that of a text without an offset.
    Raises InvalidTimestamp."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise _unknown_format(text)
    date, time, fraction, utc, sign, hours, minutes = match.groups()
    if sign is not None:
        zone = _fixed_zone(sign, int(hours), int(minutes or 0))
    elif utc:
        zone = UTC
    try:
        moment = datetime.fromisoformat(f"{date} {time}").replace(tzinfo=zone)
        micros = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        raise _unknown_format(text) from None
    return micros + int((fraction or "0")[:6].ljust(6, "0"))


def parse_timestamps(texts: Sequence[str], zone: tzinfo = UTC) -> Int64s:
    """int64 (n,). Raises InvalidParameter for the first that is no timestamp."""
    values = np.empty(len(texts), np.int64)
    for at, text in enumerate(texts):
        try:
            values[at] = parse_timestamp(text, zone)
        except InvalidTimestamp as error:
            raise InvalidParameter(f"got invalid timestamptz string '{text}': {error}") from error
    return values


def format_timestamps(values: Int64s, zone: tzinfo = UTC) -> list[str]:
    """int64 (n,) as ISO 8601 texts of ``zone``, without needless zeros of the fraction."""
    offsets = _offsets(values, zone)
    texts = np.datetime_as_string((values + offsets).view("datetime64[us]"), unit="us")
    endings = {offset: _offset_text(offset) for offset in set(offsets.tolist())}
    return [
        text.rstrip("0").rstrip(".") + endings[offset] if "." in text else text + endings[offset]
        for text, offset in zip(texts.tolist(), offsets.tolist(), strict=True)
    ]


def parts_of(values: Int64s, zone: tzinfo, names: Sequence[str]) -> Int64s:
    """The named :data:`PARTS` of the civil time in ``zone``, int64 (n, len(names))."""
    local = (values + _offsets(values, zone)).view("datetime64[us]")
    months = local.astype("datetime64[M]")
    of_day = (local - local.astype("datetime64[D]")).astype(np.int64)
    parts = {
        "year": months.astype("datetime64[Y]").astype(np.int64) + 1970,
        "month": months.astype(np.int64) % 12 + 1,
        "day": (local.astype("datetime64[D]") - months).astype(np.int64) + 1,
        "hour": of_day // (3600 * _SECOND_US),
        "minute": of_day // (60 * _SECOND_US) % 60,
        "second": of_day // _SECOND_US % 60,
        "microsecond": of_day % _SECOND_US,
    }
    return np.stack([parts[name] for name in names], axis=1).reshape(len(values), len(names))


def parse_parts(text: str) -> tuple[str, ...]:
    """The request parameter ``time_fields``, names joined by commas. Raises InvalidParameter."""
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    for name in names:
        if name not in PARTS:
            raise InvalidParameter(
                f"unsupported time field {name!r} in time_fields", expected=", ".join(PARTS)
            )
    return names


def parse_interval(text: str) -> Interval:
    """An ISO 8601 duration of whole numbers without weeks. Raises InvalidTimestamp."""
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise InvalidTimestamp(f"invalid ISO 8601 duration: {text}")
    years, months, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    if max(years, months, days, hours, minutes, seconds) > MOST_INTERVAL:
        raise InvalidTimestamp(f"invalid ISO 8601 duration: {text}")
    return Interval(12 * years + months, days, 3600 * hours + 60 * minutes + seconds)


def shifted(values: Int64s, interval: Interval, sign: int) -> Int64s:
    """``values`` plus (``sign`` 1) or minus (-1) an interval, in civil time of UTC, int64 (n,).

    Fields are added and overflow is carried (the 31st of January plus a month is in March); what
    is below a second is dropped.
    """
    seconds = values // _SECOND_US
    if interval.months:
        moments = seconds.view("datetime64[s]")
        months = moments.astype("datetime64[M]")
        within = moments - months.astype("datetime64[s]")
        moved = (months + np.timedelta64(sign * interval.months, "M")).astype("datetime64[s]")
        seconds = (moved + within).astype(np.int64)
    return (seconds + sign * (86_400 * interval.days + interval.seconds)) * _SECOND_US


def _unknown_format(text: str) -> InvalidTimestamp:
    return InvalidTimestamp(f"invalid timestamp string: '{text}'. Does not match any known format")


def _fixed_zone(sign: str, hours: int, minutes: int) -> timezone:
    offset = (60 * hours + minutes) * (-1 if sign == "-" else 1)
    if not 60 * LEAST_OFFSET_HOURS <= offset <= 60 * MOST_OFFSET_HOURS or minutes > 59:
        raise InvalidTimestamp(
            f"UTC offset hour {int(offset / 60)} is out of the valid range "
            f"[{LEAST_OFFSET_HOURS}, {MOST_OFFSET_HOURS}]"
        )
    return timezone(timedelta(minutes=offset))


def _offsets(values: Int64s, zone: tzinfo) -> Int64s:
    """How far ``zone`` is ahead of UTC at each moment, microseconds, int64 (n,)."""
    if zone is UTC:
        return np.zeros(len(values), np.int64)
    return np.fromiter((_offset_us(value, zone) for value in values.tolist()), np.int64)


_FIRST_US = (datetime(1, 1, 3, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_US = (datetime(9999, 12, 29, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def _offset_us(value: int, zone: tzinfo) -> int:
    # Near the ends of the calendar the local time would leave it; no zone changes there.
    moment = _EPOCH + timedelta(microseconds=min(max(value, _FIRST_US), _LAST_US))
    offset = zone.utcoffset(moment.astimezone(zone))
    return offset // _MICROSECOND if offset is not None else 0


def _offset_text(offset_us: int) -> str:
    if not offset_us:
        return "Z"
    minutes = abs(offset_us) // (60 * _SECOND_US)
    return f"{'-' if offset_us < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"
