"""The fallback: gRPC by grpcio's asyncio server, the RESTful API by uvicorn on a second port."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from typing import Any

import grpc
import structlog
import uvicorn

from elanus.transport.base import (
    AsgiApp,
    GrpcError,
    GrpcStatus,
    Handler,
    TransportOptions,
    TransportServer,
    listen,
    with_health,
)
from elanus.transport.tls import TlsFiles, TlsMaterial

log = structlog.get_logger(__name__)

_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}
KEEPALIVE_S = 60
KEEPALIVE_TIMEOUT_S = 10


class GrpcioServer(TransportServer):
    """grpcio and uvicorn behind the transport seam."""

    def __init__(self, handler: Handler, rest: AsgiApp, options: TransportOptions) -> None:
        self._options = options
        self._handler = with_health(handler)
        self._rest = rest
        self._port = options.port
        self._grpc: Any = None
        self._uvicorn: _Uvicorn | None = None
        self._uvicorn_task: asyncio.Task[None] | None = None
        self._rest_socket: socket.socket | None = None
        self._material: TlsMaterial | None = None

    @property
    def address(self) -> tuple[str, int]:
        return self._options.host, self._port

    @property
    def rest_address(self) -> tuple[str, int]:
        if self._rest_socket is None:
            return self._options.host, self._options.rest_port
        host, port = self._rest_socket.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        host, port = self._options.host, self._options.port
        self._grpc = grpc.aio.server(
            handlers=(_GenericHandler(self._serve),), options=_channel_options(self._options)
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if self._options.tls is None:
                self._port = self._grpc.add_insecure_port(address)
            else:
                credentials = self._credentials(self._options.tls)
                self._port = self._grpc.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {host}:{port}: {error}") from error
        rest_port = self._options.rest_port or (port + 1 if port else 0)
        try:
            self._rest_socket = listen(host, rest_port, self._options.reuse_port)
        except OSError:
            await self._grpc.stop(None)
            raise
        await self._grpc.start()
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                self._rest,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                **_uvicorn_tls(self._options.tls),
            )
        )
        self._uvicorn_task = asyncio.create_task(
            self._uvicorn.serve(sockets=[self._rest_socket]), name="uvicorn"
        )

    async def stop(self, grace_s: float) -> None:
        if self._grpc is None or self._uvicorn is None or self._uvicorn_task is None:
            return
        self._uvicorn.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._uvicorn.should_exit = True
        await asyncio.gather(self._grpc.stop(grace_s), self._uvicorn_task)
        if self._rest_socket is not None:
            self._rest_socket.close()
        self._grpc = self._uvicorn = self._uvicorn_task = self._rest_socket = None

    async def renew_certificate(self) -> None:
        files, running = self._options.tls, self._uvicorn
        if files is None or running is None:
            return
        material = files.read()
        context = running.config.ssl
        if context is not None:
            context.load_cert_chain(files.certificate, files.key)
            if files.authority is not None:
                context.load_verify_locations(files.authority)
        self._material = material

    def _credentials(self, files: TlsFiles) -> grpc.ServerCredentials:
        """They ask for the present certificate at each handshake."""
        self._material = files.read()

        def present() -> Any:
            material = self._material
            assert material is not None
            return grpc.ssl_server_certificate_configuration(
                [(material.key, material.certificate)], material.authority
            )

        return grpc.dynamic_ssl_server_credentials(
            present(), present, require_client_authentication=files.authority is not None
        )

    async def _serve(self, method: str, body: bytes, context: Any) -> bytes:
        metadata = {
            key: value for key, value in context.invocation_metadata() if isinstance(value, str)
        }
        try:
            return await self._handler(method, metadata, body, context.time_remaining())
        except GrpcError as error:
            await context.abort(_STATUS_CODES[int(error.status)], error.message)
        except Exception as error:  # a call must end with a status
            log.error("call failed in the transport", method=method, exc_info=error)
            await context.abort(_STATUS_CODES[GrpcStatus.UNKNOWN], type(error).__name__)
        raise AssertionError("abort raises")


class _GenericHandler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method is unary, with bytes for messages."""

    def __init__(self, serve: Any) -> None:
        self._serve = serve

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method

        async def call(body: bytes, context: Any) -> bytes:
            answer: bytes = await self._serve(method, body, context)
            return answer

        return grpc.unary_unary_rpc_method_handler(call)


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _channel_options(options: TransportOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", options.max_receive_bytes),
        ("grpc.max_send_message_length", options.max_send_bytes),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_ping_strikes", 0),  # clients may ping as often as they like
        ("grpc.so_reuseport", int(options.reuse_port)),
    ]


def _uvicorn_tls(files: TlsFiles | None) -> dict[str, Any]:
    if files is None:
        return {}
    options: dict[str, Any] = {"ssl_certfile": files.certificate, "ssl_keyfile": files.key}
    if files.authority is not None:
        options |= {"ssl_ca_certs": str(files.authority), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return options
