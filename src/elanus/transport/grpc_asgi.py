"""gRPC's unary calls over an ASGI server that has HTTP/2 and trailers.

The wire format: a request is one message of a flag byte (1 = compressed), a big-endian uint32
length and that many bytes; the answer is framed alike, and the trailers ``grpc-status`` and
``grpc-message`` (percent-encoded) end it. A message over the limit is refused as soon as its
length is known. gzip requests are unpacked, never past the limit; other encodings are refused with
UNIMPLEMENTED, as gRPC prescribes. The ASGI server cancels the task of a call whose client is gone.
"""

import asyncio
import zlib
from collections.abc import Iterable

import structlog

from elanus.runtime.executor import Executor
from elanus.transport.base import (
    GrpcError,
    GrpcStatus,
    Handler,
    Receive,
    Scope,
    Send,
)

log = structlog.get_logger(__name__)

_PREFIX_BYTES = 5
_INLINE_GUNZIP_BYTES = 65_536
"""Larger compressed requests are unpacked off the event loop."""

_TIMEOUT_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity,gzip"),
    ],
    "trailers": True,
}
_OK_TRAILERS = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]}


def is_grpc(scope: Scope) -> bool:
    """Is this an HTTP request whose content type is gRPC's?"""
    if scope["type"] != "http":
        return False
    for name, value in scope["headers"]:
        if name == b"content-type":
            found: bool = value.startswith(b"application/grpc")
            return found
    return False


class GrpcAsgi:
    """An ASGI application that serves gRPC calls with a handler."""

    def __init__(
        self, handler: Handler, executor: Executor, *, max_receive_bytes: int, max_send_bytes: int
    ) -> None:
        self._handler = handler
        self._executor = executor
        self._max_receive_bytes = max_receive_bytes
        self._max_send_bytes = max_send_bytes
        self.is_stopping = False
        """Set before calls are cancelled because the server ends: their callers are told so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises nothing but cancellation: every failure becomes a gRPC status."""
        if (b"te", b"trailers") not in scope["headers"]:
            await _send_bad_request(send)
            return
        try:
            answer = await self._answer(scope, receive)
        except GrpcError as error:
            await _send_error(send, error)
            return
        except asyncio.CancelledError:
            if not self.is_stopping:
                raise
            await _send_error(send, GrpcError(GrpcStatus.UNAVAILABLE, "the server is stopping"))
            return
        except Exception as error:  # a call must end with a status
            log.error("call failed in the transport", method=scope["path"], exc_info=error)
            await _send_error(send, GrpcError(GrpcStatus.UNKNOWN, f"{type(error).__name__}"))
            return
        await send(_START)
        frame = b"\x00" + len(answer).to_bytes(4, "big") + answer
        await send({"type": "http.response.body", "body": frame})
        await send(_OK_TRAILERS)

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        metadata = _metadata(scope["headers"])
        deadline_s = parse_timeout(metadata.get("grpc-timeout"))
        if deadline_s is None:
            answer = await self._handle(scope["path"], receive, metadata, None)
        else:
            timeout = asyncio.timeout(deadline_s)
            try:
                async with timeout:
                    answer = await self._handle(scope["path"], receive, metadata, deadline_s)
            except TimeoutError:
                if not timeout.expired():
                    raise
                raise GrpcError(GrpcStatus.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        check_answer(answer, self._max_send_bytes)
        return answer

    async def _handle(
        self, method: str, receive: Receive, metadata: dict[str, str], deadline_s: float | None
    ) -> bytes:
        body = await self._read_message(receive, metadata.get("grpc-encoding", "identity"))
        return await self._handler(method, metadata, body, deadline_s)

    async def _read_message(self, receive: Receive, encoding: str) -> bytes:
        """The one message of a unary request, unpacked."""
        data = await self._read_frame(receive)
        if len(data) < _PREFIX_BYTES:
            raise GrpcError(GrpcStatus.INTERNAL, "the request has no complete message")
        length = int.from_bytes(data[1:_PREFIX_BYTES], "big")
        if len(data) != _PREFIX_BYTES + length:
            raise GrpcError(
                GrpcStatus.INTERNAL,
                f"the request's message should have {length} bytes, "
                f"but {len(data) - _PREFIX_BYTES} came",
            )
        if data[0] == 0:
            return data[_PREFIX_BYTES:]
        if encoding != "gzip":
            raise GrpcError(
                GrpcStatus.UNIMPLEMENTED,
                f"grpc: Decompressor is not installed for grpc-encoding {encoding!r}, "
                "send identity or gzip",
            )
        message = data[_PREFIX_BYTES:]
        if length <= _INLINE_GUNZIP_BYTES:
            return gunzip(message, self._max_receive_bytes)
        return await self._executor.run("compute", gunzip, message, self._max_receive_bytes)

    async def _read_frame(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            event = await receive()
            if event["type"] != "http.request":
                raise asyncio.CancelledError
            chunk = event.get("body", b"")
            if chunk:
                chunks.append(chunk)
                size += len(chunk)
                self._check_size(chunks, size)
            if not event.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_size(self, chunks: list[bytes], size: int) -> None:
        first = chunks[0]
        if len(chunks) == 1 and size >= _PREFIX_BYTES:
            size = max(size, _PREFIX_BYTES + int.from_bytes(first[1:_PREFIX_BYTES], "big"))
        if size > _PREFIX_BYTES + self._max_receive_bytes:
            raise too_large(size - _PREFIX_BYTES, self._max_receive_bytes)


def parse_timeout(value: str | None) -> float | None:
    """Seconds of a ``grpc-timeout`` header such as ``500m``; None without one."""
    if value is None:
        return None
    digits, unit = value[:-1], value[-1:]
    if unit not in _TIMEOUT_UNITS or not digits.isascii() or not digits.isdigit():
        raise GrpcError(GrpcStatus.INTERNAL, f"malformed grpc-timeout: {value!r}")
    return int(digits) * _TIMEOUT_UNITS[unit]


def gunzip(data: bytes, limit_bytes: int) -> bytes:
    """``data`` unpacked; refuses with RESOURCE_EXHAUSTED before it grows past the limit."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise GrpcError(GrpcStatus.INTERNAL, f"grpc: failed to decompress: {error}") from error
    if len(unpacked) > limit_bytes:
        raise too_large(len(unpacked), limit_bytes)
    if not unpacker.eof:
        raise GrpcError(GrpcStatus.INTERNAL, "grpc: the compressed message is cut off")
    return unpacked


def percent_encode(text: str) -> bytes:
    """``text`` as the value of ``grpc-message``: UTF-8, printable ASCII but ``%`` as it is."""
    return b"".join(
        bytes((byte,)) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in text.encode()
    )


def check_answer(answer: bytes, limit: int) -> None:
    """Raises GrpcError if it is longer than may be sent."""
    if len(answer) > limit:
        raise GrpcError(
            GrpcStatus.RESOURCE_EXHAUSTED,
            f"trying to send message larger than max ({len(answer)} vs. {limit})",
        )


def too_large(size: int, limit: int) -> GrpcError:
    """Says so of a request's message."""
    return GrpcError(
        GrpcStatus.RESOURCE_EXHAUSTED,
        f"grpc: received message larger than max ({size} vs. {limit})",
    )


def _metadata(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {
        name.decode("latin-1"): value.decode("utf-8", "replace")
        for name, value in headers
        if not name.endswith(b"-bin")
    }


async def _send_bad_request(send: Send) -> None:
    """To a client that can't read trailers no status of gRPC can be told."""
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": b"gRPC needs HTTP/2 and te: trailers"})


async def _send_error(send: Send, error: GrpcError) -> None:
    await send(_START)
    await send({"type": "http.response.body", "body": b""})
    await send(
        {
            "type": "http.response.trailers",
            "headers": [
                (b"grpc-status", str(int(error.status)).encode()),
                (b"grpc-message", percent_encode(error.message)),
            ],
        }
    )
