"""gRPC's unary calls over one HTTP/2 connection, on the event loop itself.

The client of the gRPC library hands each call to threads of its own and back; between processes of
one machine that way takes several times longer than the call. Here a call is one write, and its
answer is decoded where it arrives.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from urllib.parse import unquote

from elanus.errors import InternalError, NotServed, Unavailable
from elanus.transport.base import GrpcStatus
from elanus.transport.http2 import frames
from elanus.transport.http2.connection import (
    MAX_MESSAGE_BYTES,
    MESSAGE_HEAD_BYTES,
    Connection,
    Stream,
    framed,
    message_of,
)
from elanus.transport.http2.frames import frame

KEEPALIVE_S = 10.0
"""A connection with calls on it is pinged as often; without an answer until the next time it is
lost."""

MAX_STREAM_ID = 1 << 30
"""A connection that has made half as many calls is replaced by a new one."""


class RpcStatusError(Exception):
    """The peer ended the call with a status and without an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Call(Stream):
    __slots__ = ("answer", "status")

    def __init__(self, number: int, window: int) -> None:
        super().__init__(number, window)
        self.status: tuple[int, str] | None = None
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class ClientConnection(Connection[_Call]):
    """A protocol of asyncio: connected, it makes any number of calls at the same time, each with
    this ``metadata``."""

    def __init__(self, authority: str, *, secure: bool, metadata: Mapping[str, str]) -> None:
        super().__init__(authority)
        self._metadata = b"".join(frames.header(*each) for each in metadata.items())
        self._scheme = "https" if secure else "http"
        self._header_blocks: dict[tuple[str, int], bytes] = {}
        self._next_stream = 1
        self._max_streams = 100
        self._places: deque[asyncio.Future[None]] = deque()
        self._offered = 0
        self._keepalive: asyncio.TimerHandle | None = None
        self._heard = True
        self.is_usable = False
        """Whether new calls may begin."""

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._write(frames.PREFACE + self._opening((frames.ENABLE_PUSH, 0)))
        self.is_usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._end_all(f"the connection to {self._peer} has ended: {exc or 'closed'}")

    def abort(self, reason: str) -> None:
        """Ends all calls with Unavailable."""
        self.is_usable = False
        self._end_all(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end_all(self, reason: str) -> None:
        for call in list(self._streams.values()):
            self._fail(call, Unavailable(reason))
        while self._places:
            place = self._places.popleft()
            if not place.done():
                place.set_exception(NotServed(reason))

    def _check_alive(self) -> None:
        self._keepalive = None
        if not self._streams or self._transport is None:
            return
        if not self._heard:
            self.abort(f"{self._peer} was silent for {KEEPALIVE_S:.0f} s")
            return
        self._heard = False
        self._write(frame(frames.PING, 0, 0, bytes(8)))
        self._watch()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._keepalive = loop.call_later(KEEPALIVE_S, self._check_alive)

    # --- calls ----------------------------------------------------------------------------------

    async def call(self, path: str, message: bytes, timeout_s: float) -> bytes:
        """The answer's message. Raises RpcStatusError, Unavailable, NotServed (surely nothing was
        done), InternalError, TimeoutError; a caller that is cancelled cancels the call."""
        while not self._has_place() and self.is_usable:
            await self._place()
        if not self.is_usable or self._transport is None:
            raise NotServed(f"the connection to {self._peer} has ended")
        number = self._next_stream
        self._next_stream += 2
        if self._next_stream > MAX_STREAM_ID:
            self.is_usable = False
        call = self._streams[number] = _Call(number, self._initial_window)
        head = frame(frames.HEADERS, frames.END_HEADERS, number, self._headers(path, timeout_s))
        self._send(call, head, framed(message))
        self._heard = True
        if self._keepalive is None:
            self._watch()
        expiry = asyncio.get_running_loop().call_later(timeout_s, _expire, call.answer)
        try:
            return await call.answer
        except (asyncio.CancelledError, TimeoutError):
            if number in self._streams:
                self._reset(number)
            raise
        finally:
            expiry.cancel()
            self._forget(call)

    async def _place(self) -> None:
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._places.append(place)
        try:
            await place
        finally:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._offered -= 1
                # By then this call has its place, or was cancelled and leaves it to another.
                asyncio.get_running_loop().call_soon(self._offer_places)

    def _has_place(self) -> bool:
        """Places that were offered to calls which have not gone on yet count as taken."""
        return len(self._streams) + self._offered < self._max_streams

    def _offer_places(self) -> None:
        while self._places and self._has_place():
            place = self._places.popleft()
            if not place.done():
                self._offered += 1
                place.set_result(None)

    def _headers(self, path: str, timeout_s: float) -> bytes:
        milliseconds = _rounded_ms(timeout_s)
        known = self._header_blocks.get((path, milliseconds))
        if known is not None:
            return known
        block = frames.request_headers(self._scheme, self._peer, path) + self._metadata
        block += frames.header("grpc-timeout", f"{milliseconds}m")
        if len(self._header_blocks) >= frames.MAX_KNOWN_HEADERS:
            self._header_blocks.clear()
        self._header_blocks[path, milliseconds] = block
        return block

    def _forget(self, call: _Call) -> None:
        if self._drop(call.number) is not None and self._places:
            self._offer_places()

    def _fail(self, call: _Call, error: Exception) -> None:
        if not call.answer.done():
            call.answer.set_exception(error)
        self._forget(call)

    # --- what arrives ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)

    def _got_data(self, stream: _Call, *, ends: bool) -> None:
        if len(stream.body) > MAX_MESSAGE_BYTES + MESSAGE_HEAD_BYTES:
            self._reset(stream.number)
            self._fail(stream, InternalError(f"{self._peer} sent too long an answer"))
        elif ends:
            self._fail(stream, InternalError(f"{self._peer} sent an answer without a status"))

    def _got_headers(self, number: int, block: bytes, *, ends: bool) -> None:
        headers = self._headers_of.decode(block)
        call = self._streams.get(number)
        if call is None:
            return
        code = headers.get(":status", "200")
        if code != "200":
            self._fail(call, InternalError(f"{self._peer} answers with HTTP {code}"))
            return
        if "grpc-status" in headers:
            message = headers.get("grpc-message", "")
            call.status = int(headers["grpc-status"]), unquote(message) if message else ""
        if ends:
            self._finish(call)

    def _finish(self, call: _Call) -> None:
        if call.status is None:
            self._fail(call, InternalError(f"{self._peer} sent no status"))
        elif call.status[0] != GrpcStatus.OK:
            self._fail(call, RpcStatusError(*call.status))
        elif (message := message_of(call.body)) is None:
            self._fail(call, InternalError(f"{self._peer} sent an incomplete answer"))
        elif not call.answer.done():
            call.answer.set_result(message)

    def _got_reset(self, number: int, code: int) -> None:
        call = self._streams.get(number)
        if call is None:
            return
        if code == frames.REFUSED_STREAM:
            self._fail(call, NotServed(f"{self._peer} refused the call"))
        elif call.status is not None and call.status[0] != GrpcStatus.OK:
            self._fail(call, RpcStatusError(*call.status))
        else:
            self._fail(call, Unavailable(f"{self._peer} gave the call up ({code})"))

    def _got_setting(self, key: int, value: int) -> None:
        if key == frames.MAX_STREAMS:
            self._max_streams = value
            self._offer_places()

    def _got_goaway(self, last_number: int) -> None:
        self.is_usable = False
        for number, call in list(self._streams.items()):
            if number > last_number:
                self._fail(call, NotServed(f"{self._peer} is stopping"))
        if not self._streams and self._transport is not None:
            self._transport.close()


def _expire(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _rounded_ms(timeout_s: float) -> int:
    """At least so long, to two digits: the caller minds its own time, and the peer finds headers
    that it knows."""
    milliseconds, step = min(99_000_000, max(1, int(timeout_s * 1e3))), 1
    while milliseconds >= 100 * step:
        step *= 10
    return -(-milliseconds // step) * step
