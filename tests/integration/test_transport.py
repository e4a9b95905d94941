"""Both servers behind the transport seam, seen through a real gRPC client."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import httpx
import pytest

from elanus.runtime.executor import ThreadExecutor
from elanus.transport.base import (
    GrpcError,
    GrpcStatus,
    TransportOptions,
    TransportServer,
)
from elanus.transport.grpcio_server import GrpcioServer
from elanus.transport.h2corn_server import H2cornServer

LIMIT = 4 << 20


class Service:
    """What the tests call: echo, slow, fail, whoami."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def handle(
        self, method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
    ) -> bytes:
        match method:
            case "/test.Service/Echo":
                return body
            case "/test.Service/Metadata":
                return f"{metadata.get('dbname')} {deadline_s is not None}".encode()
            case "/test.Service/Slow":
                self.started.set()
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
                return b"done"
            case "/test.Service/Bug":
                raise ZeroDivisionError("secret")
        raise GrpcError(GrpcStatus.UNIMPLEMENTED, f"unknown method {method} – 100 %")


async def rest(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture(params=["h2corn", "grpcio"])
async def server(request: Any, service: Service) -> AsyncIterator[TransportServer]:
    options = TransportOptions(port=0, max_receive_bytes=LIMIT)
    executor = ThreadExecutor(cores=1)
    made: TransportServer
    if request.param == "h2corn":
        made = H2cornServer(service.handle, rest, options, executor)
    else:
        made = GrpcioServer(service.handle, rest, options)
    await made.start()
    yield made
    await made.stop(0.1)
    executor.close()


@pytest.fixture
async def channel(server: TransportServer) -> AsyncIterator[grpc.aio.Channel]:
    host, port = server.address
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as made:
        yield made


async def call(channel: grpc.aio.Channel, name: str, body: bytes = b"", **options: Any) -> bytes:
    return await channel.unary_unary(f"/test.Service/{name}")(body, **options)


async def failure(channel: grpc.aio.Channel, name: str, body: bytes = b"", **options: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(channel, name, body, **options)
    return caught.value


async def test_a_unary_call_gives_its_answer(channel: grpc.aio.Channel) -> None:
    assert await call(channel, "Echo", b"hello") == b"hello"
    assert await call(channel, "Echo", b"") == b""


async def test_a_message_of_3_mb_arrives_whole(channel: grpc.aio.Channel) -> None:
    body = bytes(range(256)) * (12 << 10)
    assert await call(channel, "Echo", body) == body


async def test_concurrent_calls_share_a_connection(channel: grpc.aio.Channel) -> None:
    bodies = [str(number).encode() for number in range(300)]
    assert await asyncio.gather(*(call(channel, "Echo", body) for body in bodies)) == bodies


async def test_metadata_and_deadline_reach_the_handler(channel: grpc.aio.Channel) -> None:
    metadata = (("dbname", "books"),)
    assert await call(channel, "Metadata", metadata=metadata) == b"books False"
    assert await call(channel, "Metadata", timeout=5) == b"None True"


async def test_a_gzip_request_is_unpacked(channel: grpc.aio.Channel) -> None:
    body = b"a" * 1_000_000
    assert await call(channel, "Echo", body, compression=grpc.Compression.Gzip) == body


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    error = await failure(channel, "Nothing")
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details() == "unknown method /test.Service/Nothing – 100 %"


async def test_a_bug_in_the_handler_is_unknown_without_its_text(channel: grpc.aio.Channel) -> None:
    error = await failure(channel, "Bug")
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert "secret" not in error.details()


async def test_a_message_over_the_limit_is_refused(channel: grpc.aio.Channel) -> None:
    error = await failure(channel, "Echo", bytes(LIMIT + 1))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(LIMIT) in error.details()
    assert await call(channel, "Echo", b"next") == b"next"


async def test_a_compressed_message_over_the_limit_is_refused(channel: grpc.aio.Channel) -> None:
    error = await failure(channel, "Echo", bytes(LIMIT * 8), compression=grpc.Compression.Gzip)
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_deadline_cancels_the_handler(
    channel: grpc.aio.Channel, service: Service
) -> None:
    error = await failure(channel, "Slow", timeout=0.3)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(service.cancelled.wait(), 5)


async def test_a_cancelled_call_cancels_the_handler(
    channel: grpc.aio.Channel, service: Service
) -> None:
    running = channel.unary_unary("/test.Service/Slow")(b"")
    waiting = asyncio.ensure_future(running)
    await asyncio.wait_for(service.started.wait(), 5)
    running.cancel()
    await asyncio.wait_for(service.cancelled.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_lost_connection_cancels_the_handler(
    server: TransportServer, service: Service
) -> None:
    host, port = server.address
    other = grpc.aio.insecure_channel(f"{host}:{port}")
    waiting = asyncio.ensure_future(other.unary_unary("/test.Service/Slow")(b""))
    await asyncio.wait_for(service.started.wait(), 5)
    await other.close()
    await asyncio.wait_for(service.cancelled.wait(), 5)
    await asyncio.gather(waiting, return_exceptions=True)


async def test_frequent_pings_on_an_idle_connection_are_allowed(server: TransportServer) -> None:
    host, port = server.address
    options = [
        ("grpc.keepalive_time_ms", 200),
        ("grpc.keepalive_timeout_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with grpc.aio.insecure_channel(f"{host}:{port}", options=options) as channel:
        assert await call(channel, "Echo", b"before") == b"before"
        lost = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
        done, _ = await asyncio.wait({lost}, timeout=3)  # 15 pings
        lost.cancel()
        assert not done, "the server closed a connection for its pings"
        assert await call(channel, "Echo", b"after") == b"after"


async def test_health_check_says_serving(channel: grpc.aio.Channel) -> None:
    check = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert await check(b"") == b"\x08\x01"


async def test_rest_is_served(server: TransportServer) -> None:
    host, port = server.rest_address
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{host}:{port}/v2/vectordb/x")
    assert (answer.status_code, answer.text) == (200, "/v2/vectordb/x")
    if isinstance(server, H2cornServer):
        assert server.rest_address == server.address


async def test_stop_lets_requests_in_flight_finish(
    server: TransportServer, channel: grpc.aio.Channel, service: Service
) -> None:
    waiting = asyncio.ensure_future(call(channel, "Slow"))
    await asyncio.wait_for(service.started.wait(), 5)
    stopping = asyncio.ensure_future(server.stop(10))
    await asyncio.sleep(0)
    service.release.set()
    assert await waiting == b"done"
    await asyncio.wait_for(stopping, 5)


async def test_stop_cancels_what_does_not_finish_in_the_grace_time(
    server: TransportServer, channel: grpc.aio.Channel, service: Service
) -> None:
    waiting = asyncio.ensure_future(call(channel, "Slow"))
    await asyncio.wait_for(service.started.wait(), 5)
    await asyncio.wait_for(server.stop(0.1), 5)
    assert service.cancelled.is_set()
    with pytest.raises(grpc.aio.AioRpcError):
        await waiting


async def test_a_taken_port_is_an_os_error(server: TransportServer, service: Service) -> None:
    options = TransportOptions(port=server.address[1])
    executor = ThreadExecutor(cores=1)
    second: TransportServer
    if isinstance(server, H2cornServer):
        second = H2cornServer(service.handle, rest, options, executor)
    else:
        second = GrpcioServer(service.handle, rest, options)
    with pytest.raises(OSError):
        await second.start()
    executor.close()
