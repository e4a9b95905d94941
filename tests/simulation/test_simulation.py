"""Two hundred worlds, each with its own mishaps; and the same seed is the same world."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.seeds import replay_command, run_seeds
from tests.simulation.universe import DEFAULT_LIVES

SEEDS = 200
ROOT = Path(__file__).parents[2]


def test_every_promise_holds_in_many_worlds() -> None:
    outcomes = list(run_seeds(0, SEEDS, DEFAULT_LIVES))
    failed = [outcome for outcome in outcomes if outcome.failure]
    report = [
        f"seed {each.seed}: {each.failure}\n  {replay_command(each.seed, DEFAULT_LIVES)}"
        for each in failed
    ]
    assert not failed, "\n".join(report)
    assert sum(outcome.direct_searches for outcome in outcomes) > SEEDS // 2


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--digest"],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT / "src")},
        )
        for hash_seed in ("1", "2")
    ]
    first, second = [process.communicate()[0] for process in processes]
    assert len(first.split()[0]) == 64
    assert first == second
