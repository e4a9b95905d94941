"""What both ends of an HTTP/2 connection do: frames in, frames out, settings and windows.

Only what gRPC's unary calls between our own processes need is spoken: no compression, no server
push, no priorities (RFC 9113, RFC 7541). Flow control: what is sent keeps to the peer's windows;
what is received is bounded by ``MAX_MESSAGE_BYTES`` for each call. Headers are tables of their own
(the dynamic table is switched off), so blocks that came before are known by their bytes.
"""

import asyncio
import struct
from abc import abstractmethod
from collections import deque
from typing import Generic, TypeVar, cast

from hpack import HPACKError

from elanus.errors import InternalError
from elanus.transport.http2 import frames
from elanus.transport.http2.frames import frame

MAX_MESSAGE_BYTES = 512 << 20
MESSAGE_HEAD_BYTES = 5
"""Of gRPC: a flag and a length before each message."""

_DEFAULT_WINDOW = 65_535
_OUR_WINDOW = (1 << 31) - 1
_OUR_FRAME_BYTES = 1 << 20
_WINDOW_STEP = 1 << 26
_PADDED_OR_PRIORITY = frames.PADDED | frames.PRIORITY


class Stream:
    """A call under way. ``body``: what has come; ``unsent``: what has still to go; ``tail``: frames
    that follow it, without them its last frame ends the stream."""

    __slots__ = ("body", "number", "tail", "unsent", "window")

    def __init__(self, number: int, window: int) -> None:
        self.number = number
        self.window = window
        self.body = bytearray()
        self.unsent = memoryview(b"")
        self.tail = b""


S = TypeVar("S", bound=Stream)


class Connection(asyncio.Protocol, Generic[S]):
    """A protocol of asyncio, of one end. ``peer``: its name in errors."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._headers_of = frames.HeaderDecoder()
        self._block: tuple[int, bool, bytearray] | None = None
        self._streams: dict[int, S] = {}
        self._unsent: deque[S] = deque()
        self._max_frame_bytes = 16_384
        self._initial_window = _DEFAULT_WINDOW
        self._window = _DEFAULT_WINDOW
        self._unacknowledged_bytes = 0
        self._may_write = True

    # --- what each end does in its own way ------------------------------------------------------

    @abstractmethod
    def _got_headers(self, number: int, block: bytes, *, ends: bool) -> None: ...

    @abstractmethod
    def _got_data(self, stream: S, *, ends: bool) -> None:
        """``stream.body`` has grown, or is whole."""

    @abstractmethod
    def _got_reset(self, number: int, code: int) -> None: ...

    @abstractmethod
    def abort(self, reason: str) -> None:
        """Ends the connection and all of its calls."""

    def _got_setting(self, key: int, value: int) -> None:
        """Of those that only one end minds."""

    def _got_goaway(self, last_number: int) -> None:
        """The peer takes no streams behind this one."""

    # --- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def _opening(self, *settings: tuple[int, int]) -> bytes:
        """The first frames of either end; ``settings``: beside those that both have."""
        ours = (
            (frames.HEADER_TABLE_SIZE, 0),
            (frames.INITIAL_WINDOW, _OUR_WINDOW),
            (frames.MAX_FRAME, _OUR_FRAME_BYTES),
            *settings,
        )
        packed = b"".join(frames.SETTING.pack(*each) for each in ours)
        step = frames.UINT.pack(_OUR_WINDOW - _DEFAULT_WINDOW)
        return frame(frames.SETTINGS, 0, 0, packed) + frame(frames.WINDOW_UPDATE, 0, 0, step)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self._pump()

    # --- what is sent ---------------------------------------------------------------------------

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _send(self, stream: S, head: bytes, body: bytes) -> None:
        """``head``, frames; then ``body`` as far as windows and socket take it, the rest later;
        then the stream's tail."""
        fits = len(body) <= min(self._max_frame_bytes, stream.window, self._window)
        if fits and not self._unsent and self._may_write:
            self._window -= len(body)
            flags = 0 if stream.tail else frames.END_STREAM
            self._write(head + frame(frames.DATA, flags, stream.number, body) + stream.tail)
            self._is_sent(stream)
            return
        stream.unsent = memoryview(body)
        self._write(head)
        self._unsent.append(stream)
        self._pump()

    def _is_sent(self, stream: S) -> None:
        """All of it."""

    def _pump(self) -> None:
        """Send as much of what waits as the peer's windows and the socket take."""
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
                if stream.unsent:
                    self._write(frame(frames.DATA, 0, stream.number, part))
                    continue
                flags = 0 if stream.tail else frames.END_STREAM
                self._write(frame(frames.DATA, flags, stream.number, part) + stream.tail)
                self._is_sent(stream)

    def _drop(self, number: int) -> S | None:
        """Forget the stream and what is still to be sent of it."""
        stream = self._streams.pop(number, None)
        if stream is not None and stream.unsent:
            stream.unsent = stream.unsent[:0]
            self._unsent = deque(each for each in self._unsent if each is not stream)
        return stream

    def _reset(self, number: int, code: int = frames.CANCEL) -> None:
        self._write(frame(frames.RST_STREAM, 0, number, frames.UINT.pack(code)))

    # --- what arrives ---------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        received: bytes | bytearray = data
        if self._received:
            self._received += data
            received = self._received
        start, end = 0, len(received)
        try:
            while end - start >= frames.FRAME_HEAD_BYTES:
                high, low, kind, flags, number = frames.FRAME_HEAD.unpack_from(received, start)
                first = start + frames.FRAME_HEAD_BYTES
                stop = first + (high << 8 | low)
                if stop - first > _OUR_FRAME_BYTES:
                    raise InternalError(f"{self._peer} sent too large a frame")
                if stop > end:
                    break
                payload = bytes(received[first:stop])
                if kind <= frames.HEADERS:
                    if flags & _PADDED_OR_PRIORITY:
                        payload = frames.unpadded(payload, flags)
                    if kind == frames.DATA:
                        self._data(number, flags, payload, stop - first)
                    else:
                        self._headers_came(number, flags, payload)
                else:
                    self._handle(kind, flags, number & 0x7FFFFFFF, payload)
                start = stop
        except (InternalError, HPACKError, struct.error, IndexError, ValueError) as error:
            self.abort(f"{self._peer} doesn't speak HTTP/2 as expected: {error}")
            start = end
        if start:
            self._received = bytearray(received[start:])
        elif received is data:
            self._received = bytearray(data)

    def _handle(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        match kind:
            case frames.CONTINUATION:
                self._continue(number, flags, payload)
            case frames.RST_STREAM:
                self._got_reset(number, frames.UINT.unpack(payload)[0])
            case frames.SETTINGS if not flags & frames.ACK:
                self._settings(payload)
            case frames.PING if not flags & frames.ACK:
                self._write(frame(frames.PING, frames.ACK, 0, payload))
            case frames.GOAWAY:
                self._got_goaway(frames.UINT.unpack_from(payload)[0] & 0x7FFFFFFF)
            case frames.WINDOW_UPDATE:
                step = frames.UINT.unpack(payload)[0] & 0x7FFFFFFF
                if number == 0:
                    self._window += step
                elif number in self._streams:
                    self._streams[number].window += step
                self._pump()
            case _:
                pass  # unknown kinds are to be ignored

    def _data(self, number: int, flags: int, payload: bytes, size: int) -> None:
        """``size``: with padding."""
        self._unacknowledged_bytes += size
        if self._unacknowledged_bytes >= _WINDOW_STEP:
            step = frames.UINT.pack(self._unacknowledged_bytes)
            self._write(frame(frames.WINDOW_UPDATE, 0, 0, step))
            self._unacknowledged_bytes = 0
        stream = self._streams.get(number)
        if stream is None:
            return  # nobody waits for it any more
        stream.body += payload
        self._got_data(stream, ends=bool(flags & frames.END_STREAM))

    def _headers_came(self, number: int, flags: int, block: bytes) -> None:
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._got_headers(number, block, ends=ends)
        else:
            self._block = number, ends, bytearray(block)

    def _continue(self, number: int, flags: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise InternalError("unexpected CONTINUATION")
        _, ends, block = self._block
        block += payload
        if len(block) > frames.MAX_HEADER_BYTES:
            raise InternalError("too long headers")
        if flags & frames.END_HEADERS:
            self._block = None
            self._got_headers(number, bytes(block), ends=ends)

    def _settings(self, payload: bytes) -> None:
        for key, value in frames.SETTING.iter_unpack(payload):
            if key == frames.INITIAL_WINDOW:
                for stream in self._streams.values():
                    stream.window += value - self._initial_window
                self._initial_window = value
            elif key == frames.MAX_FRAME:
                self._max_frame_bytes = value
            else:
                self._got_setting(key, value)
        self._write(frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._pump()


def message_of(body: bytearray) -> bytes | None:
    """The one message of a call's body; None if it isn't exactly one, uncompressed."""
    if len(body) < MESSAGE_HEAD_BYTES or body[0] or message_end(body) != len(body):
        return None
    return bytes(memoryview(body)[MESSAGE_HEAD_BYTES:])


def message_end(body: bytearray) -> int:
    """Bytes of the body that the message's head announces."""
    return MESSAGE_HEAD_BYTES + int.from_bytes(body[1:MESSAGE_HEAD_BYTES], "big")


def framed(message: bytes) -> bytes:
    return b"\x00" + frames.UINT.pack(len(message)) + message
