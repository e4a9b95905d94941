"""Calls over one HTTP/2 connection, against the real server: large, many, and badly ended ones."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import grpc
import hpack
import pytest

from elanus.errors import DeadlineExceeded, InternalError, NotServed, Unavailable
from elanus.runtime.executor import ThreadExecutor
from elanus.services.rpc.client import Peer
from elanus.transport.base import (
    HEALTH_CHECK_METHOD,
    SERVING,
    GrpcError,
    GrpcStatus,
    TransportOptions,
    TransportServer,
    no_rest,
)
from elanus.transport.h2corn_server import H2cornServer
from elanus.transport.http2 import frames
from elanus.transport.http2.connection import MAX_MESSAGE_BYTES
from elanus.transport.http2.server import MAX_STREAMS_PER_CONNECTION, Http2Server

PATIENCE_S = 60.0
OPTIONS = TransportOptions(
    port=0, max_receive_bytes=MAX_MESSAGE_BYTES, max_send_bytes=MAX_MESSAGE_BYTES
)
ECHO, WAIT, LARGE = "/t/echo", "/t/wait", "/t/large"
REFUSE, UNKNOWN = "/t/refuse", "/t/unknown"


class Handler:
    """Answers with what it was sent, or waits until ``opened``."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.running = 0
        self.cancelled = 0

    async def __call__(
        self, method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
    ) -> bytes:
        if method == LARGE:
            return bytes(int(body))
        if method == REFUSE:
            raise GrpcError(GrpcStatus.PERMISSION_DENIED, "nicht für alle: 100 %")
        if method == UNKNOWN:
            raise GrpcError(GrpcStatus.UNIMPLEMENTED, "what?")
        if method == WAIT:
            self.running += 1
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            finally:
                self.running -= 1
        return body


@pytest.fixture
def handler() -> Handler:
    return Handler()


Serve = Callable[[Handler, TransportOptions], TransportServer]


@pytest.fixture(params=["ours", "h2corn"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Ours; and the server that processes of former versions have."""
    if request.param == "ours":
        yield Http2Server
        return
    executor = ThreadExecutor(cores=1)
    yield lambda handler, options: H2cornServer(handler, no_rest, options, executor)
    executor.close()


@pytest.fixture
async def server(handler: Handler, serve: Serve) -> AsyncIterator[TransportServer]:
    server = serve(handler, OPTIONS)
    await server.start()
    yield server
    handler.opened.set()
    await server.stop(1.0)


@pytest.fixture
async def peer(server: TransportServer) -> AsyncIterator[Peer]:
    peer = Peer("{}:{}".format(*server.address))
    yield peer
    await peer.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 100_000, 20_000_000])
async def test_messages_of_any_size_come_whole(peer: Peer, size: int) -> None:
    message = bytes(n % 251 for n in range(251)) * (size // 251 + 1)
    assert await peer.call(ECHO, message[:size], 30.0) == message[:size]


async def test_large_messages_share_the_connection(peer: Peer) -> None:
    messages = [bytes([n]) * 3_000_000 for n in range(8)]
    assert await asyncio.gather(*(peer.call(ECHO, m, 30.0) for m in messages)) == messages
    assert len(await peer.call(LARGE, b"9000000", 30.0)) == 9_000_000


async def test_calls_beyond_the_limit_of_the_peer_wait_their_turn(
    peer: Peer, handler: Handler
) -> None:
    count = MAX_STREAMS_PER_CONNECTION + 50
    calls = [asyncio.create_task(peer.call(WAIT, str(n).encode(), 60.0)) for n in range(count)]
    await until(lambda: handler.running == MAX_STREAMS_PER_CONNECTION)
    for call in calls[:10] + calls[-10:]:
        call.cancel()
    handler.opened.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(answer, asyncio.CancelledError) for answer in answers) == 20
    assert answers[10:-10] == [str(n).encode() for n in range(10, count - 10)]
    assert await peer.call(ECHO, b"after", 30.0) == b"after"


async def test_all_that_wait_go_on_when_the_peer_allows_more_calls() -> None:
    """Before its settings have come a peer is taken to allow 100."""
    begun, settled = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun
        await reader.readexactly(len(frames.PREFACE))
        while True:
            head = await reader.readexactly(frames.FRAME_HEAD_BYTES)
            high, low, kind, _, _ = frames.FRAME_HEAD.unpack(head)
            await reader.readexactly(high << 8 | low)
            begun += kind == frames.HEADERS
            if begun == 100 and not settled.is_set():
                settled.set()
                more = frames.SETTING.pack(frames.MAX_STREAMS, 300)
                writer.write(frames.frame(frames.SETTINGS, 0, 0, more))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        peer = Peer("{}:{}".format(*server.sockets[0].getsockname()))
        calls = [asyncio.create_task(peer.call(WAIT, b"", 60.0)) for _ in range(310)]
        await until(lambda: begun == 300)
        await peer.close()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, Unavailable) for answer in answers)


async def test_a_time_limit_ends_the_call_at_both_ends(peer: Peer, handler: Handler) -> None:
    with pytest.raises(DeadlineExceeded):
        await peer.call(WAIT, b"", 0.05)
    await until(lambda: handler.cancelled == 1)
    assert await peer.call(ECHO, b"after", 30.0) == b"after"


async def test_a_status_is_told_with_its_message(peer: Peer) -> None:
    with pytest.raises(InternalError, match=r"nicht für alle: 100 % .gRPC status 7"):
        await peer.call(REFUSE, b"", 30.0)


async def test_a_method_that_an_older_process_does_not_know_is_not_served(peer: Peer) -> None:
    with pytest.raises(NotServed):
        await peer.call(UNKNOWN, b"", 30.0)


async def test_a_stopped_server_is_not_served_and_a_new_one_is_found(
    handler: Handler, serve: Serve
) -> None:
    server = serve(handler, TransportOptions(port=0))
    await server.start()
    host, port = server.address
    peer = Peer(f"{host}:{port}")
    assert await peer.call(ECHO, b"1", 30.0) == b"1"
    await server.stop(1.0)
    with pytest.raises(Unavailable):
        await peer.call(ECHO, b"2", 30.0)
    again = serve(handler, TransportOptions(host=host, port=port))
    await again.start()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                assert await peer.call(ECHO, b"3", 30.0) == b"3"
                break
            except NotServed:
                await asyncio.sleep(0.02)
    await peer.close()
    await again.stop(1.0)


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\x00\x04\x08\x00\x00\x00\x00\x00", b""]
)
async def test_a_peer_that_speaks_something_else_is_unavailable(words: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(words)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        peer = Peer(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Unavailable):
            await peer.call(ECHO, b"", 30.0)
        await peer.close()


# --- our server and others' clients ---------------------------------------------------------------


@pytest.fixture
async def ours(handler: Handler) -> AsyncIterator[Http2Server]:
    server = Http2Server(handler, TransportOptions(port=0, max_receive_bytes=1 << 22))
    await server.start()
    yield server
    handler.opened.set()
    await server.stop(1.0)


@pytest.fixture
async def channel(ours: Http2Server) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel("{}:{}".format(*ours.address)) as channel:
        yield channel


async def test_any_client_of_grpc_can_call(channel: grpc.aio.Channel, handler: Handler) -> None:
    message = bytes(range(256)) * 12_000
    assert await channel.unary_unary(ECHO)(message, timeout=30) == message
    with pytest.raises(grpc.aio.AioRpcError, match="nicht für alle: 100 %"):
        await channel.unary_unary(REFUSE)(b"")
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await channel.unary_unary(WAIT)(b"", timeout=0.05)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: handler.cancelled == 1)
    assert await channel.unary_unary(HEALTH_CHECK_METHOD)(b"") == SERVING


async def test_a_message_over_the_limit_is_refused(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as refused:
        await channel.unary_unary(ECHO)(bytes((1 << 22) + 1))
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await channel.unary_unary(ECHO)(b"after") == b"after"


async def test_a_compressed_message_is_refused(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary(ECHO)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(bytes(10_000), compression=grpc.Compression.Gzip)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_other_requests_of_http_2_are_unsupported(ours: Http2Server) -> None:
    reader, writer = await asyncio.open_connection(*ours.address)
    headers = hpack.Encoder().encode(
        [(":method", "POST"), (":scheme", "http"), (":path", ECHO), ("content-type", "text/plain")]
    )
    flags = frames.END_HEADERS | frames.END_STREAM
    writer.write(frames.PREFACE + frames.frame(frames.HEADERS, flags, 1, headers))
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readuntil(b"415")
    writer.close()


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.PREFACE[:-1] + b"!",
        frames.PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        frames.PREFACE + frames.frame(frames.CONTINUATION, 4, 1, b"\x83"),
        frames.PREFACE + frames.frame(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),
    ],
)
async def test_whoever_speaks_something_else_is_shown_out(
    ours: Http2Server, channel: grpc.aio.Channel, words: bytes
) -> None:
    reader, writer = await asyncio.open_connection(*ours.address)
    writer.write(words)
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(PATIENCE_S):
            while await reader.read(65_536):
                pass  # our settings, then the end
    writer.close()
    assert await channel.unary_unary(ECHO)(b"others") == b"others"


async def test_a_stopping_server_ends_its_calls_in_time_or_tells_them(handler: Handler) -> None:
    server = Http2Server(handler, OPTIONS)
    await server.start()
    peer = Peer("{}:{}".format(*server.address))
    in_time = asyncio.create_task(peer.call(WAIT, b"in time", 30.0))
    await until(lambda: handler.running == 1)
    stopping = asyncio.create_task(server.stop(PATIENCE_S))
    await asyncio.sleep(0)
    handler.opened.set()
    assert await in_time == b"in time"
    await stopping

    handler.opened.clear()
    again = Http2Server(handler, OPTIONS)
    await again.start()
    other = Peer("{}:{}".format(*again.address))
    late = asyncio.create_task(other.call(WAIT, b"", 30.0))
    await until(lambda: handler.running == 1)
    await again.stop(0.0)
    with pytest.raises(Unavailable, match="stopping"):
        await late
    assert handler.cancelled == 1
    await peer.close()
    await other.close()


async def test_a_client_that_goes_cancels_its_calls(ours: Http2Server, handler: Handler) -> None:
    peer = Peer("{}:{}".format(*ours.address))
    call = asyncio.create_task(peer.call(WAIT, b"", 30.0))
    await until(lambda: handler.running == 1)
    await peer.close()
    with pytest.raises(Unavailable):
        await call
    await until(lambda: handler.cancelled == 1)
