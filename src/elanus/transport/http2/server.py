"""Serves gRPC's unary calls between our own processes on the event loop itself.

A call begins where its last bytes arrive and its answer is one write: no thread of a server library
stands between the socket and the handler, as it does on the public port, where any client may come
with anything. Here it must speak HTTP/2; whatever is no gRPC is refused.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping

import structlog

from elanus.errors import InternalError
from elanus.transport.base import (
    HEALTH_CHECK_METHOD,
    SERVING,
    GrpcError,
    GrpcStatus,
    Handler,
    TransportOptions,
)
from elanus.transport.grpc_asgi import check_answer, parse_timeout, percent_encode, too_large
from elanus.transport.http2 import frames
from elanus.transport.http2.connection import (
    MESSAGE_HEAD_BYTES,
    Connection,
    Stream,
    framed,
    message_end,
    message_of,
)
from elanus.transport.http2.frames import frame
from elanus.transport.listening import ListeningServer

log = structlog.get_logger(__name__)

MAX_CONNECTIONS = 10_000
MAX_STREAMS_PER_CONNECTION = 1_024
PREFACE_TIMEOUT_S = 10.0
"""For a connection to say that it speaks HTTP/2, by TLS after its handshake."""

KEEPALIVE_IDLE_S, KEEPALIVE_PAUSE_S, KEEPALIVE_PROBES = 60, 10, 6
"""Of TCP: a peer whose machine is gone frees what it held after two minutes."""

LAST_ANSWERS_S = 1.0
"""For answers that are written when the server ends to leave it."""

_HEAD = frames.indexed(8) + frames.literal(31, "application/grpc")  # :status 200
_UNSUPPORTED = frames.literal(8, "415")
_OK = frames.header("grpc-status", "0")


class _Served(Stream):
    """A call of a client. ``task``: what answers it, once all of it is here; ``is_late``: it was
    cancelled because the client's time is over."""

    __slots__ = ("headers", "is_late", "task")

    def __init__(self, number: int, window: int, headers: Mapping[str, str]) -> None:
        super().__init__(number, window)
        self.headers = headers
        self.task: asyncio.Task[None] | None = None
        self.is_late = False


class ServerConnection(Connection[_Served]):
    """One client. ``connections``: where it is known as long as it lives."""

    def __init__(
        self, handler: Handler, options: TransportOptions, connections: "set[ServerConnection]"
    ) -> None:
        super().__init__("a client")
        self._handler = handler
        self._options = options
        self._connections = connections
        self._last_number = 0
        self._awaited_preface = frames.PREFACE
        self._impatience: asyncio.TimerHandle | None = None
        self._is_closing = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """Calls that are being answered."""
        return [call.task for call in self._streams.values() if call.task is not None]

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self._transport is not None
        if len(self._connections) >= MAX_CONNECTIONS:
            log.warning("too many connections", connections=len(self._connections))
            self._transport.abort()
            return
        self._connections.add(self)
        _keep_alive(transport.get_extra_info("socket"))
        self._write(self._opening((frames.MAX_STREAMS, MAX_STREAMS_PER_CONNECTION)))
        loop = asyncio.get_running_loop()
        self._impatience = loop.call_later(PREFACE_TIMEOUT_S, self.abort, "it says nothing")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._impatience is not None:
            self._impatience.cancel()
        self._transport = None
        self.ended.set_result(None)
        for number in list(self._streams):
            self._give_up(number)

    def abort(self, reason: str) -> None:
        log.info("connection ended", reason=reason)
        if self._transport is not None:
            self._transport.abort()

    def go_away(self) -> None:
        """Take no further calls, and end with the last of those that are here."""
        if not self._is_closing:
            self._is_closing = True
            payload = frames.UINT.pack(self._last_number) + frames.UINT.pack(frames.NO_ERROR)
            self._write(frame(frames.GOAWAY, 0, 0, payload))
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._is_closing and not self._streams and self._transport is not None:
            self._transport.close()

    # --- what arrives ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._awaited_preface:
            size = min(len(data), len(self._awaited_preface))
            if data[:size] != self._awaited_preface[:size]:
                self.abort("it doesn't speak HTTP/2")
                return
            self._awaited_preface = self._awaited_preface[size:]
            if self._awaited_preface or self._impatience is None:
                return
            self._impatience.cancel()
            data = data[size:]
        super().data_received(data)

    def _got_headers(self, number: int, block: bytes, *, ends: bool) -> None:
        headers = self._headers_of.decode(block)
        if number <= self._last_number or not number % 2:
            if number in self._streams and ends:
                self._begin(self._streams[number])
            return  # trailers
        if self._is_closing:
            return  # the client has been told that it is not served
        self._last_number = number
        if len(self._streams) >= MAX_STREAMS_PER_CONNECTION:
            self._reset(number, frames.REFUSED_STREAM)
            return
        if not headers.get("content-type", "").startswith("application/grpc"):
            flags = frames.END_HEADERS | frames.END_STREAM
            self._write(frame(frames.HEADERS, flags, number, _UNSUPPORTED))
            return
        call = self._streams[number] = _Served(number, self._initial_window, headers)
        if ends:
            self._begin(call)

    def _got_data(self, stream: _Served, *, ends: bool) -> None:
        body, limit = stream.body, self._options.max_receive_bytes
        size = max(len(body), message_end(body) if len(body) >= MESSAGE_HEAD_BYTES else 0)
        if size > MESSAGE_HEAD_BYTES + limit:
            self._refuse(stream, too_large(size - MESSAGE_HEAD_BYTES, limit))
        elif ends:
            self._begin(stream)

    def _got_reset(self, number: int, code: int) -> None:
        self._give_up(number)

    def _give_up(self, number: int) -> None:
        call = self._drop(number)
        if call is not None and call.task is not None:
            call.task.cancel()
        self._close_if_done()

    # --- answers --------------------------------------------------------------------------------

    def _begin(self, call: _Served) -> None:
        if call.task is not None:
            raise InternalError("a call has ended twice")
        call.task = asyncio.get_running_loop().create_task(self._serve(call))

    async def _serve(self, call: _Served) -> None:
        """Raises nothing but cancellation: every failure becomes a status."""
        try:
            answer = await self._answer(call)
        except GrpcError as error:
            self._refuse(call, error)
        except asyncio.CancelledError:
            if call.number not in self._streams:
                raise
            why = GrpcError(GrpcStatus.UNAVAILABLE, "the server is stopping")
            if call.is_late:
                why = GrpcError(GrpcStatus.DEADLINE_EXCEEDED, "Deadline Exceeded")
            self._refuse(call, why)
        except Exception as error:  # a call must end with a status
            log.error("call failed", method=call.headers.get(":path"), exc_info=error)
            self._refuse(call, GrpcError(GrpcStatus.UNKNOWN, type(error).__name__))
        else:
            if call.number in self._streams:
                head = frame(frames.HEADERS, frames.END_HEADERS, call.number, _HEAD)
                flags = frames.END_HEADERS | frames.END_STREAM
                call.tail = frame(frames.HEADERS, flags, call.number, _OK)
                self._send(call, head, framed(answer))

    async def _answer(self, call: _Served) -> bytes:
        message = message_of(call.body)
        if message is None:
            code = GrpcStatus.UNIMPLEMENTED if call.body[:1] == b"\x01" else GrpcStatus.INTERNAL
            raise GrpcError(code, "the request has no complete, uncompressed message")
        call.body = bytearray()
        path = call.headers.get(":path", "")
        if path == HEALTH_CHECK_METHOD:
            return SERVING
        deadline_s = parse_timeout(call.headers.get("grpc-timeout"))
        if deadline_s is None:
            answer = await self._handler(path, call.headers, message, None)
        else:
            expiry = asyncio.get_running_loop().call_later(deadline_s, _expire, call)
            try:
                answer = await self._handler(path, call.headers, message, deadline_s)
            finally:
                expiry.cancel()
        check_answer(answer, self._options.max_send_bytes)
        return answer

    def _refuse(self, call: _Served, error: GrpcError) -> None:
        if call.number not in self._streams:
            return
        status = frames.header("grpc-status", str(int(error.status)))
        status += frames.header("grpc-message", percent_encode(error.message).decode())
        flags = frames.END_HEADERS | frames.END_STREAM
        head = frame(frames.HEADERS, frames.END_HEADERS, call.number, _HEAD)
        self._write(head + frame(frames.HEADERS, flags, call.number, status))
        self._is_sent(call)

    def _is_sent(self, stream: _Served) -> None:
        self._drop(stream.number)
        self._close_if_done()


class Http2Server(ListeningServer[asyncio.Server]):
    """gRPC between our own processes behind the transport seam; nothing else is served."""

    def __init__(self, handler: Handler, options: TransportOptions) -> None:
        super().__init__(options)
        self._handler = handler
        self._connections: set[ServerConnection] = set()

    async def stop(self, grace_s: float) -> None:
        if self._acceptor is None:
            return
        self._retire(self._acceptor)
        self._close_listener()
        for connection in list(self._connections):
            connection.go_away()
        await self._end_of_calls(grace_s)
        late = self._tasks()
        if late:
            log.warning("requests cancelled at shutdown", requests=len(late))
        for task in late:
            task.cancel()
        if self._connections:
            open_ones = [connection.ended for connection in self._connections]
            await asyncio.wait(open_ones, timeout=LAST_ANSWERS_S)
        for connection in list(self._connections):
            connection.abort("the server has stopped")

    def _retire(self, acceptor: asyncio.Server) -> None:
        acceptor.close()

    async def _start_acceptor(self, listener: socket.socket) -> asyncio.Server:
        """On a socket of its own, which it closes, that listens with ``listener``."""
        files = self._options.tls
        context: ssl.SSLContext | None = None if files is None else files.server_context()
        return await asyncio.get_running_loop().create_server(
            lambda: ServerConnection(self._handler, self._options, self._connections),
            sock=listener.dup(),
            ssl=context,
        )

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for connection in self._connections for task in connection.tasks]

    async def _end_of_calls(self, timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while tasks := self._tasks():
                    await asyncio.wait(tasks)


def _expire(call: _Served) -> None:
    if call.task is not None:
        call.is_late = True
        call.task.cancel()


def _keep_alive(connected: socket.socket | None) -> None:
    if connected is None:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_PAUSE_S),
        ("TCP_KEEPCNT", KEEPALIVE_PROBES),
    ):
        if hasattr(socket, option):  # not on every system
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
