"""A standalone whose public port speaks TLS, as unmodified clients see it."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.server import RunningServer, plain_environment
from tests.services.certificates import Certificates, make_certificates

ROOT = Path(__file__).parents[2]
SERVER, MUTUAL = 1, 2

PROGRAM = """
import json, sys
from pymilvus import MilvusClient, DataType
port, options = int(sys.argv[1]), json.loads(sys.argv[2])
client = MilvusClient(uri=f"https://localhost:{port}", timeout=10, **options)
client.drop_collection("things")
client.create_collection("things", dimension=4)
client.insert("things", [{"id": n, "vector": [n, 1, 2, 3]} for n in range(10)])
found = client.search(
    "things", data=[[7, 1, 2, 3]], limit=1, search_params={"metric_type": "COSINE"},
    consistency_level="Strong",
)
print(found[0][0]["id"])
"""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates") / "theirs")


def settings_for(certificates: Certificates, mode: int, transport: str) -> dict[str, object]:
    return {
        "proxy.transport": transport,
        "common.security.tlsMode": mode,
        "tls.serverPemPath": certificates.server_certificate,
        "tls.serverKeyPath": certificates.server_key,
        "tls.caPemPath": certificates.authority,
    }


def run_client(version: str, port: int, options: dict[str, Any]) -> subprocess.CompletedProcess:
    python = ROOT / ".clients" / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"pymilvus {version} is not installed: run `make clients`")
    return subprocess.run(
        [python, "-c", PROGRAM, str(port), json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("version", "transport"), [("2.6", "h2corn"), ("3.0", "h2corn"), ("3.0", "grpcio")]
)
def test_pymilvus_speaks_tls(
    version: str, transport: str, ours: Certificates, tmp_path: Path
) -> None:
    one_way = {"secure": True, "server_pem_path": str(ours.authority), "server_name": "localhost"}
    settings = settings_for(ours, SERVER, transport)
    with RunningServer(tmp_path / "data", settings) as server:
        run = run_client(version, server.port, one_way)
        assert run.stdout.split() == ["7"], run.stderr


@pytest.mark.parametrize(("version", "transport"), [("2.6", "grpcio"), ("3.0", "h2corn")])
def test_pymilvus_shows_its_certificate(
    version: str, transport: str, ours: Certificates, theirs: Certificates, tmp_path: Path
) -> None:
    def both_ways(shown: Certificates) -> dict[str, Any]:
        return {
            "secure": True,
            "ca_pem_path": str(ours.authority),
            "client_pem_path": str(shown.client_certificate),
            "client_key_path": str(shown.client_key),
            "server_name": "localhost",
        }

    settings = settings_for(ours, MUTUAL, transport)
    with RunningServer(tmp_path / "data", settings) as server:
        run = run_client(version, server.port, both_ways(ours))
        assert run.stdout.split() == ["7"], run.stderr
        refused = run_client(version, server.port, both_ways(theirs))
        assert refused.returncode != 0
        without = {"secure": True, "server_pem_path": str(ours.authority)}
        assert run_client(version, server.port, without).returncode != 0


def test_a_running_server_takes_up_a_renewed_certificate(
    ours: Certificates, theirs: Certificates, tmp_path: Path
) -> None:
    place = tmp_path / "certificates"
    place.mkdir()
    certificate, key = place / "server.pem", place / "server.key"

    def install(source: Certificates) -> None:
        certificate.write_bytes(source.server_certificate.read_bytes())
        key.write_bytes(source.server_key.read_bytes())

    def is_trusted_by(certificates: Certificates, port: int) -> bool:
        route = f"https://localhost:{port}/v2/vectordb/collections/list"
        try:
            answer = httpx.post(route, json={}, verify=certificates.client_context())
        except httpx.ConnectError:
            return False
        assert answer.json()["code"] == 0
        return True

    install(ours)
    settings = {
        **settings_for(ours, SERVER, "h2corn"),
        "tls.serverPemPath": certificate,
        "tls.serverKeyPath": key,
    }
    with RunningServer(tmp_path / "data", settings) as server:
        assert is_trusted_by(ours, server.port)
        assert not is_trusted_by(theirs, server.port)
        certificate.write_bytes(theirs.server_certificate.read_bytes())  # half of a renewal
        assert is_trusted_by(ours, server.port)
        install(theirs)
        deadline = time.monotonic() + 60
        while not is_trusted_by(theirs, server.port):
            assert time.monotonic() < deadline, server.log_tail()
            time.sleep(0.5)


def test_the_management_port_is_no_way_around_tls(ours: Certificates, tmp_path: Path) -> None:
    """It answers in clear text, but only on health and metrics."""
    program = """
import sys, grpc
method = "/milvus.proto.milvus.MilvusService/ShowCollections"
try:
    grpc.insecure_channel(sys.argv[1]).unary_unary(method)(b"", timeout=10)
except grpc.RpcError as error:
    print(error.code().name)
"""
    with RunningServer(tmp_path / "data", settings_for(ours, MUTUAL, "h2corn")) as server:
        run = subprocess.run(
            [sys.executable, "-c", program, f"127.0.0.1:{server.management_port}"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=plain_environment(),
        )
    assert run.stdout.strip() == "UNIMPLEMENTED"


def test_a_missing_certificate_is_told(ours: Certificates, tmp_path: Path) -> None:
    settings = {**settings_for(ours, SERVER, "h2corn"), "tls.serverPemPath": tmp_path / "no.pem"}
    server = RunningServer(tmp_path / "data", settings)
    server.start(wait=False)
    assert server.process is not None
    assert server.process.wait(60) == 1
    assert "elanus: cannot start: can't use the certificate of" in server.log_tail()
