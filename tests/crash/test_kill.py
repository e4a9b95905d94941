"""kill -9 at 30 random moments under a mixed load loses nothing and doubles nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import free_port

ROOT = Path(__file__).parents[2]
ROUNDS = 30


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    python = ROOT / ".clients" / "2.6" / "bin" / "python"
    if not python.exists():
        pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
    port, health_port = free_port(), free_port()
    server = [
        *(sys.executable, "-m", "elanus.cli.main", "run", "standalone"),
        *("--data-dir", str(tmp_path / "data"), "--port", str(port)),
        *("--set", f"metrics.port={health_port}", "--set", "log.level=warning"),
        *("--set", "dataCoord.minSegmentNumRowsToEnableIndex=200"),
    ]
    run = subprocess.run(
        [
            *(python, Path(__file__).parent / "mixed_load.py", str(ROUNDS), "1"),
            *(str(port), str(health_port), *server),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=tmp_path,
        text=True,
        timeout=1_200,
    )
    print(run.stdout[-8_000:])
    assert run.returncode == 0
    assert f"round {ROUNDS - 1}:" in run.stdout
