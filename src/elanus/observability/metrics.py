"""Prometheus metrics, named as Milvus names them where Milvus has the metric.

Counters and histograms of requests are fed by the request observer; gauges, and counters that a
live object keeps itself, are read from there at the moment of a scrape, so that an idle server
does nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from elanus.observability.timings import Histogram

LATENCY_BUCKETS_MS = tuple(float(1 << power) for power in range(18))

Reading = Callable[[], Mapping[str, float]]
Counts = Callable[[], Mapping[tuple[str, ...], int]]
"""Values of the labels → count."""


class _Gauges(Collector):
    """Each gauge has one label and is read when scraped."""

    def __init__(self) -> None:
        self._readings: list[tuple[str, str, str, Reading]] = []

    def add(self, name: str, help_text: str, label: str, reading: Reading) -> None:
        self._readings.append((name, help_text, label, reading))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, help_text, label, reading in self._readings:
            family = GaugeMetricFamily(name, help_text, labels=[label])
            for value, amount in sorted(reading().items()):
                family.add_metric([value], amount)
            yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()


class _Counters(Collector):
    """Counters that somebody else keeps, read when scraped."""

    def __init__(self) -> None:
        self._counts: list[tuple[str, str, Sequence[str], Counts]] = []

    def add(self, name: str, help_text: str, labels: Sequence[str], counts: Counts) -> None:
        self._counts.append((name, help_text, labels, counts))

    def collect(self) -> Iterator[CounterMetricFamily]:
        for name, help_text, labels, counts in self._counts:
            family = CounterMetricFamily(name, help_text, labels=labels)
            for values, count in sorted(counts().items()):
                family.add_metric(values, count)
            yield family

    def describe(self) -> Iterable[CounterMetricFamily]:
        return ()


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests: dict[tuple[str, ...], int] = defaultdict(int)
        """By method and code."""
        self.latency_ms = Histogram(
            "milvus_proxy_req_latency",
            "Time from the arrival of a request to its answer, ms.",
            ["function_name"],
            LATENCY_BUCKETS_MS,
        )
        self.stage_ms = Histogram(
            "milvus_proxy_stage_latency",
            "Time spent in one stage of a search or query, ms.",
            ["function_name", "stage"],
            (0.1, 0.25, 0.5, *LATENCY_BUCKETS_MS),
        )
        self.slow_queries = Counter(
            "milvus_proxy_slow_query_count",
            "Requests slower than proxy.slowLogSpanInSeconds.",
            ["function_name"],
            registry=self.registry,
        )
        self._gauges = _Gauges()
        self._counters = _Counters()
        for collector in (self.latency_ms, self.stage_ms, self._gauges, self._counters):
            self.registry.register(collector)
        self.counter(
            "milvus_proxy_req_count",
            "Requests by method and result code (0 = success).",
            ["function_name", "code"],
            lambda: self.requests,
        )

    def gauge(self, name: str, help_text: str, label: str, reading: Reading) -> None:
        """``reading()`` gives label value → amount; it is called at each scrape."""
        self._gauges.add(name, help_text, label, reading)

    def counter(self, name: str, help_text: str, labels: Sequence[str], counts: Counts) -> None:
        """``counts()`` gives the labels' values → count; it is called at each scrape."""
        self._counters.add(name, help_text, labels, counts)

    def render(self) -> bytes:
        return generate_latest(self.registry)
