"""The default server: gRPC and the RESTful API on one port, by h2corn.

HTTP/2 requests with gRPC's content type go to the gRPC layer, everything else (HTTP/1.1 and
HTTP/2) to the RESTful application. Clients may ping an idle connection as often as they like.
"""

import asyncio
import contextlib

import h2corn
import h2corn._lib
import structlog

from elanus.runtime.executor import Executor
from elanus.transport.base import (
    AsgiApp,
    Handler,
    Receive,
    Scope,
    Send,
    TransportOptions,
    TransportServer,
    with_health,
)
from elanus.transport.grpc_asgi import GrpcAsgi, is_grpc

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 10_000
MAX_STREAMS_PER_CONNECTION = 1_024
IDLE_CONNECTION_S = 7_200.0
"""gRPC clients keep a connection for as long as they live: only abandoned ones should end."""

MAX_GRACE_S = 3_600.0


class H2cornServer(TransportServer):
    """h2corn behind the transport seam."""

    def __init__(
        self, handler: Handler, rest: AsgiApp, options: TransportOptions, executor: Executor
    ) -> None:
        self._options = options
        self._rest = rest
        self._grpc = GrpcAsgi(
            with_health(handler),
            executor,
            max_receive_bytes=options.max_receive_bytes,
            max_send_bytes=options.max_send_bytes,
        )
        self._in_flight: set[asyncio.Task[None]] = set()
        self._server: h2corn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        if self._server is None or not self._server.addresses:
            return self._options.host, self._options.port
        host, _, port = self._server.addresses[0].rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def rest_address(self) -> tuple[str, int]:
        return self.address

    async def start(self) -> None:
        host = self._options.host
        bind = f"[{host}]:{self._options.port}" if ":" in host else f"{host}:{self._options.port}"
        config = h2corn.Config(
            bind=(bind,),
            grpc=True,
            reuse_port=self._options.reuse_port,
            lifespan="off",
            access_log=False,
            server_header="off",
            max_concurrent_streams=MAX_STREAMS_PER_CONNECTION,
            limit_connections=MAX_CONNECTIONS,
            max_request_body_size=self._options.max_receive_bytes,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=MAX_GRACE_S,
        )
        _silence_banner()
        self._server = h2corn.Server(self._application, config)
        self._serving = asyncio.create_task(self._server.serve(), name="h2corn")
        started = asyncio.create_task(self._server.wait_started())
        await asyncio.wait({self._serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            await self._serving  # raises what kept it from starting
        try:
            await started
        except BaseException:
            with contextlib.suppress(Exception):
                await self._serving
            raise

    async def stop(self, grace_s: float) -> None:
        if self._server is None or self._serving is None:
            return
        self._server.shutdown()
        done, _ = await asyncio.wait({self._serving}, timeout=grace_s)
        if not done:
            log.warning("requests cancelled at shutdown", requests=len(self._in_flight))
            self._grpc.is_stopping = True
            for task in list(self._in_flight):
                task.cancel()
        await self._serving
        self._server = self._serving = None

    async def _application(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._in_flight.add(task)
        try:
            application = self._grpc if is_grpc(scope) else self._rest
            await application(scope, receive, send)
        finally:
            if task is not None:
                self._in_flight.discard(task)


def _silence_banner() -> None:
    """h2corn prints a banner of its own and has no setting against it."""
    if hasattr(h2corn._lib, "emit_banner"):
        h2corn._lib.emit_banner = lambda *_: None
