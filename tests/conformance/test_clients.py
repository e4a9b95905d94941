"""The conformance suite passes through unmodified clients, over both transports."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.server import FREE_FLUSHES, RunningServer

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("transport", ["h2corn", "grpcio"])
@pytest.mark.parametrize("version", ["2.6", "3.0"])
def test_pymilvus(version: str, transport: str, tmp_path: Path) -> None:
    python = ROOT / ".clients" / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"pymilvus {version} is not installed: run `make clients`")
    settings = {"proxy.transport": transport, **FREE_FLUSHES}
    with RunningServer(tmp_path / "data", settings) as server:
        run = subprocess.run(
            [python, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider", "client"],
            cwd=Path(__file__).parent,
            env={**os.environ, "ELANUS_URI": server.uri},
            capture_output=True,
            text=True,
            timeout=900,
        )
        print(run.stdout[-20_000:], run.stderr[-2_000:], server.log_tail(), sep="\n")
    assert run.returncode == 0
