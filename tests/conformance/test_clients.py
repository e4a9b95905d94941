"""The conformance suite passes through unmodified clients, over both transports.

All run side by side, each against a server of its own: clients mostly wait, half a second at a
time, for indexes and loads that were ready long before.
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.server import FREE_FLUSHES, RunningServer

ROOT = Path(__file__).parents[2]
VERSIONS = ("2.6", "3.0")
TRANSPORTS = ("h2corn", "grpcio")


def client(version: str) -> Path:
    return ROOT / ".clients" / version / "bin" / "python"


def run_suite(version: str, transport: str, directory: Path) -> tuple[int, str]:
    """Its exit code, and what client and server had to say."""
    settings = {"proxy.transport": transport, **FREE_FLUSHES}
    options = ["-q", "-x", "--tb=short", "-p", "no:cacheprovider"]
    if transport == "grpcio":  # which has another port for REST
        options.append("--ignore=client/test_bulk_import.py")
    objects = directory / "data" / "objects"
    with RunningServer(directory / "data", settings) as server:
        run = subprocess.run(
            [client(version), "-m", "pytest", *options, "client"],
            cwd=Path(__file__).parent,
            env={**os.environ, "ELANUS_URI": server.uri, "ELANUS_OBJECTS": str(objects)},
            capture_output=True,
            text=True,
            timeout=1_200,
        )
        said = [run.stdout[-20_000:], run.stderr[-2_000:], server.log_tail()]
    return run.returncode, "\n".join(said)


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, str]]:
    """By the client's version and the transport."""
    which = [(v, transport) for v in VERSIONS if client(v).exists() for transport in TRANSPORTS]
    with ThreadPoolExecutor(max(1, len(which))) as pool:
        running = {
            each: pool.submit(run_suite, *each, tmp_path_factory.mktemp("conformance"))
            for each in which
        }
        return {each: run.result() for each, run in running.items()}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_pymilvus(
    version: str, transport: str, suites: dict[tuple[str, str], tuple[int, str]]
) -> None:
    if (version, transport) not in suites:
        pytest.skip(f"pymilvus {version} is not installed: run `make clients`")
    code, said = suites[version, transport]
    print(said)
    assert code == 0
