"""Liveness and the management endpoint: /healthz, /livez and /metrics as a small ASGI app."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from elanus.observability.metrics import Metrics

Message = MutableMapping[str, Any]


class Health:
    """Reasons why this process isn't healthy; none means healthy."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {"start": "starting"}

    def started(self) -> None:
        self._reasons.pop("start", None)

    def report(self, component: str, reason: str) -> None:
        self._reasons[component] = reason

    def recover(self, component: str) -> None:
        self._reasons.pop(component, None)

    @property
    def reasons(self) -> list[str]:
        return [f"{component}: {reason}" for component, reason in sorted(self._reasons.items())]


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
