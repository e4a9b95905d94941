"""An HTTP server's bad days: a proxy that answers 503 or takes its time, but otherwise is faithful.

A request that is forwarded arrives as it was sent: target, headers and body bytes are not touched,
so that signatures hold, those of chunks included. The Host header is the client's, so that a client
signs for the proxy and the server sees what was signed. Bodies stream in both directions.
"""

import asyncio
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from concurrent.futures import Future
from typing import Any, Self

import httpcore
import uvicorn

from tests.services.loop_thread import LoopThread

CONNECTIONS_MAX = 256
UPSTREAM_TIMEOUTS_S = {"connect": 10.0, "read": 120.0, "write": 120.0, "pool": 120.0}
BETWEEN_TWO_HOSTS_ONLY = {
    b"connection",
    b"expect",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"upgrade",
}
BUSY_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Headers = list[tuple[bytes, bytes]]
Send = Callable[[Message], Awaitable[None]]


class HttpFaults:
    """Stands in front of ``http(s)://host:port`` from construction to ``close``.

    Each fault hits a fraction of the requests whose method is among ``methods``, chosen by a seeded
    source. ``forwarded``, ``refused`` and ``replies_lost`` count what was done.
    """

    def __init__(self, target: str, *, seed: int = 1, trust: ssl.SSLContext | None = None) -> None:
        self._target = httpcore.URL(target)
        self._trust = trust
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._calm_down()
        self.forwarded = self.refused = self.replies_lost = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS_MAX)
        self.port: int = self._socket.getsockname()[1]
        self._thread = LoopThread("http-faults")
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._answer,
                interface="asgi3",
                http="h11",
                ws="none",
                lifespan="off",
                log_level="critical",
                access_log=False,
                proxy_headers=False,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._upstream = httpcore.AsyncConnectionPool(
            ssl_context=trust, max_connections=CONNECTIONS_MAX, retries=0
        )
        self._serving: Future[None] = asyncio.run_coroutine_threadsafe(
            self._server.serve(sockets=[self._socket]), self._thread.loop
        )

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"http://{self.endpoint}"

    def refuse(self, fraction: float, methods: str = "GET HEAD PUT POST DELETE") -> None:
        """Answer 503 without the server hearing of the request."""
        with self._lock:
            self._refuse_fraction, self._refuse_methods = fraction, set(methods.split())

    def lose_replies(self, fraction: float, methods: str = "GET HEAD PUT POST DELETE") -> None:
        """Answer 503 after the server has done what was asked."""
        with self._lock:
            self._lose_fraction, self._lose_methods = fraction, set(methods.split())

    def delay(self, milliseconds: float, fraction: float = 1.0) -> None:
        """Hold requests back for this long before they are forwarded or refused."""
        with self._lock:
            self._delay_s, self._delay_fraction = milliseconds / 1_000, fraction

    def heal(self) -> None:
        with self._lock:
            self._calm_down()

    def close(self) -> None:
        self._server.should_exit = True
        self._serving.result(10)
        self._thread.run(self._upstream.aclose())
        self._thread.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _calm_down(self) -> None:
        self._refuse_fraction = self._lose_fraction = self._delay_fraction = 0.0
        self._refuse_methods: set[str] = set()
        self._lose_methods: set[str] = set()
        self._delay_s = 0.0

    def _fate(self, method: str) -> tuple[float, bool, bool]:
        """For one request: how long to wait, whether to refuse, whether to lose the reply."""
        with self._lock:
            wait, refuse, lose = (self._random.random() for _ in range(3))
            return (
                self._delay_s if wait < self._delay_fraction else 0.0,
                method in self._refuse_methods and refuse < self._refuse_fraction,
                method in self._lose_methods and lose < self._lose_fraction,
            )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        delay_s, refused, lost = self._fate(scope["method"])
        await asyncio.sleep(delay_s)
        if refused:
            async for _ in body_of(receive):
                pass
            self.refused += 1
            await say_busy(scope, send)
        else:
            self.forwarded += 1
            await self._forward(scope, receive, send, lost)

    async def _forward(self, scope: Scope, receive: Receive, send: Send, lost: bool) -> None:
        """Ask the server; a reply that breaks off is broken off for the client too."""
        begun = False
        try:
            async with self._request(scope, receive) as response:
                if not lost:
                    begun = True
                    await pass_on(response, send)
                    return
                async for _ in response.aiter_stream():
                    pass
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            if begun:
                raise
            await say_busy(scope, send, status=502)
            return
        self.replies_lost += 1
        await say_busy(scope, send)

    def _headers(self, headers: Headers) -> Headers:
        """The headers as they are to be forwarded."""
        return [pair for pair in headers if pair[0] not in BETWEEN_TWO_HOSTS_ONLY]

    def _request(self, scope: Scope, receive: Receive) -> Any:
        query = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
        headers = self._headers(scope["headers"])
        names = {name for name, _ in headers}
        has_body = bool(names & {b"content-length", b"transfer-encoding"})
        return self._upstream.stream(
            scope["method"].encode(),
            httpcore.URL(
                scheme=self._target.scheme,
                host=self._target.host,
                port=self._target.port,
                target=target,
            ),
            headers=headers,
            content=body_of(receive) if has_body else None,
            extensions={"timeout": UPSTREAM_TIMEOUTS_S},
        )


async def body_of(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpcore.ReadError("the client went away")
        more = message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


async def pass_on(response: httpcore.Response, send: Send) -> None:
    headers = [(name.lower(), value) for name, value in response.headers]
    headers = [pair for pair in headers if pair[0] not in BETWEEN_TWO_HOSTS_ONLY]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for chunk in response.aiter_stream():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def say_busy(scope: Scope, send: Send, status: int = 503) -> None:
    body = b"" if scope["method"] == "HEAD" else BUSY_BODY
    headers = [
        (b"content-type", b"application/xml"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
