"""What is noted of every request: its metrics, and a log line with its stages if it was slow."""

from collections.abc import Mapping
from functools import cache

import structlog

from elanus.observability.metrics import Metrics

log = structlog.get_logger(__name__)


class RequestObserver:
    """Told of each request once it is answered."""

    def __init__(self, metrics: Metrics, slow_after_s: float) -> None:
        self._metrics = metrics
        self._slow_after_s = slow_after_s
        # Finding a metric by its labels costs more than counting; there are few of them.
        self._counter = cache(metrics.requests.labels)
        self._latency = cache(metrics.latency_ms.labels)
        self._stage = cache(metrics.stage_ms.labels)

    def observe(
        self,
        method: str,
        collection: str,
        seconds: float,
        code: int,
        stages: Mapping[str, float],
    ) -> None:
        """``stages``: stage → seconds. ``code``: Milvus's code, 0 for success."""
        self._counter(method, str(code)).inc()
        self._latency(method).observe(seconds * 1e3)
        for stage, stage_s in stages.items():
            self._stage(method, stage).observe(stage_s * 1e3)
        if seconds >= self._slow_after_s:
            self._metrics.slow_queries.labels(method).inc()
            log.warning(
                "slow request",
                method=method,
                collection=collection,
                code=code,
                duration_ms=round(seconds * 1e3, 2),
                **{f"{stage}_ms": round(spent * 1e3, 2) for stage, spent in stages.items()},
            )
