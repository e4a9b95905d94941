"""Write-ahead logs beside the plainest way to make the same bytes durable, in the same run.

    python -m benchmarks.wal [local] [woodpecker-memory] [woodpecker-local] [--seconds 3]
                             [--sizes 1024,65536,1048576] [--directory DIR]

For each backend and size of a batch (one append of one record): latency of an append, throughput
one after another (as a pchannel appends) and by 16 side by side, requests to the object store per
1,000 appends, replay. *Baseline*: a local file, write and fdatasync; an object store, a plain put.
Backend and baseline take turns, so that what else the machine does hits both; the ratio is the
median of the turns' ratios. A new backend is one more class in BACKENDS.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from elanus.config.settings import WalSettings
from elanus.config.storage import WoodpeckerSettings
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.objects.base import ObjectStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.wal.base import Wal
from elanus.storage.wal.local import LocalWal
from elanus.storage.wal.woodpecker import WoodpeckerWal

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"
CHANNEL = "p"
TURNS = 10
SIDE_BY_SIDE = 16

Append = Callable[[bytes], Awaitable[object]]


class Backend(ABC):
    """A log, and the plainest way to write the same bytes to the same storage."""

    name: str
    baseline_name: str

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory

    @abstractmethod
    async def open(self) -> Wal: ...

    @abstractmethod
    async def baseline(self, payload: bytes) -> None:
        """Returns when ``payload`` is durable."""

    def requests(self) -> int | None:
        """To the object store, so far; None if there is none."""
        return None

    async def close(self) -> None:
        return None


class Local(Backend):
    name = "local"
    baseline_name = "write + fdatasync"
    _file = -1

    async def open(self) -> Wal:
        path = self.directory / "baseline"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return LocalWal(self.world, LocalDisk(), self.directory / "wal", WalSettings(), CLUSTER)

    async def baseline(self, payload: bytes) -> None:
        def write() -> None:
            os.write(self._file, payload)
            os.fdatasync(self._file)

        await self.world.executor.run("io", write)

    async def close(self) -> None:
        os.close(self._file)


class _Woodpecker(Backend):
    baseline_name = "put"
    _puts = 0

    @abstractmethod
    async def open_store(self) -> ObjectStore: ...

    async def open(self) -> Wal:
        self.store = await self.open_store()
        self.wal = WoodpeckerWal(self.world, self.store, WoodpeckerSettings(), CLUSTER)
        return self.wal

    async def baseline(self, payload: bytes) -> None:
        self._puts += 1
        await self.store.put(f"baseline/{self._puts}", [payload], create_only=True)

    def requests(self) -> int:
        return self.wal.counters.requests


class WoodpeckerOnMemory(_Woodpecker):
    name = "woodpecker-memory"

    async def open_store(self) -> ObjectStore:
        return MemoryObjectStore(self.world)


class WoodpeckerOnLocal(_Woodpecker):
    name = "woodpecker-local"

    async def open_store(self) -> ObjectStore:
        return await LocalObjectStore.open(self.world, LocalDisk(), self.directory / "objects")


BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (Local, WoodpeckerOnMemory, WoodpeckerOnLocal)
}


@dataclass
class Figures:
    """Of one way to write, over all turns."""

    latencies_s: list[float]
    rates: list[float]


async def run_for(seconds: float, append: Append, payload: bytes, tasks: int) -> Figures:
    """``tasks`` side by side, each one append after another; appends per second."""
    latencies: list[float] = []
    end_s = time.perf_counter() + seconds

    async def one() -> None:
        now_s = time.perf_counter()
        while now_s < end_s:
            await append(payload)
            begun_s, now_s = now_s, time.perf_counter()
            latencies.append(now_s - begun_s)

    started_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(tasks)))
    return Figures(latencies, [len(latencies) / (time.perf_counter() - started_s)])


async def measure(backend: Backend, size_bytes: int, seconds: float) -> str:
    payload = random.Random(1).randbytes(size_bytes)
    wal = await backend.open()
    writer = await wal.open_writer(CHANNEL, 1)

    async def append(payload: bytes) -> None:
        await writer.append([[payload]])

    turns = []
    before = backend.requests()
    appends = 0
    for _ in range(TURNS):
        plain = await run_for(seconds / TURNS, backend.baseline, payload, 1)
        ours = await run_for(seconds / TURNS, append, payload, 1)
        turns.append((plain, ours))
        appends += len(ours.latencies_s)
    together = await run_for(seconds / 2, append, payload, SIDE_BY_SIDE)
    appends += len(together.latencies_s)
    after = backend.requests()
    requests = "-" if before is None or after is None else f"{(after - before) / appends * 1e3:.0f}"
    replay = await replay_rate(wal)
    await wal.close()
    baseline = backend.baseline_name
    latencies_ms = sorted(1e3 * each for _, ours in turns for each in ours.latencies_s)
    p99_ms = latencies_ms[int(len(latencies_ms) * 0.99)]
    plain_ms = 1e3 * statistics.median(each for plain, _ in turns for each in plain.latencies_s)
    ratio = statistics.median(ours.rates[0] / plain.rates[0] for plain, ours in turns)
    rate = statistics.median(ours.rates[0] for _, ours in turns)
    return (
        f"{backend.name:<18} {size_bytes:>9,} "
        f"{statistics.median(latencies_ms):>8.3f} {p99_ms:>8.3f} "
        f"{plain_ms:>8.3f} {rate:>9,.0f} {rate * size_bytes / 1e6:>8.1f} {ratio:>6.0%} "
        f"{together.rates[0]:>10,.0f} {requests:>8} {replay / 1e6:>9,.0f}   {baseline}"
    )


async def replay_rate(wal: Wal) -> float:
    """Bytes per second."""
    started_s = time.perf_counter()
    size_bytes = 0
    async for record in wal.read(CHANNEL):
        size_bytes += len(record.payload)
    return size_bytes / (time.perf_counter() - started_s)


async def run(names: list[str], sizes: list[int], seconds: float, directory: Path | None) -> None:
    print(
        f"{'log':<18} {'batch B':>9} {'p50 ms':>8} {'p99 ms':>8} {'base p50':>8} {'append/s':>9} "
        f"{'MB/s':>8} {'ratio':>6} {'x16 app/s':>10} {'req/1000':>8} {'replay MB':>9}   baseline"
    )
    for name in names:
        for size_bytes in sizes:
            with tempfile.TemporaryDirectory(prefix="elanus-wal-", dir=directory) as place:
                world = World(
                    clock=SystemClock(),
                    random=random.Random(),
                    executor=ThreadExecutor(),
                    tasks=TaskSupervisor(),
                    failpoints=Failpoints(),
                    memory=MemoryLedger(1 << 30),
                )
                backend = BACKENDS[name](world, Path(place))
                print(await measure(backend, size_bytes, seconds), flush=True)
                await backend.close()
                await world.tasks.close()
                world.executor.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backends", nargs="*", default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--sizes", default="1024,65536,1048576", help="of a batch, bytes")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each way and size")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    chosen = parser.parse_args()
    sizes = [int(size) for size in chosen.sizes.split(",")]
    asyncio.run(run(chosen.backends, sizes, chosen.seconds, chosen.directory))


if __name__ == "__main__":
    main()
