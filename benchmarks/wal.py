"""Write-ahead logs beside the plainest way to make the same bytes durable, in the same run.

    python -m benchmarks.wal [BACKEND ...] [--cases 1x1000,64x1000] [--seconds 3] [--directory DIR]

Starts the real servers that it needs (see ``make services-install``). For each backend and batch
(records x bytes, one append): latency of an append, throughput of one appender and of 16 side by
side, requests to the object store per 1,000 appends, replay. *Bare* is the same without Elanus: the
same batches through the bare client, or into a bare file. Log and bare take turns, so that what
else the machine does hits both; a ratio is the median of the turns' ratios.

``woodpecker-minio@5`` lets an append wait 5 ms for others (segmentSyncPolicy.maxInterval). A new
backend is one more class in wal_backends.BACKENDS.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
from tests.worlds import running_world

from benchmarks.wal_backends import BACKENDS, CHANNEL, SIDE_BY_SIDE, Backend
from elanus.observability.logs import configure_logs

DEFAULT = [
    "local",
    "woodpecker-local",
    "woodpecker-minio",
    "woodpecker-minio@5",
    "woodpecker-minio@20",
    "kafka",
    "pulsar",
]
TURNS = 30
WARM_UP_WAVES = 5

Wave = Callable[[int], Awaitable[object]]
"""Makes so many batches durable, side by side."""


@dataclass
class Figures:
    """Of the log and of bare, turn by turn. ``requests``: per append."""

    width: int
    waves_s: list[float] = field(default_factory=list)
    bare_waves_s: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    bare_rates: list[float] = field(default_factory=list)
    requests: float | None = None

    def describe(self) -> str:
        waves_ms = sorted(1e3 * each for each in self.waves_s)
        rates = zip(self.rates, self.bare_rates, strict=True)
        requests = "-" if self.requests is None else f"{self.requests * 1e3:,.0f}"
        return (
            f"{statistics.median(waves_ms):>8.2f} {waves_ms[int(len(waves_ms) * 0.99)]:>8.2f} "
            f"{1e3 * statistics.median(self.bare_waves_s):>8.2f} "
            f"{statistics.median(self.rates):>9,.0f} {statistics.median(self.bare_rates):>9,.0f} "
            f"{statistics.median(ours / bare for ours, bare in rates):>6.0%} {requests:>8}"
        )


async def run_for(seconds: float, wave: Wave, width: int, times_s: list[float]) -> float:
    """Wave after wave; batches per second."""
    started_s = now_s = time.perf_counter()
    waves = 0
    while now_s < started_s + seconds:
        await wave(width)
        begun_s, now_s = now_s, time.perf_counter()
        times_s.append(now_s - begun_s)
        waves += 1
    return waves * width / (now_s - started_s)


async def compare(backend: Backend, ours: Wave, bare: Wave, width: int, seconds: float) -> Figures:
    for _ in range(WARM_UP_WAVES):
        await bare(width)
        await ours(width)
    figures = Figures(width)
    before = backend.requests()
    for _ in range(TURNS):
        rate = await run_for(seconds / TURNS, bare, width, figures.bare_waves_s)
        figures.bare_rates.append(rate)
        figures.rates.append(await run_for(seconds / TURNS, ours, width, figures.waves_s))
    after = backend.requests()
    if before is not None and after is not None:
        figures.requests = (after - before) / (len(figures.waves_s) * width)
    return figures


async def wait_for(written: "asyncio.Future[None]") -> None:
    """An appender of its own, as each of those beside the log is one."""
    await written


async def measure(title: str, backend: Backend, records: list[bytes], seconds: float) -> None:
    wal = await backend.open()
    writer = await wal.open_writer(CHANNEL, 1)
    batch = [[record] for record in records]

    async def ours(width: int) -> None:
        if width == 1:
            await writer.append(batch)
        else:
            await asyncio.gather(*(writer.append(batch) for _ in range(width)))

    async def bare(width: int) -> None:
        if width == 1:
            await backend.write_bare(1, records)
        else:
            written = asyncio.ensure_future(backend.write_bare(width, records))
            await asyncio.gather(*(wait_for(written) for _ in range(width)))

    for width, share in ((1, 1.0), (SIDE_BY_SIDE, 0.5)):
        figures = await compare(backend, ours, bare, width, seconds * share)
        print(f"{title} {width:>3} {figures.describe()}   {backend.bare_name}", flush=True)
    started_s, size_bytes = time.perf_counter(), 0
    async for record in wal.read(CHANNEL):
        size_bytes += len(record.payload)
    read_s = time.perf_counter()
    bare_bytes = await backend.read_bare()
    rate = size_bytes / (read_s - started_s) / 1e6
    bare_rate = bare_bytes / (time.perf_counter() - read_s) / 1e6
    print(
        f"{title} replay {rate:,.0f} MB/s of {size_bytes / 1e6:,.0f} MB,"
        f" bare {bare_rate:,.0f} MB/s of {bare_bytes / 1e6:,.0f} MB",
        flush=True,
    )
    await wal.close()
    await backend.close()


async def measure_cases(
    name: str, cases: list[str], seconds: float, directory: Path | None
) -> None:
    kind, _, interval_ms = name.partition("@")
    make = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="elanus-wal-", dir=directory) as folder:
        server = None if make.server is None else make.server(Path(folder) / "server").start()
        try:
            for case in cases:
                count, _, size_bytes = case.partition("x")
                records = [random.Random(1).randbytes(int(size_bytes))] * int(count)
                async with running_world(cores=None, seed=None) as world:
                    place = Path(tempfile.mkdtemp(dir=folder))
                    backend = make(world, place, server, int(interval_ms or 0))
                    await measure(f"{name:<19} {case:>9}", backend, records, seconds)
        finally:
            if server is not None:
                server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("backends", nargs="*", default=DEFAULT, metavar="BACKEND")
    parser.add_argument("--cases", default="1x1000,64x1000,1x64000,1x1000000")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each way to write")
    parser.add_argument("--directory", type=Path, help="on the disk to be measured")
    chosen = parser.parse_args()
    configure_logs("warning", "text")
    print(
        f"{'log':<19} {'batch':>9} {'by':>3} {'p50 ms':>8} {'p99 ms':>8} {'bare p50':>8} "
        f"{'batch/s':>9} {'bare/s':>9} {'ratio':>6} {'req/1000':>8}   bare"
    )
    for name in chosen.backends:
        cases = chosen.cases.split(",")
        uvloop.run(measure_cases(name, cases, chosen.seconds, chosen.directory))
    sys.stdout.flush()
    os._exit(0)  # client libraries may abort when the interpreter ends


if __name__ == "__main__":
    main()
