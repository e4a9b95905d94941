"""Liveness and the management endpoint: /healthz, /livez and /metrics as a small ASGI app."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from elanus.observability.metrics import Metrics

Message = MutableMapping[str, Any]


FAILURE_SHOWN_S = 300.0
"""How long a failure of a background task makes the process unhealthy."""


class Health:
    """Reasons why this process isn't healthy; none means healthy.

    A failed background task is a defect that may have ended work for good or may have been taken
    up again: it shows for FAILURE_SHOWN_S, and for ever in the metrics and the log.
    """

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._started = False
        self._failures: dict[str, tuple[float, str]] = {}

    def started(self) -> None:
        self._started = True

    def failed(self, task: str, reason: str) -> None:
        self._failures[task] = (self._monotonic_s(), reason)

    @property
    def reasons(self) -> list[str]:
        if not self._started:
            return ["starting"]
        oldest_s = self._monotonic_s() - FAILURE_SHOWN_S
        return [
            f"{task} failed: {reason}"
            for task, (failed_s, reason) in sorted(self._failures.items())
            if failed_s > oldest_s
        ]


class ManagementApp:
    """ASGI application of the management port."""

    def __init__(self, health: Health, metrics: Metrics) -> None:
        self._health = health
        self._metrics = metrics

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        status, content_type, body = self._answer(scope["path"])
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(b"content-type", content_type)],
            }
        )
        await send({"type": "http.response.body", "body": body})

    def _answer(self, path: str) -> tuple[int, bytes, bytes]:
        if path == "/metrics":
            return 200, b"text/plain; version=0.0.4; charset=utf-8", self._metrics.render()
        if path == "/livez":
            return 200, b"text/plain", b"OK"
        if path == "/healthz":
            reasons = self._health.reasons
            if not reasons:
                return 200, b"text/plain", b"OK"
            return 500, b"application/json", orjson.dumps({"state": "unhealthy", "detail": reasons})
        return 404, b"text/plain", b"there are /healthz, /livez and /metrics here"


async def _lifespan(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
