"""What is noted of every request: its metrics, and a log line with its stages if it was slow."""

from collections.abc import Mapping

import structlog

from elanus.observability.metrics import Metrics

log = structlog.get_logger(__name__)


class RequestObserver:
    """Told of each request once it is answered."""

    def __init__(self, metrics: Metrics, slow_after_s: float) -> None:
        self._metrics = metrics
        self._slow_after_s = slow_after_s

    def observe(
        self,
        method: str,
        collection: str,
        seconds: float,
        code: int,
        stages: Mapping[str, float],
    ) -> None:
        """``stages``: stage → seconds. ``code``: Milvus's code, 0 for success."""
        self._metrics.requests[method, str(code)] += 1
        self._metrics.latency_ms.times(method).add(seconds * 1e3)
        for stage, stage_s in stages.items():
            self._metrics.stage_ms.times(method, stage).add(stage_s * 1e3)
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
