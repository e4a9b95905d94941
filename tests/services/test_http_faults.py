"""The proxy forwards what it gets to the byte, and its faults are those that were asked for."""

import asyncio
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Iterator

import httpx
import obstore
import pytest
import uvicorn
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from tests.services.http_faults import HttpFaults
from tests.services.loop_thread import LoopThread
from tests.services.minio import MinioServer
from tests.services.ports import free_port

BIG = 5_000_000


class Upstream:
    """Tells what reached it."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        route = Route("/{path:path}", self.answer, methods=["GET", "HEAD", "PUT", "POST"])
        config = uvicorn.Config(
            Starlette(routes=[route]), http="h11", ws="none", lifespan="off", log_level="critical"
        )
        self._server = uvicorn.Server(config)
        self._thread = LoopThread("upstream")
        self._serving = asyncio.run_coroutine_threadsafe(
            self._server.serve(sockets=[self._socket]), self._thread.loop
        )

    async def answer(self, request: Request) -> JSONResponse | StreamingResponse:
        body = await request.body()
        target = request.scope["raw_path"] + b"?" + request.scope["query_string"]
        self.requests.append(f"{request.method} {request.url.path}")
        if request.url.path == "/big":
            return StreamingResponse(pieces())
        return JSONResponse(
            {
                "target": target.decode(),
                "headers": [[name.decode(), value.decode()] for name, value in request.headers.raw],
                "sha256": hashlib.sha256(body).hexdigest(),
            }
        )

    def close(self) -> None:
        self._server.should_exit = True
        self._serving.result(10)
        self._thread.close()
        self._socket.close()


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(BIG // 50_000):
        yield b"x" * 50_000


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[HttpFaults]:
    upstream.requests.clear()
    with HttpFaults(upstream.address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: HttpFaults) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.address, timeout=30, trust_env=False) as client:
        yield client


def test_target_and_headers_arrive_as_sent(proxy: HttpFaults, client: httpx.Client) -> None:
    target = "/a%2Fb/c%20d/%C3%A9+e?list-type=2&prefix=x%2Fy&empty="
    answer = client.put(target, headers={"Authorization": "AWS4 a=b", "x-amz-a": "1"}, content=b"c")
    seen = answer.json()
    assert seen["target"] == target
    headers = dict(seen["headers"])
    assert headers["host"] == proxy.endpoint
    assert headers["authorization"] == "AWS4 a=b"
    assert headers["x-amz-a"] == "1"
    assert headers["content-length"] == "1"


def test_bodies_stream_with_and_without_a_length(client: httpx.Client) -> None:
    body = os.urandom(BIG)
    parts = [body[start : start + 70_000] for start in range(0, BIG, 70_000)]
    expected = hashlib.sha256(body).hexdigest()
    assert client.put("/length", content=body).json()["sha256"] == expected
    chunked = client.put("/chunked", content=iter(parts)).json()
    assert chunked["sha256"] == expected
    assert dict(chunked["headers"])["transfer-encoding"] == "chunked"
    assert len(client.get("/big").content) == BIG


def test_head_has_no_body(client: httpx.Client) -> None:
    answer = client.head("/head")
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) > 0


def test_refused_requests_never_reach_the_server(
    upstream: Upstream, proxy: HttpFaults, client: httpx.Client
) -> None:
    proxy.refuse(1.0)
    assert client.put("/refused", content=b"x" * BIG).status_code == 503
    assert client.head("/refused").status_code == 503
    assert upstream.requests == []
    assert (proxy.refused, proxy.forwarded) == (2, 0)


def test_a_lost_reply_is_of_a_request_that_was_done(
    upstream: Upstream, proxy: HttpFaults, client: httpx.Client
) -> None:
    proxy.lose_replies(1.0, methods="PUT")
    assert client.put("/lost", content=b"x").status_code == 503
    assert client.get("/kept").status_code == 200
    assert upstream.requests == ["PUT /lost", "GET /kept"]
    assert proxy.replies_lost == 1


def test_a_fraction_hits_some_and_heal_ends_it(proxy: HttpFaults, client: httpx.Client) -> None:
    proxy.refuse(0.5)
    statuses = [client.get("/some").status_code for _ in range(100)]
    assert 20 < statuses.count(503) < 80
    assert statuses.count(503) + statuses.count(200) == 100
    proxy.heal()
    assert {client.get("/all").status_code for _ in range(20)} == {200}


def test_a_delay_outlasts_an_impatient_client(proxy: HttpFaults, client: httpx.Client) -> None:
    proxy.delay(2_000)
    with pytest.raises(httpx.ReadTimeout):
        client.get("/slow", timeout=0.3)
    proxy.heal()
    assert client.get("/fast").status_code == 200


def test_a_server_that_is_down_is_a_bad_gateway() -> None:
    with HttpFaults(f"http://127.0.0.1:{free_port()}") as proxy:
        assert httpx.get(proxy.address, trust_env=False).status_code == 502


def test_signatures_hold_and_retries_meet_lost_replies(minio: MinioServer) -> None:
    minio.make_bucket("faults")
    with HttpFaults(minio.address) as proxy:
        store = S3Store(
            "faults",
            endpoint=proxy.address,
            access_key_id=minio.access_key,
            secret_access_key=minio.secret_key,
            region=minio.region,
            client_options={"allow_http": True},
            retry_config={"max_retries": 3},
        )
        obstore.put(store, "a b/ü+.bin", b"x" * 12_000_000)
        assert bytes(obstore.get_range(store, "a b/ü+.bin", start=1, length=3)) == b"xxx"
        assert [item["path"] for item in obstore.list(store).collect()] == ["a b/ü+.bin"]
        proxy.lose_replies(1.0, methods="PUT")
        with pytest.raises(Exception, match="503"):
            obstore.put(store, "lost", b"first", mode="create")
        proxy.heal()
        with pytest.raises(AlreadyExistsError):
            obstore.put(store, "lost", b"second", mode="create")
        assert bytes(obstore.get(store, "lost").bytes()) == b"first"
