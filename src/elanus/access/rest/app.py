"""The RESTful API as an ASGI application: routing, reading the body, the envelope of the answer.

Whatever a route raises becomes ``{"code", "message"}``, with HTTP status 200 as Milvus has it,
except for a missing login (401), a missing permission (403), a timeout (408) and a defect (500).
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import structlog

from elanus.access.dispatch import Dispatcher
from elanus.access.proxy import Proxy
from elanus.access.rest.bodies import Body, parse_body
from elanus.access.rest.call import OFFLOAD_BYTES, RestCall
from elanus.access.rest.routes import PREFIX, ROUTES, UNIMPLEMENTED
from elanus.config.settings import HttpSettings
from elanus.errors import DeadlineExceeded, ElanusError, Unimplemented
from elanus.model.catalog import DEFAULT_DATABASE
from elanus.transport.base import GrpcError, GrpcStatus, Receive, Scope, Send

log = structlog.get_logger(__name__)

MAX_TIMEOUT_S = 86_400.0
NOT_AUTHENTICATED, UNEXPECTED = 1800, 65535
_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-credentials", b"true"),
    (
        b"access-control-allow-headers",
        b"Content-Type, Content-Length, Accept-Encoding, Authorization, accept, origin, "
        b"Cache-Control, X-Requested-With, DB-Name, Request-Timeout, Accept-Type-Allow-Int64, "
        b"RequestId",
    ),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
]
_HEADERS = [(b"content-type", b"application/json; charset=utf-8"), *_CORS]


class _Refused(Exception):
    """A request that ends with an HTTP status of its own."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.answer = {"code": code, "message": message}


class RestApp:
    """``POST /v2/vectordb/...`` for the handlers of ``dispatcher``."""

    def __init__(self, proxy: Proxy, dispatcher: Dispatcher, settings: HttpSettings) -> None:
        self._proxy = proxy
        self._dispatcher = dispatcher
        self._settings = settings
        self._max_body_bytes = proxy.settings.proxy.grpc.server_max_recv_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": _CORS})
            await send({"type": "http.response.body", "body": b""})
            return
        status, content = await self._respond(scope, receive)
        headers = [*_HEADERS, (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _respond(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """HTTP status and content. Raises nothing but cancellation."""
        path = scope["path"]
        try:
            route = self._route(scope["method"], path)
            body = await self._read(receive)
            return 200, await self._run(route, _headers(scope), body)
        except _Refused as refused:
            return refused.status, _dump(refused.answer)
        except ElanusError as error:
            return 200, _dump({"code": error.code, "message": error.message})
        except GrpcError as error:
            refusal = _refusal(error, path)
            return refusal.status, _dump(refusal.answer)
        except Exception as error:  # a request must end with an answer
            log.error("request failed", route=path, exc_info=error)
            message = f"{type(error).__name__}: {error}"
            return 500, _dump({"code": 500, "message": message})

    def _route(self, method: str, path: str) -> str:
        route = path.removeprefix(PREFIX)
        known = route in ROUTES or route in UNIMPLEMENTED
        if not self._settings.enabled or method != "POST" or route == path or not known:
            raise _Refused(404, 404, f"there is no route {method} {path}")
        return route

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            event = await receive()
            if event["type"] != "http.request":
                raise asyncio.CancelledError
            chunk = event.get("body", b"")
            size += len(chunk)
            if size > self._max_body_bytes:
                raise _Refused(
                    413, UNEXPECTED, f"the body is larger than {self._max_body_bytes} bytes"
                )
            chunks.append(chunk)
            if not event.get("more_body", False):
                return b"".join(chunks)

    async def _run(self, route: str, headers: Mapping[str, str], content: bytes) -> bytes:
        if route in UNIMPLEMENTED:
            raise Unimplemented(f"the route {PREFIX}{route} is not implemented yet")
        timeout = asyncio.timeout(self._timeout_s(headers))
        try:
            async with timeout:
                if len(content) < OFFLOAD_BYTES:
                    body = parse_body(content)
                else:
                    body = await self._proxy.world.executor.run("compute", parse_body, content)
                call = self._call(headers, body, len(content))
                answer = {"code": 0, **await ROUTES[route](call)}
                if call.size_bytes < OFFLOAD_BYTES:
                    return _dump(answer)
                return await self._proxy.world.executor.run("compute", _dump, answer)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise _Refused(408, DeadlineExceeded.code, "request timeout") from None

    def _call(self, headers: Mapping[str, str], body: Body, size_bytes: int) -> RestCall:
        database = body.text("dbName") or headers.get("db-name") or DEFAULT_DATABASE
        metadata = {"dbname": database, "client-request-id": headers.get("requestid", "")}
        for name in ("authorization", "user-agent"):
            if name in headers:
                metadata[name] = headers[name]
        allowed = headers.get("accept-type-allow-int64", "").lower()
        as_numbers = self._settings.accept_type_allow_int64 if not allowed else allowed == "true"
        return RestCall(
            proxy=self._proxy,
            dispatcher=self._dispatcher,
            body=body,
            database=database,
            metadata=metadata,
            timeout_s=self._timeout_s(headers),
            int64_as_text=not as_numbers,
            size_bytes=size_bytes,
        )

    def _timeout_s(self, headers: Mapping[str, str]) -> float:
        """Of the header ``Request-Timeout`` in seconds; anything but a number is ignored."""
        text = headers.get("request-timeout", "")
        if text.isascii() and text.isdigit() and float(text) > 0:
            return min(float(text), MAX_TIMEOUT_S)
        return self._settings.request_timeout_ms / 1000


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _dump(answer: Mapping[str, Any]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _refusal(error: GrpcError, path: str) -> _Refused:
    """What gRPC says with a status is said in JSON."""
    if error.status is GrpcStatus.UNAUTHENTICATED:
        return _Refused(401, NOT_AUTHENTICATED, "user hasn't authenticated")
    if error.status is GrpcStatus.PERMISSION_DENIED:
        return _Refused(403, UNEXPECTED, error.message)
    if error.status is GrpcStatus.UNIMPLEMENTED:
        message = f"the route {path} is not implemented yet: {error.message}"
        return _Refused(200, Unimplemented.code, message)
    return _Refused(200, UNEXPECTED, error.message)
