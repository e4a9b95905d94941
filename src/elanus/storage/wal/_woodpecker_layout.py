"""Names of a log's objects, and what a listing of them says. Decisions only, no requests.

::

    <root>/<log>/start/<number>               the log begins with this segment; the greatest holds
    <root>/<log>/<segment>/<number>           a fragment, or what ends the segment
    <root>/<log>/<segment>/<first>-<last>     a copy of fragments in one object

All numbers have 16 digits. Fragments are numbered through the whole log. A segment is named by its
first number, which is the one after the end of the segment before; so the segments that have
objects, from the start on, are the chain of all segments.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from elanus.storage.objects.base import ObjectInfo
from elanus.storage.wal._fragments import HEADER_SIZE

_NAME = re.compile(r"(start|\d{16})/(\d{16})(?:-(\d{16}))?")


class Missing(Exception):
    """A fragment that must be there is not in the listing, which may be out of date."""


@dataclass(frozen=True, slots=True)
class Unit:
    """An object with the fragments ``first`` to ``last``."""

    key: str
    first: int
    last: int
    size_bytes: int
    modified_ms: int

    @property
    def is_fence(self) -> bool:
        return self.size_bytes == HEADER_SIZE


class Names:
    """The keys of one log; ``prefix`` ends with a slash."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.starts = f"{prefix}start/"

    def start(self, segment: int) -> str:
        return f"{self.starts}{segment:016d}"

    def fragment(self, segment: int, number: int) -> str:
        return f"{self.prefix}{segment:016d}/{number:016d}"

    def merged(self, segment: int, first: int, last: int) -> str:
        return f"{self.prefix}{segment:016d}/{first:016d}-{last:016d}"

    def parse(self, infos: Iterable[ObjectInfo]) -> "Layout":
        """What the listing of ``prefix`` says; objects with other names are nobody's."""
        starts: list[int] = []
        segments: dict[int, Segment] = {}
        for info in infos:
            match = _NAME.fullmatch(info.key, len(self.prefix))
            if match is None:
                continue
            place, first, last = match.groups()
            if place == "start":
                starts.append(int(first))
                continue
            unit = Unit(info.key, int(first), int(last or first), info.size_bytes, info.modified_ms)
            segments.setdefault(int(place), Segment(self, int(place))).add(unit, last is not None)
        start = max(starts, default=0)
        return Layout(
            starts=sorted(starts),
            start=start,
            segments=[segments[base] for base in sorted(segments) if base >= start],
            dead=[segments[base] for base in sorted(segments) if base < start],
        )


@dataclass(slots=True)
class Segment:
    """The objects under one segment's name; what is behind its end is garbage."""

    names: Names
    base: int
    fragments: dict[int, Unit] = field(default_factory=dict)
    merged: list[Unit] = field(default_factory=list)
    _merged_by_number: dict[int, Unit] = field(default_factory=dict)

    def add(self, unit: Unit, is_merged: bool) -> None:
        if not is_merged:
            self.fragments[unit.first] = unit
            return
        self.merged.append(unit)
        for number in range(unit.first, unit.last + 1):
            known = self._merged_by_number.get(number)
            if known is None or known.last < unit.last:
                self._merged_by_number[number] = unit

    def merged_with(self, number: int) -> Unit | None:
        return self._merged_by_number.get(number)

    def holder(self, number: int) -> Unit | None:
        """The object to read the fragment from: the one with the most behind it."""
        return self._merged_by_number.get(number) or self.fragments.get(number)

    def first_missing(self) -> int:
        number = self.base
        while (unit := self.holder(number)) is not None:
            number = unit.last + 1
        return number

    def objects(self) -> list[Unit]:
        return sorted([*self.fragments.values(), *self.merged], key=lambda unit: unit.key)


@dataclass(frozen=True, slots=True)
class Layout:
    """``segments``: from the start on. ``dead``: before it, of which only fences have a use."""

    starts: list[int]
    start: int
    segments: list[Segment]
    dead: list[Segment]

    def units_from(self, number: int) -> Iterator[tuple[Segment, Unit]]:
        """Objects with fragments from ``number`` on, in order, up to the first one that is not
        there; fences, which hold nothing, are left out. Raises Missing if fragments below
        ``number``, or in a segment that has ended, are not all there."""
        for segment, following in pairwise(self.segments):
            yield from _units_of_ended(segment, number, following.base - 1)
        if self.segments:
            yield from _units_of_last(self.segments[-1], number)


def _units_of_ended(segment: Segment, number: int, end: int) -> Iterator[tuple[Segment, Unit]]:
    """``end``: the number of what ended the segment."""
    number = max(segment.base, number)
    while number <= end:
        unit = segment.holder(number)
        if unit is None:
            raise Missing(segment.names.fragment(segment.base, number))
        if not unit.is_fence:
            yield segment, unit
        elif number < end:
            raise Missing(f"{unit.key}: there is a fence in the midst of a segment")
        number = unit.last + 1


def _units_of_last(segment: Segment, number: int) -> Iterator[tuple[Segment, Unit]]:
    """From the base on, since what is behind a fence or a hole is not part of the log."""
    at = segment.base
    while (unit := segment.holder(at)) is not None:
        at = unit.last + 1
        if unit.is_fence:
            break
        if unit.last >= number:
            yield segment, unit
    if at < number:
        raise Missing(segment.names.fragment(segment.base, at))
