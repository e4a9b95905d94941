"""What growing rows cost a search, and what inserting costs the server.

    python -m benchmarks.growing [--beside PYTHON] [--rows 50000] [--repeat] [--delete]

A server with sealed, indexed rows is searched by four clients: without growing rows, while 2,000
rows a second are inserted, and by the number of rows that grow, which are other words than the
sealed ones (``--repeat``: the same as a fifth of these, over and over). ``--delete``: ten of them
have been deleted. Figures are the server's processor time, so that what else the machine does
counts less. ``--beside`` names the interpreter of another installation of Elanus: both servers run
and are searched by turns of less than a second, so that a machine that is slower for a while is so
for both.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.compare.__main__ import CLIENTS, RESULTS, Client, answers_of, go, release
from benchmarks.compare.data import CACHE, QUERIES, buckets, words
from benchmarks.compare.servers import ElanusServer

EF = 128
RATE = 2_000
GROWING = (2_000, 10_000, 40_000)
"""By default."""
TURN_S = 0.7
FIRST_ID = 1_000_000
REPEATED_PART = 5
DELETED_ROWS = 10
EF_CONSTRUCTION = 60
"""The graph is built fast: searches of it are not what is measured."""


def prepare(rows: int, *, repeat: bool) -> Path:
    """As ``prepare`` of compare, without truths, and with rows that are to grow."""
    path = CACHE / f"growing-{rows}{'-repeated' if repeat else ''}.npz"
    if not path.exists():
        everything = np.random.default_rng(7).permutation(words())
        queries, stored, growing = np.split(everything, [QUERIES, QUERIES + rows])
        if repeat:
            growing = stored[: rows // REPEATED_PART]
        np.savez(path, rows=stored, queries=queries, bucket=buckets(rows), growing=growing)
    return path


class Subject:
    """One server, and what was measured of it."""

    def __init__(self, name: str, port: int, python: str | None, data: Path) -> None:
        self.server = ElanusServer(RESULTS / "growing" / name)
        self.server.port = port
        if python is not None:
            self.server.python = python
        self.name = name
        self.client = Client(self.server, data)
        self.growing = 0

    def start(self, *, delete: bool) -> None:
        self.server.remove_data()
        self.server.start()
        self.client.run("load", efConstruction=EF_CONSTRUCTION)
        if delete:
            # Inserts rows, and deletes them.
            self.client.run("strong", ef=EF, rounds=DELETED_ROWS)

    def stop(self) -> None:
        if self.server.pid and self.server.processes():
            self.server.kill()
        self.server.remove_data()

    def grow(self, rows: int) -> None:
        """Have so many growing rows at least."""
        if rows > self.growing:
            self._insert(rows - self.growing, 1.0)

    def _insert(self, rows: int, seconds: float) -> None:
        with self.client.started("light_inserting", **self._inserting(rows, seconds)) as writer:
            go([writer])

    def _inserting(self, rows: int, seconds: float) -> dict[str, object]:
        first_id = FIRST_ID + self.growing
        self.growing += rows
        return {"rate": int(rows / seconds), "seconds": seconds - 0.05, "first_id": first_id}

    def insert(self, seconds: float) -> None:
        """Prints what inserting alone costs."""
        cpu_s = self.server.cpu_s()
        self._insert(int(RATE * seconds), seconds)
        spent_ms = (self.server.cpu_s() - cpu_s) * 1e3
        print(f"{self.name:8} inserting alone: {spent_ms / seconds:6.1f} ms/s", flush=True)


def measure(subjects: Sequence[Subject], growing: Sequence[int], seconds: float) -> None:
    search(subjects, seconds, inserting=False)
    for rows in growing:
        for subject in subjects:
            subject.grow(rows)
        search(subjects, seconds, inserting=False)
        search(subjects, seconds, inserting=True)
    for subject in subjects:
        subject.insert(seconds)


def search(subjects: Sequence[Subject], seconds: float, *, inserting: bool) -> None:
    """Prints what a search costs each of them, searched for ``seconds`` in all, by turns."""
    first, before = subjects[0], subjects[0].growing
    turns = max(1, round(seconds / TURN_S))
    options = {
        "addresses": [f"127.0.0.1:{subject.server.port}" for subject in subjects],
        "turn_s": TURN_S,
        "turns": turns,
    }
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                first.client.started("light_alternating", ef=EF, offset=number * 250, **options)
            )
            for number in range(CLIENTS)
        ]
        if inserting:
            inserts = {"rate": RATE, "first_id": 10 * FIRST_ID + before * len(subjects), **options}
            command = "light_alternating_inserting"
            workers.append(stack.enter_context(first.client.started(command, **inserts)))
        cpu_s = [0.0] * len(subjects)
        release(workers)
        started = time.monotonic()
        for number in range(turns * len(subjects)):
            server = subjects[number % len(subjects)].server
            spent_s = server.cpu_s()
            time.sleep(max(0.0, started + (number + 1) * TURN_S - time.monotonic()))
            cpu_s[number % len(subjects)] += server.cpu_s() - spent_s
        answers = answers_of(workers)[:CLIENTS]
    what = f"{before} rows growing" + (", inserting" if inserting else "")
    for number, subject in enumerate(subjects):
        searches = sum(answer["searches"][number] for answer in answers)
        print(
            f"{subject.name:8} {what:32} {searches / (turns * TURN_S):6.0f} QPS "
            f"{cpu_s[number] * 1e3 / searches:6.3f} ms of the server a search",
            flush=True,
        )
        if inserting:
            subject.growing += int(turns * TURN_S * RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", help="the interpreter of another installation")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--growing", type=int, nargs="+", default=GROWING)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each figure")
    parser.add_argument("--repeat", action="store_true", help="sealed rows again and again")
    parser.add_argument("--delete", action="store_true", help="and a few deleted rows")
    arguments = parser.parse_args()
    data = prepare(arguments.rows, repeat=arguments.repeat).resolve()
    subjects = [Subject("this", 19640, None, data)]
    if arguments.beside:
        subjects.append(Subject("other", 19650, arguments.beside, data))
    try:
        for subject in subjects:
            subject.start(delete=arguments.delete)
        measure(subjects, arguments.growing, arguments.seconds)
    finally:
        for subject in subjects:
            subject.stop()


if __name__ == "__main__":
    main()
