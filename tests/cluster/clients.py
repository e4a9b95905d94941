"""Scripts of this directory, run by an unmodified client."""

import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / ".clients" / "2.6" / "bin" / "python"


def run_client(script: str, *arguments: str) -> str:
    """Run a script of this directory with an unmodified client; what it printed."""
    if not CLIENT.exists():
        pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
    run = subprocess.run(
        [CLIENT, Path(__file__).parent / script, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, f"{run.stdout[-6_000:]}\n{run.stderr[-6_000:]}"
    return run.stdout
