"""Counts and times of requests, which every request adds to and a scrape reads.

The client library's own counters take a lock for each number, five times for a search. These are
added to and read by the event loop's thread only.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Times:
    """How many amounts came to which bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, amount: float) -> None:
        self.counts[bisect_left(self._bounds, amount)] += 1
        self.total += amount


class Histogram(Collector):
    """Amounts by the values of its labels; an amount that equals a bound is in its bucket."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], bounds: Sequence[float]
    ) -> None:
        self._name = name
        self._help_text = help_text
        self._labels = labels
        self._bounds = tuple(bounds)
        self._texts = tuple(map(floatToGoString, (*self._bounds, math.inf)))
        self._times: dict[tuple[str, ...], Times] = {}

    def times(self, *values: str) -> Times:
        """Of these values of the labels, for as long as the process lives."""
        found = self._times.get(values)
        if found is None:
            found = self._times[values] = Times(self._bounds)
        return found

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help_text, labels=self._labels)
        for values, times in sorted(self._times.items()):
            seen, buckets = 0, []
            for text, count in zip(self._texts, times.counts, strict=True):
                seen += count
                buckets.append((text, float(seen)))
            family.add_metric(values, buckets, times.total)
        yield family

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return ()
