"""kill -9 at random moments under a mixed load loses nothing and doubles nothing, on any storage.

``CRASH_ROUNDS`` is the number of kills on remote storage (5 by default, for CI).
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from tests.backends import KAFKA, PULSAR, WOODPECKER, Combination, servers_of, settings_of
from tests.server import FREE_FLUSHES, free_port, plain_environment

ROOT = Path(__file__).parents[2]
ROUNDS = 30
REMOTE_ROUNDS = int(os.environ.get("CRASH_ROUNDS", "5"))


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, ROUNDS, {})


@pytest.mark.parametrize("combination", [WOODPECKER, KAFKA, PULSAR], ids=str)
def test_nothing_acknowledged_is_lost_on_remote_storage(
    combination: Combination, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    servers = servers_of(combination, request)
    settings = settings_of(combination, servers, f"crash{uuid4().hex[:8]}")
    kill_again_and_again(tmp_path, REMOTE_ROUNDS, settings)


def kill_again_and_again(directory: Path, rounds: int, settings: Mapping[str, object]) -> None:
    python = ROOT / ".clients" / "2.6" / "bin" / "python"
    if not python.exists():
        pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
    port, health_port = free_port(), free_port()
    settings = {
        "metrics.port": health_port,
        "log.level": "warning",
        "dataCoord.minSegmentNumRowsToEnableIndex": 200,
        **FREE_FLUSHES,
        **settings,
    }
    server = [
        *(sys.executable, "-m", "elanus.cli.main", "run", "standalone"),
        *("--data-dir", str(directory / "data"), "--port", str(port)),
        *(f"--set={key}={value}" for key, value in settings.items()),
    ]
    run = subprocess.run(
        [
            *(python, Path(__file__).parent / "mixed_load.py", str(rounds), "1"),
            *(str(port), str(health_port), *server),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=plain_environment(),
        text=True,
        timeout=1_200,
    )
    print(run.stdout[-8_000:])
    assert run.returncode == 0
    assert f"round {rounds - 1}:" in run.stdout
