"""TLS of both servers behind the transport seam, with real handshakes by gRPC, HTTP and ssl."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme
from tests.services.certificates import Certificates, make_certificates

from elanus.errors import Rejected
from elanus.roles.cluster.peers import Peers
from elanus.runtime.executor import ThreadExecutor
from elanus.transport.base import TransportOptions, TransportServer
from elanus.transport.grpcio_server import GrpcioServer
from elanus.transport.h2corn_server import H2cornServer
from elanus.transport.tls import TlsFiles

SERVER, MUTUAL = 1, 2
TRANSPORTS = ["h2corn", "grpcio"]


class Service:
    """Echoes; ``Slow`` waits until it is released."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()

    async def handle(
        self, method: str, metadata: Mapping[str, str], body: bytes, deadline_s: float | None
    ) -> bytes:
        if method.endswith("Slow"):
            self.started.set()
            await self.release.wait()
        return body


async def rest(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def ours(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "theirs")


def files_of(certificates: Certificates, mode: int) -> TlsFiles:
    authority = certificates.authority if mode == MUTUAL else None
    return TlsFiles(certificates.server_certificate, certificates.server_key, authority)


def make_server(
    transport: str, service: Service, files: TlsFiles, executor: ThreadExecutor
) -> TransportServer:
    options = TransportOptions(port=0, tls=files)
    if transport == "h2corn":
        return H2cornServer(service.handle, rest, options, executor)
    return GrpcioServer(service.handle, rest, options)


@pytest.fixture(params=[SERVER, MUTUAL], ids=["server", "mutual"])
def mode(request: Any) -> int:
    return int(request.param)


@pytest.fixture(params=TRANSPORTS)
async def server(
    request: Any, service: Service, ours: Certificates, mode: int
) -> AsyncIterator[TransportServer]:
    executor = ThreadExecutor(cores=1)
    made = make_server(request.param, service, files_of(ours, mode), executor)
    await made.start()
    yield made
    await made.stop(0.1)
    executor.close()


def channel_to(
    server: TransportServer, trusted: Certificates, shown: Certificates | None
) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        trusted.authority.read_bytes(),
        None if shown is None else shown.client_key.read_bytes(),
        None if shown is None else shown.client_certificate.read_bytes(),
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(f"localhost:{server.address[1]}", credentials, options)


async def echo(channel: grpc.aio.Channel, name: str = "Echo") -> bytes:
    return await channel.unary_unary(f"/test.Service/{name}")(b"hello", timeout=20)


async def refused(channel: grpc.aio.Channel) -> bool:
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(channel)
        return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def get(server: TransportServer, context: ssl.SSLContext) -> str:
    async with httpx.AsyncClient(verify=context, http2=False) as client:
        answer = await client.get(f"https://localhost:{server.rest_address[1]}/")
        return answer.text


async def serial_number(port: int, context: ssl.SSLContext) -> str:
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    shown = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return str(shown)


async def test_a_call_over_tls_is_answered(server: TransportServer, ours: Certificates) -> None:
    async with channel_to(server, ours, ours) as channel:
        assert await echo(channel) == b"hello"
    assert await get(server, ours.client_context(with_certificate=True)) == "https"


async def test_clear_text_is_refused(server: TransportServer) -> None:
    assert await refused(grpc.aio.insecure_channel(f"localhost:{server.address[1]}"))
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.TransportError):
            await client.get(f"http://localhost:{server.rest_address[1]}/")


async def test_a_client_that_trusts_another_authority_goes_away(
    server: TransportServer, ours: Certificates, theirs: Certificates
) -> None:
    assert await refused(channel_to(server, theirs, ours))
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        await get(server, theirs.client_context(with_certificate=True))


async def test_who_shows_no_certificate_gets_in_by_the_mode(
    server: TransportServer, ours: Certificates, mode: int
) -> None:
    if mode == SERVER:
        async with channel_to(server, ours, None) as channel:
            assert await echo(channel) == b"hello"
        assert await get(server, ours.client_context()) == "https"
    else:
        assert await refused(channel_to(server, ours, None))
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await get(server, ours.client_context())


@pytest.mark.parametrize("mode", [MUTUAL], indirect=True, ids=["mutual"])
async def test_a_certificate_of_another_authority_is_refused(
    server: TransportServer, ours: Certificates, theirs: Certificates
) -> None:
    assert await refused(channel_to(server, ours, theirs))
    context = ours.client_context()
    context.load_cert_chain(theirs.client_certificate, theirs.client_key)
    with pytest.raises((httpx.TransportError, ssl.SSLError)):
        await get(server, context)


async def test_a_renewed_certificate_is_shown_to_new_connections_without_losing_a_call(
    server: TransportServer, ours: Certificates, service: Service
) -> None:
    context = ours.client_context(with_certificate=True)
    ports = {server.address[1], server.rest_address[1]}
    before = {port: await serial_number(port, context) for port in ports}
    async with channel_to(server, ours, ours) as channel:
        slow = asyncio.create_task(echo(channel, "Slow"))
        await service.started.wait()
        renew(ours)
        await server.renew_certificate()
        context = ours.client_context(with_certificate=True)
        after = {port: await serial_number(port, context) for port in ports}
        assert all(after[port] != before[port] for port in ports)
        service.release.set()
        assert await slow == b"hello"


def renew(certificates: Certificates) -> None:
    """A new certificate of a new authority for the server, which trusts the old one too."""
    authority = trustme.CA()
    fresh = authority.issue_cert("localhost", "127.0.0.1")
    fresh.cert_chain_pems[0].write_to_path(certificates.server_certificate)
    fresh.private_key_pem.write_to_path(certificates.server_key)
    authority.cert_pem.write_to_path(certificates.authority, append=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_that_cannot_be_used_keeps_the_server_from_starting(
    transport: str, service: Service, ours: Certificates, theirs: Certificates, tmp_path: Path
) -> None:
    executor = ThreadExecutor(cores=1)
    wrong = [
        TlsFiles(tmp_path / "missing.pem", ours.server_key),
        TlsFiles(ours.server_certificate, theirs.server_key),
        TlsFiles(ours.server_certificate, ours.server_key, tmp_path / "missing.pem"),
    ]
    for files in wrong:
        server = make_server(transport, service, files, executor)
        with pytest.raises(Rejected, match="can't use the certificate of"):
            await server.start()
    executor.close()


async def test_roles_change_to_a_renewed_certificate_without_losing_a_call(
    service: Service, ours: Certificates
) -> None:
    executor = ThreadExecutor(cores=1)
    files = files_of(ours, MUTUAL)
    server = make_server("h2corn", service, files, executor)
    await server.start()
    host, port = server.address
    peers = Peers(files.client_context(), "localhost")
    slow = asyncio.create_task(peers.at(f"{host}:{port}").call("/test.Service/Slow", b"1", 20))
    await service.started.wait()
    renew(ours)
    await server.renew_certificate()
    peers.renew(files.client_context())
    assert await peers.at(f"{host}:{port}").call("/test.Service/Echo", b"2", 20) == b"2"
    service.release.set()
    assert await slow == b"1"
    await peers.close()
    await server.stop(1)
    executor.close()
