"""Calls over one HTTP/2 connection, against the real server: large, many, and badly ended ones."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest

from elanus.errors import DeadlineExceeded, InternalError, NotServed, Unavailable
from elanus.runtime.executor import ThreadExecutor
from elanus.services.rpc.client import Peer
from elanus.transport.base import (
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
