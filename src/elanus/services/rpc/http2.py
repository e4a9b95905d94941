"""gRPC's unary calls over one HTTP/2 connection, on the event loop itself.

The client of the gRPC library hands each call to threads of its own and back; between processes of
one machine that way takes several times longer than the call. Here a call is one write, and its
answer is decoded where it arrives. Only what unary calls between our own processes need is
spoken: no compression, no server push, no priorities (RFC 9113, RFC 7541).

Flow control: what is sent keeps to the peer's windows; what is received is bounded by
``MAX_MESSAGE_BYTES`` for each call. Response headers are tables of their own (the dynamic table is
switched off), so headers that came before are known by their bytes.
"""

import asyncio
import struct
from collections import deque
from typing import cast
from urllib.parse import unquote

from hpack import HPACKError

from elanus.errors import InternalError, NotServed, Unavailable
from elanus.services.rpc import _http2_frames as frames
from elanus.services.rpc._http2_frames import frame
from elanus.transport.base import GrpcStatus

MAX_MESSAGE_BYTES = 512 << 20
KEEPALIVE_S = 10.0
"""A connection with calls on it is pinged as often; without an answer until the next time it is
lost."""

MAX_STREAM_ID = 1 << 30
"""A connection that has made half as many calls is replaced by a new one."""

_MESSAGE_HEAD_BYTES = 5
_DEFAULT_WINDOW = 65_535
_OUR_WINDOW = (1 << 31) - 1
_OUR_FRAME_BYTES = 1 << 20
_WINDOW_STEP = 1 << 26
_OUR_SETTINGS = (
    (frames.HEADER_TABLE_SIZE, 0),
    (frames.ENABLE_PUSH, 0),
    (frames.INITIAL_WINDOW, _OUR_WINDOW),
    (frames.MAX_FRAME, _OUR_FRAME_BYTES),
)


class RpcStatusError(Exception):
    """The peer ended the call with a status and without an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Stream:
    """A call under way. ``unsent``: the rest of its request."""

    __slots__ = ("answer", "body", "number", "status", "unsent", "window")

    def __init__(self, number: int, window: int, unsent: memoryview) -> None:
        self.number = number
        self.window = window
        self.unsent = unsent
        self.body = bytearray()
        self.status: tuple[int, str] | None = None
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class Http2Connection(asyncio.Protocol):
    """A protocol of asyncio: connected, it makes any number of calls at the same time."""

    def __init__(self, authority: str, *, secure: bool) -> None:
        self._authority = authority
        self._scheme = "https" if secure else "http"
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._headers_of = frames.HeaderDecoder()
        self._header_prefixes: dict[str, bytes] = {}
        self._block: tuple[int, bool, bytearray] | None = None
        self._streams: dict[int, _Stream] = {}
        self._unsent: deque[_Stream] = deque()
        self._next_stream = 1
        self._max_streams = 100
        self._places: deque[asyncio.Future[None]] = deque()
        self._offered = 0
        self._max_frame_bytes = 16_384
        self._initial_window = _DEFAULT_WINDOW
        self._window = _DEFAULT_WINDOW
        self._unacknowledged_bytes = 0
        self._may_write = True
        self._keepalive: asyncio.TimerHandle | None = None
        self._heard = True
        self.is_usable = False
        """Whether new calls may begin."""

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        settings = b"".join(frames.SETTING.pack(*each) for each in _OUR_SETTINGS)
        opening = frames.PREFACE + frame(frames.SETTINGS, 0, 0, settings)
        opening += frame(
            frames.WINDOW_UPDATE, 0, 0, frames.UINT.pack(_OUR_WINDOW - _DEFAULT_WINDOW)
        )
        self._transport.write(opening)
        self.is_usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        if self._keepalive is not None:
            self._keepalive.cancel()
        self._end_all(f"the connection to {self._authority} has ended: {exc or 'closed'}")

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._pump()

    def abort(self, reason: str) -> None:
        """Ends all calls with Unavailable."""
        self.is_usable = False
        self._end_all(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end_all(self, reason: str) -> None:
        for stream in list(self._streams.values()):
            self._fail(stream, Unavailable(reason))
        while self._places:
            place = self._places.popleft()
            if not place.done():
                place.set_exception(NotServed(reason))

    def _check_alive(self) -> None:
        self._keepalive = None
        if not self._streams or self._transport is None:
            return
        if not self._heard:
            self.abort(f"{self._authority} was silent for {KEEPALIVE_S:.0f} s")
            return
        self._heard = False
        self._transport.write(frame(frames.PING, 0, 0, bytes(8)))
        self._watch()

    def _watch(self) -> None:
        if self._keepalive is None:
            loop = asyncio.get_running_loop()
            self._keepalive = loop.call_later(KEEPALIVE_S, self._check_alive)

    # --- calls ----------------------------------------------------------------------------------

    async def call(self, path: str, message: bytes, timeout_s: float) -> bytes:
        """The answer's message. Raises RpcStatusError, Unavailable, NotServed (surely nothing was
        done), InternalError, TimeoutError; a caller that is cancelled cancels the call."""
        while not self._has_place() and self.is_usable:
            await self._place()
        if not self.is_usable or self._transport is None:
            raise NotServed(f"the connection to {self._authority} has ended")
        number = self._next_stream
        self._next_stream += 2
        if self._next_stream > MAX_STREAM_ID:
            self.is_usable = False
        body = b"\x00" + frames.UINT.pack(len(message)) + message
        stream = self._streams[number] = _Stream(number, self._initial_window, memoryview(body))
        head = frame(frames.HEADERS, frames.END_HEADERS, number, self._headers(path, timeout_s))
        fits = len(body) <= min(self._max_frame_bytes, stream.window, self._window)
        if fits and not self._unsent and self._may_write:
            self._window -= len(body)
            stream.unsent = stream.unsent[:0]
            self._transport.write(head + frame(frames.DATA, frames.END_STREAM, number, body))
        else:
            self._transport.write(head)
            self._unsent.append(stream)
            self._pump()
        self._heard = True
        self._watch()
        expiry = asyncio.get_running_loop().call_later(timeout_s, _expire, stream.answer)
        try:
            return await stream.answer
        except (asyncio.CancelledError, TimeoutError):
            self._reset(stream)
            raise
        finally:
            expiry.cancel()
            self._forget(stream)

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
        prefix = self._header_prefixes.get(path)
        if prefix is None:
            prefix = frames.request_headers(self._scheme, self._authority, path)
            self._header_prefixes[path] = prefix
        milliseconds = min(99_999_999, max(1, int(timeout_s * 1e3)))
        return prefix + frames.header("grpc-timeout", f"{milliseconds}m")

    def _forget(self, stream: _Stream) -> None:
        if self._streams.pop(stream.number, None) is not None:
            self._offer_places()
        if stream.unsent:
            stream.unsent = stream.unsent[:0]
            self._unsent = deque(each for each in self._unsent if each is not stream)

    def _reset(self, stream: _Stream) -> None:
        if stream.number in self._streams:
            code = frames.UINT.pack(frames.CANCEL)
            self._write(frame(frames.RST_STREAM, 0, stream.number, code))

    def _fail(self, stream: _Stream, error: Exception) -> None:
        if not stream.answer.done():
            stream.answer.set_exception(error)
        self._forget(stream)

    def _pump(self) -> None:
        """Send as much of the waiting requests as the peer's windows and the socket take."""
        for _ in range(len(self._unsent)):
            stream = self._unsent.popleft()
            while stream.unsent:
                size = min(len(stream.unsent), self._max_frame_bytes, stream.window, self._window)
                if size <= 0 or not self._may_write or self._transport is None:
                    self._unsent.append(stream)
                    break
                part, stream.unsent = stream.unsent[:size], stream.unsent[size:]
                stream.window -= size
                self._window -= size
                flags = 0 if stream.unsent else frames.END_STREAM
                self._transport.write(frame(frames.DATA, flags, stream.number, part))

    # --- what arrives ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._heard = True
        self._received += data
        start, end = 0, len(self._received)
        try:
            while end - start >= frames.FRAME_HEAD_BYTES:
                high, low, kind, flags, number = frames.FRAME_HEAD.unpack_from(
                    self._received, start
                )
                stop = start + frames.FRAME_HEAD_BYTES + (high << 8 | low)
                if stop - start > frames.FRAME_HEAD_BYTES + _OUR_FRAME_BYTES:
                    raise InternalError(f"{self._authority} sent too large a frame")
                if stop > end:
                    break
                payload = bytes(self._received[start + frames.FRAME_HEAD_BYTES : stop])
                self._handle(kind, flags, number & 0x7FFFFFFF, payload)
                start = stop
        except (InternalError, HPACKError, struct.error, IndexError) as error:
            self.abort(f"{self._authority} doesn't speak HTTP/2 as expected: {error}")
        del self._received[:start]

    def _handle(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        match kind:
            case frames.DATA:
                self._data(number, flags, payload)
            case frames.HEADERS:
                block = frames.unpadded(payload, flags)
                self._block = number, bool(flags & frames.END_STREAM), bytearray(block)
                self._continue(flags)
            case frames.CONTINUATION:
                if self._block is None or self._block[0] != number:
                    raise InternalError("unexpected CONTINUATION")
                self._block[2].extend(payload)
                self._continue(flags)
            case frames.RST_STREAM:
                self._was_reset(number, frames.UINT.unpack(payload)[0])
            case frames.SETTINGS if not flags & frames.ACK:
                self._settings(payload)
            case frames.PING if not flags & frames.ACK:
                self._write(frame(frames.PING, frames.ACK, 0, payload))
            case frames.GOAWAY:
                self._going_away(frames.UINT.unpack_from(payload)[0] & 0x7FFFFFFF)
            case frames.WINDOW_UPDATE:
                step = frames.UINT.unpack(payload)[0] & 0x7FFFFFFF
                if number == 0:
                    self._window += step
                elif number in self._streams:
                    self._streams[number].window += step
                self._pump()
            case _:
                pass  # unknown kinds are to be ignored

    def _write(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.write(frame)

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        self._unacknowledged_bytes += len(payload)
        if self._unacknowledged_bytes >= _WINDOW_STEP:
            self._write(
                frame(frames.WINDOW_UPDATE, 0, 0, frames.UINT.pack(self._unacknowledged_bytes))
            )
            self._unacknowledged_bytes = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # its caller is gone
        stream.body += frames.unpadded(payload, flags & ~frames.PRIORITY)
        if len(stream.body) > MAX_MESSAGE_BYTES + _MESSAGE_HEAD_BYTES:
            self._reset(stream)
            self._fail(stream, InternalError(f"{self._authority} sent too long an answer"))
        elif flags & frames.END_STREAM:
            self._fail(stream, InternalError(f"{self._authority} sent an answer without a status"))

    def _continue(self, flags: int) -> None:
        assert self._block is not None
        number, ends, block = self._block
        if len(block) > frames.MAX_HEADER_BYTES:
            raise InternalError("too long headers")
        if not flags & frames.END_HEADERS:
            return
        self._block = None
        headers = self._headers_of.decode(bytes(block))
        stream = self._streams.get(number)
        if stream is None:
            return
        code = headers.get(":status", "200")
        if code != "200":
            self._fail(stream, InternalError(f"{self._authority} answers with HTTP {code}"))
            return
        if "grpc-status" in headers:
            stream.status = int(headers["grpc-status"]), unquote(headers.get("grpc-message", ""))
        if ends:
            self._finish(stream)

    def _finish(self, stream: _Stream) -> None:
        body = stream.body
        if stream.status is None:
            self._fail(stream, InternalError(f"{self._authority} sent no status"))
        elif stream.status[0] != GrpcStatus.OK:
            self._fail(stream, RpcStatusError(*stream.status))
        elif len(body) < _MESSAGE_HEAD_BYTES or body[0] or _length(body) != len(body):
            self._fail(stream, InternalError(f"{self._authority} sent an incomplete answer"))
        elif not stream.answer.done():
            stream.answer.set_result(bytes(memoryview(body)[_MESSAGE_HEAD_BYTES:]))

    def _was_reset(self, number: int, code: int) -> None:
        stream = self._streams.get(number)
        if stream is None:
            return
        if code == frames.REFUSED_STREAM:
            self._fail(stream, NotServed(f"{self._authority} refused the call"))
        elif stream.status is not None and stream.status[0] != GrpcStatus.OK:
            self._fail(stream, RpcStatusError(*stream.status))
        else:
            self._fail(stream, Unavailable(f"{self._authority} gave the call up ({code})"))

    def _settings(self, payload: bytes) -> None:
        for key, value in frames.SETTING.iter_unpack(payload):
            if key == frames.MAX_STREAMS:
                self._max_streams = value
                self._offer_places()
            elif key == frames.INITIAL_WINDOW:
                for stream in self._streams.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
            elif key == frames.MAX_FRAME:
                self._max_frame_bytes = value
        self._write(frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._pump()

    def _going_away(self, last_number: int) -> None:
        self.is_usable = False
        for number, stream in list(self._streams.items()):
            if number > last_number:
                self._fail(stream, NotServed(f"{self._authority} is stopping"))
        if not self._streams and self._transport is not None:
            self._transport.close()


def _expire(answer: asyncio.Future[bytes]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def _length(body: bytearray) -> int:
    return _MESSAGE_HEAD_BYTES + int.from_bytes(body[1:_MESSAGE_HEAD_BYTES], "big")
