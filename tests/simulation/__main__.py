"""``python -m tests.simulation --seed N``: one seed with its trace; ``--seeds M``: many seeds."""

import argparse
import sys
import time

from tests.simulation.seeds import replay_command, run_seed, run_seeds
from tests.simulation.universe import DEFAULT_LIVES, Universe


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of them")
    parser.add_argument("--seeds", type=int, default=0, help="run so many seeds over 2 processes")
    parser.add_argument("--lives", type=int, default=DEFAULT_LIVES, help="lives with faults")
    parser.add_argument("--digest", action="store_true", help="print the trace's digest only")
    chosen = parser.parse_args()
    if chosen.seeds:
        return _many(chosen.seed, chosen.seeds, chosen.lives)
    if chosen.digest:
        outcome = run_seed(chosen.seed, chosen.lives)
        print(outcome.digest, outcome.failure)
        return int(bool(outcome.failure))
    universe = Universe(chosen.seed, chosen.lives, show=print)
    universe.run()
    print(f"seed {chosen.seed}: {universe.events} events, trace {universe.digest[:16]}")
    return 0


def _many(first: int, count: int, lives: int) -> int:
    started_s = time.monotonic()
    failed = [outcome for outcome in run_seeds(first, count, lives) if outcome.failure]
    for outcome in failed:
        print(f"seed {outcome.seed}: {outcome.failure}\n    {replay_command(outcome.seed, lives)}")
    seconds = time.monotonic() - started_s
    print(f"{count} seeds, {len(failed)} failed, {seconds:.0f} s")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
