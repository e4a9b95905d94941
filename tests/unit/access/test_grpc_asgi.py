"""The gRPC layer over ASGI: frames, encodings, timeouts and statuses, without a server."""

import asyncio
import gzip
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elanus.runtime.executor import ThreadExecutor
from elanus.transport.base import GrpcError, GrpcStatus
from elanus.transport.grpc_asgi import GrpcAsgi, gunzip, parse_timeout, percent_encode

LIMIT = 1_000


async def echo(
    method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
) -> bytes:
    return body


async def exchange(chunks: list[bytes], **headers: str) -> tuple[int, str, bytes]:
    """grpc-status, grpc-message and body of the answer to a request of these chunks."""
    events: list[dict[str, Any]] = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    events.append({"type": "http.request"})
    sent: list[Any] = []

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    executor = ThreadExecutor(cores=1)
    application = GrpcAsgi(echo, executor, max_receive_bytes=LIMIT, max_send_bytes=LIMIT)
    raw = [(b"te", b"trailers")]
    raw += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await application({"type": "http", "path": "/a.B/C", "headers": raw}, receive, send)
    executor.close()
    trailers = dict(sent[-1]["headers"])
    message = unquote(trailers.get(b"grpc-message", b"").decode())
    return int(trailers[b"grpc-status"]), message, sent[1]["body"]


async def test_a_call_that_is_cancelled_by_a_stopping_server_is_told() -> None:
    sent: list[Any] = []
    is_called = asyncio.Event()

    async def hang(*_: Any) -> bytes:
        is_called.set()
        await asyncio.Event().wait()
        return b""

    async def receive() -> Any:
        return {"type": "http.request", "body": frame(b"x")}

    async def send(event: Any) -> None:
        sent.append(event)

    executor = ThreadExecutor(cores=1)
    application = GrpcAsgi(hang, executor, max_receive_bytes=LIMIT, max_send_bytes=LIMIT)
    scope = {"type": "http", "path": "/a.B/C", "headers": [(b"te", b"trailers")]}
    for is_stopping in (False, True):
        is_called.clear()
        application.is_stopping = is_stopping
        call = asyncio.create_task(application(scope, receive, send))
        await is_called.wait()
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled() is not is_stopping
    executor.close()
    assert dict(sent[-1]["headers"])[b"grpc-status"] == b"14"


def frame(body: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return bytes([compressed]) + size.to_bytes(4, "big") + body


@given(st.binary(max_size=LIMIT), st.lists(st.integers(0, LIMIT + 5), max_size=5))
async def test_chunks_of_any_size_make_the_same_message(body: bytes, cuts: list[int]) -> None:
    data = frame(body)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(bounds)]
    assert await exchange(chunks) == (0, "", frame(body))


@pytest.mark.parametrize(
    ("data", "headers", "status", "text"),
    [
        (b"", {}, GrpcStatus.INTERNAL, "no complete message"),
        (b"\0\0\0", {}, GrpcStatus.INTERNAL, "no complete message"),
        (frame(b"abc", length=5), {}, GrpcStatus.INTERNAL, "should have 5 bytes, but 3 came"),
        (frame(b"abc", length=2), {}, GrpcStatus.INTERNAL, "should have 2 bytes, but 3 came"),
        (frame(b"", length=LIMIT + 1), {}, GrpcStatus.RESOURCE_EXHAUSTED, "(1001 vs. 1000)"),
        (frame(b"x", compressed=True), {}, GrpcStatus.UNIMPLEMENTED, "identity"),
        (
            frame(b"x", compressed=True),
            {"grpc_encoding": "snappy"},
            GrpcStatus.UNIMPLEMENTED,
            "snappy",
        ),
        (
            frame(b"nonsense", compressed=True),
            {"grpc_encoding": "gzip"},
            GrpcStatus.INTERNAL,
            "failed to decompress",
        ),
        (
            frame(gzip.compress(b"abc" * 100, mtime=0)[:-9], compressed=True),
            {"grpc_encoding": "gzip"},
            GrpcStatus.INTERNAL,
            "cut off",
        ),
        (frame(b"x"), {"grpc_timeout": "soon"}, GrpcStatus.INTERNAL, "grpc-timeout"),
    ],
)
async def test_a_bad_request_is_refused_with_its_cause(
    data: bytes, headers: dict[str, str], status: GrpcStatus, text: str
) -> None:
    found, message, body = await exchange([data], **headers)
    assert (found, body) == (status, b"")
    assert text in message


async def test_a_gzip_request_is_unpacked() -> None:
    packed = frame(gzip.compress(b"hello"), compressed=True)
    assert await exchange([packed], grpc_encoding="gzip") == (0, "", frame(b"hello"))


def test_unpacking_stops_at_the_limit() -> None:
    with pytest.raises(GrpcError, match=r"\(1001 vs. 1000\)") as caught:
        gunzip(gzip.compress(bytes(100_000_000), 9), 1_000)
    assert caught.value.status is GrpcStatus.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2H", 7200.0), ("3M", 180.0), ("4S", 4.0), ("5m", 0.005), ("6u", 6e-6), ("7n", 7e-9)],
)
def test_timeouts_are_read_in_every_unit(text: str, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@given(st.text())
def test_an_encoded_message_is_printable_and_decodes_to_itself(text: str) -> None:
    encoded = percent_encode(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert unquote(encoded.decode()) == text


async def test_a_client_without_trailers_is_told_in_http() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    async def send(event: Any) -> None:
        sent.append(event)

    executor = ThreadExecutor(cores=1)
    application = GrpcAsgi(echo, executor, max_receive_bytes=1, max_send_bytes=1)
    await application({"type": "http", "path": "/a.B/C", "headers": []}, receive, send)
    executor.close()
    assert sent[0]["status"] == 400
