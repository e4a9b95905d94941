"""Running seeds, one or many."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from tests.simulation.universe import Universe

PROCESSES = 2


@dataclass(frozen=True)
class Outcome:
    """``failure`` is empty if all went well; ``digest``: of the trace; ``direct_searches``: those
    for which the query nodes were asked at once."""

    seed: int
    digest: str
    failure: str
    direct_searches: int = 0


def run_seed(seed: int, lives: int) -> Outcome:
    universe = Universe(seed, lives)
    try:
        universe.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed has found it
        return Outcome(seed, universe.digest, f"{type(error).__name__}: {error}"[:1_000])
    return Outcome(seed, universe.digest, "", universe.direct_searches)


def run_seeds(first: int, count: int, lives: int) -> Iterator[Outcome]:
    """In processes of their own, in order."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        yield from pool.map(partial(run_seed, lives=lives), range(first, first + count))


def replay_command(seed: int, lives: int) -> str:
    return f"make simulate SEED={seed} ARGS='--lives {lives}'"
