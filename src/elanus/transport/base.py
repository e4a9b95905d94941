"""The seam between the network and the proxy: bytes in, bytes out.

A handler gets the full name of a gRPC method, the call's metadata, the request's bytes and the
seconds left of the client's deadline, and gives the answer's bytes. Every server behind this seam
speaks gRPC for it and hands everything else to one ASGI application (the RESTful API), so that
nothing above the seam knows which server runs.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from elanus.transport.tls import TlsFiles

Handler = Callable[[str, Mapping[str, str], bytes, float | None], Awaitable[bytes]]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 1_024
"""Connections that may wait to be accepted."""

HEALTH_CHECK_METHOD = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}


class GrpcStatus(IntEnum):
    """The status codes of gRPC that this server uses."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class GrpcError(Exception):
    """A call that ends with a gRPC status instead of an answer.

    Clients retry most of these for minutes: a failure that Milvus's protocol has a Status for is
    answered with that Status and gRPC OK.
    """

    def __init__(self, status: GrpcStatus, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, kw_only=True)
class TransportOptions:
    """Where to listen, and how much to accept. Port 0 lets the system choose one.

    ``rest_port`` is used only by a server that can't have both protocols on one port; 0 there
    means ``port`` + 1 (or any port if ``port`` is 0 too). With ``reuse_port`` several processes may
    listen on one port, and the system spreads the connections over them. With ``tls`` clear text is
    refused, and if it names an authority, so are clients without a certificate of it.
    """

    host: str = "127.0.0.1"
    port: int = 19530
    rest_port: int = 0
    reuse_port: bool = False
    max_receive_bytes: int = 64 << 20
    max_send_bytes: int = 256 << 20
    tls: TlsFiles | None = None


class TransportServer(ABC):
    """A running server. ``start`` returns when connections are accepted; it raises OSError when
    the address can't be had, and Rejected when the certificate can't be used. ``stop`` accepts
    nothing new, lets the requests in flight finish for ``grace_s`` seconds, then cancels them."""

    @property
    @abstractmethod
    def address(self) -> tuple[str, int]:
        """Host and port of the gRPC service."""

    @property
    @abstractmethod
    def rest_address(self) -> tuple[str, int]:
        """Host and port of the RESTful API."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def stop(self, grace_s: float) -> None: ...

    @abstractmethod
    async def renew_certificate(self) -> None:
        """Show new connections what the files of ``tls`` say now; open ones go on as they are, or
        are asked to come again. Raises Rejected or OSError; then everything stays as it was."""


def with_health(handler: Handler) -> Handler:
    """``handler``, with ``grpc.health.v1.Health/Check`` answered SERVING."""

    async def handle(
        method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
    ) -> bytes:
        if method == HEALTH_CHECK_METHOD:
            return SERVING
        return await handler(method, metadata, body, deadline_s)

    return handle


async def no_grpc(
    method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
) -> bytes:
    """The handler of a server without a gRPC service."""
    raise GrpcError(GrpcStatus.UNIMPLEMENTED, f"{method} is not served by this port")


async def no_rest(scope: Scope, receive: Receive, send: Send) -> None:
    """The ASGI application of a server without a RESTful API: 404 for everything."""
    await send(
        {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-type", b"text/plain"), (b"content-length", b"0")],
        }
    )
    await send({"type": "http.response.body", "body": b""})


def listen(host: str, port: int, reuse_port: bool) -> socket.socket:
    """A socket that listens on the first address of ``host`` that can be had. Raises OSError."""
    failure = OSError(f"{host} has no address")
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, _, _, address in found:
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            failure = error
        else:
            return listener
    raise failure
