"""Object stores against the bare client: what our layer costs.

    python -m benchmarks.objects [--minio] [--mb 64]

Each measurement is made by the client library alone and by our store, in turns in one process, and
the medians are compared. The server and this process share the machine's cores.
"""

import argparse
import asyncio
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from obstore.store import LocalStore

from elanus.config.storage import MinioSettings
from elanus.runtime.clock import SystemClock
from elanus.runtime.executor import ThreadExecutor
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.objects.backends import make_backends
from elanus.storage.objects.base import ObjectStore
from elanus.storage.objects.cached import CachedObjectStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.objects.remote import RemoteObjectStore

SMALL_BYTES = 4_096
ROUNDS = 200
PARALLEL = 16
LARGE_ROUNDS = 5

Action = Callable[[int], Awaitable[object]]


def make_world() -> World:
    return World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=ThreadExecutor(),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 34),
    )


async def compare(name: str, bare: Action, ours: Action, rounds: int, size_bytes: int) -> None:
    """Print both medians, and the throughput if it is about throughput."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for action, times in zip((bare, ours), taken, strict=True):
            started = time.perf_counter()
            await action(number)
            times.append(time.perf_counter() - started)
    medians = [statistics.median(times) for times in taken]
    p95 = [sorted(times)[int(len(times) * 0.95)] for times in taken]
    if size_bytes > SMALL_BYTES * PARALLEL:
        figures = [f"{size_bytes / median / 1e6:7.0f} MB/s" for median in medians]
    else:
        figures = [
            f"{m * 1e6:7.0f} (p95 {p * 1e6:.0f}) us" for m, p in zip(medians, p95, strict=True)
        ]
    ratio = medians[1] / medians[0]
    print(f"  {name:34} bare {figures[0]:>24}   ours {figures[1]:>24}   time x {ratio:.2f}")


async def measure(title: str, bare: Any, store: ObjectStore, megabytes: int) -> None:
    print(title)
    small, large = os.urandom(SMALL_BYTES), os.urandom(megabytes << 20)

    async def bare_get(key: str) -> bytes:
        return bytes(await (await bare.get_async(key)).bytes_async())

    async def many(action: Action, number: int) -> None:
        await asyncio.gather(*(action(number * PARALLEL + index) for index in range(PARALLEL)))

    def bare_put(n: int) -> Awaitable[object]:
        return bare.put_async(f"b/{n}", small, mode="create", use_multipart=False)

    def our_put(n: int) -> Awaitable[object]:
        return store.put(f"o/{n}", [small], create_only=True)

    await compare("create 4 kB", bare_put, our_put, ROUNDS, SMALL_BYTES)
    await compare(
        "get 4 kB", lambda n: bare_get(f"b/{n}"), lambda n: store.get(f"o/{n}"), ROUNDS, 0
    )
    await compare(
        "range of 1 kB",
        lambda n: bare.get_range_async(f"b/{n}", start=100, length=1_000),
        lambda n: store.get_range(f"o/{n}", 100, 1_000),
        ROUNDS,
        0,
    )
    await compare(
        f"{PARALLEL} creates of 4 kB at once",
        lambda n: many(bare_put, n + ROUNDS),
        lambda n: many(our_put, n + ROUNDS),
        ROUNDS // 10,
        0,
    )
    size_bytes = len(large)
    await compare(
        f"create {megabytes} MB",
        lambda n: bare.put_async(f"lb/{n}", large, mode="create", use_multipart=False),
        lambda n: store.put(f"lo/{n}", [large], create_only=True),
        LARGE_ROUNDS,
        size_bytes,
    )
    await compare(
        f"get {megabytes} MB",
        lambda n: bare_get(f"lb/{n}"),
        lambda n: store.get(f"lo/{n}"),
        LARGE_ROUNDS,
        size_bytes,
    )


async def measure_cache(store: ObjectStore, directory: Path, megabytes: int) -> None:
    cache = await CachedObjectStore.open(make_world(), store, directory / "cache", 4 << 30)
    started = time.perf_counter()
    await asyncio.gather(*(cache.fetch(f"lo/{number}") for number in range(LARGE_ROUNDS)))
    cold_s = time.perf_counter() - started
    rate = LARGE_ROUNDS * (megabytes << 20) / cold_s / 1e6
    started = time.perf_counter()
    for _ in range(ROUNDS):
        await cache.fetch("lo/0")
    warm_us = (time.perf_counter() - started) / ROUNDS * 1e6
    print(f"  cache: {LARGE_ROUNDS} files fetched at {rate:.0f} MB/s, a hit takes {warm_us:.0f} us")


async def run(with_minio: bool, megabytes: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="elanus-objects-"))
    try:
        (directory / "bare").mkdir()
        local = await LocalObjectStore.open(make_world(), LocalDisk(), directory / "ours")
        bare: Any = LocalStore(directory / "bare")
        await measure(
            "local (ours is durable, the bare client never syncs)", bare, local, megabytes
        )
        if with_minio:
            from tests.services.minio import MinioServer

            with MinioServer(directory / "minio") as server:
                host, _, port = server.endpoint.rpartition(":")
                settings = MinioSettings(
                    address=host,
                    port=int(port),
                    access_key_id=server.access_key,
                    secret_access_key=server.secret_key,
                    bucket_name="benchmark",
                )
                remote = await RemoteObjectStore.open(make_world(), settings)
                await measure("MinIO", make_backends(settings).single, remote, megabytes)
                await measure_cache(remote, directory, megabytes)
    finally:
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--minio", action="store_true", help="also a MinIO server, see tests/services"
    )
    parser.add_argument("--mb", type=int, default=64, help="size of a large object")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.minio, arguments.mb))
    sys.stdout.flush()
    os._exit(0)  # the client library may abort when the interpreter ends


if __name__ == "__main__":
    main()
