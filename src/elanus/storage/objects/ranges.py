"""Which requests to send for the byte ranges that are wanted."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """One request: bytes ``start`` to ``end``."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


def merge(ranges: Sequence[tuple[int, int]], max_gap: int, max_length: int) -> list[Span]:
    """Spans that cover all ``(start, length)``, sorted; ranges at most ``max_gap`` apart share one.

    No span that covers several is longer than ``max_length``.
    """
    spans: list[Span] = []
    for start, length in sorted(ranges):
        if length == 0:
            continue
        end = start + length
        last = spans[-1] if spans else None
        if last is not None and start - last.end <= max_gap:
            joined = Span(last.start, max(last.end, end))
            if joined.end == last.end or joined.length <= max_length:
                spans[-1] = joined
                continue
        spans.append(Span(start, end))
    return spans


def split(start: int, length: int, piece: int) -> list[Span]:
    """The range as spans of at most ``piece`` bytes."""
    end = start + length
    return [Span(at, min(at + piece, end)) for at in range(start, end, piece)]
