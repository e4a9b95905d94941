"""One address for gRPC and REST before several servers, by the real nginx as we configure it."""

import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.deploy.shipped import nginx_files
from tests.server import RunningServer
from tests.services.certificates import make_certificates
from tests.services.nginx import Nginx
from tests.services.packages import PROJECT

Own = Callable[..., Any]

PYMILVUS = PROJECT / ".clients" / "2.6" / "bin" / "python"
CALLERS = 4
CALLS_AWAITED = 20
TIMEOUT_S = 60.0
WORDS = 2_000

CLIENT = f"""
import sys
from pymilvus import MilvusClient

client = MilvusClient(sys.argv[1], **eval(sys.argv[2]))
name = sys.argv[3]
client.create_collection(name, dimension=64)
client.insert(name, [{{"id": i, "vector": [i / {WORDS}] * 64}} for i in range({WORDS})])
found = client.query(name, output_fields=["count(*)"], consistency_level="Strong")
assert found[0]["count(*)"] == {WORDS}, found
hits = client.search(name, [[1.0] * 64], limit=3, consistency_level="Strong")
assert len(hits[0]) == 3, hits
print("done")
"""


def configuration(variant: str, servers: list[RunningServer], *extra: tuple[str, str]) -> Any:
    return nginx_files(variant, [server.port for server in servers], *extra)


def run_client(uri: str, options: dict[str, Any], name: str) -> None:
    if not PYMILVUS.exists():
        pytest.skip("pymilvus is not installed: run `make clients`")
    result = subprocess.run(
        [str(PYMILVUS), "-c", CLIENT, uri, repr(options), name],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert result.stdout == "done\n", result.stderr


def list_collections(client: httpx.Client, **options: Any) -> dict[str, Any]:
    answer = client.post("/v2/vectordb/collections/list", json={}, **options)
    assert answer.status_code == 200, answer.status_code
    return dict(answer.json())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


@pytest.fixture
def absent(tmp_path: Path) -> RunningServer:
    """A server that isn't started."""
    return RunningServer(tmp_path / "absent")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[RunningServer]:
    """It shares nothing with the first, which a balancer can't see."""
    with RunningServer(tmp_path / "second") as server:
        yield server


def test_grpc_and_rest_on_one_port(
    own_service: Own, server: RunningServer, absent: RunningServer
) -> None:
    nginx = own_service(Nginx, files=configuration("elanus.conf", [absent, server]))
    run_client(nginx.address, {}, "words")
    with httpx.Client(base_url=nginx.address, timeout=TIMEOUT_S, trust_env=False) as client:
        assert "words" in list_collections(client)["data"]
        # Larger than nginx takes by default, and than its buffers: it is streamed through.
        rows = [{"id": i, "vector": [0.5] * 64, "text": "x" * 20_000} for i in range(500)]
        body = {"collectionName": "words", "data": rows}
        answer = client.post("/v2/vectordb/entities/upsert", json=body).json()
        assert answer["code"] == 0, answer


def test_tls(
    own_service: Own, server: RunningServer, absent: RunningServer, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    files = configuration(
        "elanus-tls.conf",
        [absent, server],
        ("/etc/nginx/tls/tls.crt", str(certificates.server_certificate)),
        ("/etc/nginx/tls/tls.key", str(certificates.server_key)),
    )
    nginx = own_service(Nginx, files=files)
    uri = f"https://localhost:{nginx.ports['public']}"
    run_client(uri, {"secure": True, "server_pem_path": str(certificates.authority)}, "secret")
    context = certificates.client_context(with_certificate=False)
    with httpx.Client(base_url=uri, verify=context, timeout=TIMEOUT_S, trust_env=False) as client:
        assert "secret" in list_collections(client)["data"]


def test_a_killed_server_costs_its_open_calls_only(
    own_service: Own, server: RunningServer, second: RunningServer
) -> None:
    nginx = own_service(Nginx, files=configuration("elanus.conf", [server, second]))
    callers = [
        *(_Caller(_rest_calls(nginx.address)) for _ in range(CALLERS)),
        *(_Caller(_grpc_calls(nginx.address)) for _ in range(CALLERS)),
    ]
    for caller in callers:
        caller.start()
    try:
        _wait_for_calls(callers)
        second.kill()
        _wait_for_calls(callers)
        second.start()
        _wait(lambda: _requests(second) > 0)
    finally:
        for caller in callers:
            caller.stopping = True
        for caller in callers:
            caller.join(TIMEOUT_S)
    # A caller has one call open at a time, and never repeats one.
    assert [caller.failures for caller in callers if caller.failures > 1] == []


def _rest_calls(address: str) -> Generator[bool, None, None]:
    """Whether each call succeeded."""
    with httpx.Client(base_url=address, timeout=TIMEOUT_S, trust_env=False) as client:
        while True:
            yield client.post("/v2/vectordb/collections/list", json={}).status_code == 200


def _grpc_calls(address: str) -> Generator[bool, None, None]:
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address.removeprefix("http://"), options) as channel:
        call = channel.unary_unary("/milvus.proto.milvus.MilvusService/ShowCollections")
        while True:
            try:
                call(b"", timeout=TIMEOUT_S)
                yield True
            except grpc.RpcError:
                yield False


class _Caller(threading.Thread):
    def __init__(self, outcomes: Generator[bool, None, None]) -> None:
        super().__init__(daemon=True)
        self._outcomes = outcomes
        self.calls = self.failures = 0
        self.stopping = False

    def run(self) -> None:
        for succeeded in self._outcomes:
            self.failures += not succeeded
            self.calls += 1
            if self.stopping:
                break
        self._outcomes.close()


def _wait_for_calls(callers: list[_Caller]) -> None:
    """All have called a few times more."""
    goals = [caller.calls + CALLS_AWAITED for caller in callers]
    _wait(lambda: all(c.calls >= goal for c, goal in zip(callers, goals, strict=True)))


def _requests(server: RunningServer) -> float:
    """Requests that the server has answered since its start."""
    url = f"http://127.0.0.1:{server.management_port}/metrics"
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        lines = client.get(url).text.splitlines()
    counts = [line for line in lines if line.startswith("milvus_proxy_req_count_total")]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "not within the time limit"
        time.sleep(0.05)
