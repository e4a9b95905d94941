"""Metadata: latency of a get, a put and a compared transaction, for each backend.

Run: ``python -m benchmarks.meta [--etcd 127.0.0.1:2379] [--directory DIR] [--repetitions 500]``.
With an etcd, ``etcd, bare`` is the same request over gRPC alone: what any client pays. Rounds of
the backends take turns, so that a busy machine troubles all alike; medians and 99th percentiles.
"""

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import grpc
import numpy as np
import uvloop
from tests.worlds import make_world

from elanus.config.storage import EtcdSettings
from elanus.storage.meta import _etcd_protocol as protocol
from elanus.storage.meta.base import Compare, MetaStore, Put
from elanus.storage.meta.etcd import EtcdMetaStore
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.meta.sqlite import SqliteMetaStore

VALUE = bytes(256)
ROUNDS = 10

Operations = dict[str, Callable[[], Awaitable[object]]]


def operations_of(store: MetaStore) -> Operations:
    revision = 0

    async def transact() -> None:
        nonlocal revision
        result = await store.transact(
            [Put("counter", VALUE), Put("beside", VALUE)], [Compare("counter", revision)]
        )
        assert result.succeeded
        revision = result.revision

    return {
        "put": lambda: store.put("key", VALUE),
        "get": lambda: store.get("key"),
        "transaction": transact,
    }


def bare_operations(channel: grpc.aio.Channel, prefix: str) -> Operations:
    def call(method: protocol.Method) -> Callable[..., Awaitable[object]]:
        return channel.unary_unary(
            method.path, lambda message: message.SerializeToString(), method.response.FromString
        )

    read, transact = call(protocol.RANGE), call(protocol.TRANSACTION)
    put = protocol.TxnRequest()
    put.success.add(request_put=protocol.PutRequest(key=f"{prefix}key".encode(), value=VALUE))
    two = protocol.TxnRequest()
    two.compare.add(key=f"{prefix}none".encode(), target=protocol.Compare.MOD, mod_revision=0)
    for name in ("counter", "beside"):
        key = f"{prefix}{name}".encode()
        two.success.add(request_put=protocol.PutRequest(key=key, value=VALUE))
    get = protocol.RangeRequest(key=f"{prefix}key".encode())
    return {
        "put": lambda: transact(put),
        "get": lambda: read(get),
        "transaction": lambda: transact(two),
    }


async def measure(backends: dict[str, Operations], repetitions: int) -> None:
    times_us: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for backend, operations in backends.items():
            for name, operation in operations.items():
                times = times_us.setdefault((backend, name), [])
                for _ in range(repetitions // ROUNDS):
                    start = time.perf_counter()
                    await operation()
                    times.append((time.perf_counter() - start) * 1e6)
    print(f"{'backend':<14}{'operation':<14}{'p50 us':>10}{'p99 us':>10}")
    for (backend, name), times in times_us.items():
        middle, high = np.percentile(times, [50, 99])
        print(f"{backend:<14}{name:<14}{middle:>10.0f}{high:>10.0f}")


async def run(endpoint: str | None, directory: Path, repetitions: int) -> None:
    world = make_world(cores=None)
    async with AsyncExitStack() as stack:
        stack.callback(world.executor.close)
        stores: dict[str, MetaStore] = {
            "memory": MemoryMetaStore(world),
            "sqlite": await SqliteMetaStore.open(world, directory / "meta.db"),
        }
        root_path = f"bench-{uuid4()}"
        if endpoint:
            settings = EtcdSettings(endpoints=endpoint, root_path=root_path)
            stores["etcd"] = await EtcdMetaStore.open(world, settings)
        for store in stores.values():
            stack.push_async_callback(store.close)
        backends = {name: operations_of(store) for name, store in stores.items()}
        if endpoint:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(endpoint))
            backends["etcd, bare"] = bare_operations(channel, f"{root_path}/bare/")
        await measure(backends, repetitions)


def main() -> None:
    parser = argparse.ArgumentParser(description="measure the metadata backends")
    parser.add_argument("--etcd", help="host:port of a running etcd")
    parser.add_argument("--directory", type=Path, help="where SQLite's file goes")
    parser.add_argument("--repetitions", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        uvloop.run(run(arguments.etcd, Path(directory), arguments.repetitions))


if __name__ == "__main__":
    main()
