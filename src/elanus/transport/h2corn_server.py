"""The default server: gRPC and the RESTful API on one port, by h2corn.

HTTP/2 requests with gRPC's content type go to the gRPC layer, everything else (HTTP/1.1 and
HTTP/2) to the RESTful application. Clients may ping an idle connection as often as they like.

The listening socket is ours. A server of h2corn has one certificate for its life, so a renewed one
gets a new server on the same socket: the old one accepts nothing more, tells its HTTP/2 clients to
come again, and ends with its last request, or after ``DRAIN_S``.
"""

import asyncio
import contextlib
import socket

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
    with_health,
)
from elanus.transport.grpc_asgi import GrpcAsgi, is_grpc
from elanus.transport.listening import ListeningServer

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 10_000
MAX_STREAMS_PER_CONNECTION = 1_024
RUNTIME_THREADS = 1
"""That read and write sockets. All calls pass the one event loop behind it; a second thread takes
turns with the first, and its wake-ups cost a search a tenth of its time."""

IDLE_CONNECTION_S = 7_200.0
"""gRPC clients keep a connection for as long as they live: only abandoned ones should end."""

DRAIN_S = 30.0
"""How long a server that stops waits for its requests, more than ``stop`` is ever told to. Now and
then it misses that the last one has ended, and nothing but this ends it then."""

STOP_PATIENCE_S = 5.0
"""For the server to end once its last request has."""


class H2cornServer(ListeningServer[h2corn.Server]):
    """h2corn behind the transport seam."""

    def __init__(
        self, handler: Handler, rest: AsgiApp, options: TransportOptions, executor: Executor
    ) -> None:
        super().__init__(options)
        self._rest = rest
        self._grpc = GrpcAsgi(
            with_health(handler),
            executor,
            max_receive_bytes=options.max_receive_bytes,
            max_send_bytes=options.max_send_bytes,
        )
        self._in_flight: set[asyncio.Task[None]] = set()
        self._serving: dict[asyncio.Task[None], h2corn.Server] = {}

    async def stop(self, grace_s: float) -> None:
        if self._listener is None:
            return
        serving = dict(self._serving)
        for server in serving.values():
            server.shutdown()
        if serving:
            _, late = await asyncio.wait(serving, timeout=grace_s)
            if late:
                log.warning("requests cancelled at shutdown", requests=len(self._in_flight))
                self._grpc.is_stopping = True
                for task in list(self._in_flight):
                    task.cancel()
            ended, stuck = await asyncio.wait(serving, timeout=STOP_PATIENCE_S)
            for task in stuck:
                log.warning("the server did not end by itself")
                task.cancel()
            if stuck:
                await asyncio.wait(stuck, timeout=STOP_PATIENCE_S)
            for task in ended:
                task.result()
        self._close_listener()

    def _retire(self, acceptor: h2corn.Server) -> None:
        acceptor.shutdown()

    async def _start_acceptor(self, listener: socket.socket) -> h2corn.Server:
        server = h2corn.Server(self._application, self._config(listener))
        serving = asyncio.create_task(server.serve(), name="h2corn")
        self._serving[serving] = server
        serving.add_done_callback(self._serving.pop)
        started = asyncio.create_task(server.wait_started())
        await asyncio.wait({serving, started}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            await serving  # raises what kept it from starting
        try:
            await started
        except BaseException:
            with contextlib.suppress(Exception):
                await serving
            raise
        return server

    def _config(self, listener: socket.socket) -> h2corn.Config:
        _silence_banner()
        files = self._options.tls
        if files is not None:
            files.read()  # says what is wrong in words of ours
        return h2corn.Config(
            bind=(f"fd://{listener.fileno()}",),
            grpc=True,
            runtime_threads=RUNTIME_THREADS,
            lifespan="off",
            access_log=False,
            server_header="off",
            max_concurrent_streams=MAX_STREAMS_PER_CONNECTION,
            limit_connections=MAX_CONNECTIONS,
            max_request_body_size=self._options.max_receive_bytes,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=DRAIN_S,
            certfile=None if files is None else files.certificate,
            keyfile=None if files is None else files.key,
            ca_certs=None if files is None else files.authority,
            cert_reqs="none" if files is None or files.authority is None else "required",
        )

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
