"""The control plane at scale: the real coordinator over virtual nodes.

    python -m benchmarks.control_plane [--query-nodes 1000] [--collections 10000]
        [--segments 1000000] [--streaming-nodes 64] [--pchannels 256] [--cold]

Times are the processor's, so that what else the machine does hardly counts; *longest step* is the
longest time for which one callback, task step or garbage collection kept the event loop from
everything else. Calls to nodes cost nothing here: what is measured is deciding. The leader takes
over from one that has loaded everything; with ``--cold`` nothing is loaded yet.
"""

import argparse
import asyncio
import asyncio.events
import gc
import logging
import resource
import time
from collections.abc import Awaitable
from typing import Any

import structlog

from benchmarks.virtual_cluster import Scale, VirtualCluster
from elanus.coordinator.coordinator import Coordinator
from elanus.runtime.garbage import without_collections


class StepTimer:
    """Wraps the event loop's way to run a callback, to know the longest."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.longest_collection_s = 0.0
        self._collection_began_s = 0.0
        self.what = ""
        gc.callbacks.append(self._collecting)
        inner = asyncio.events.Handle._run

        def run(handle: Any) -> None:
            before_s = time.thread_time()
            inner(handle)
            spent_s = time.thread_time() - before_s
            if spent_s > self.longest_s:
                self.longest_s, self.what = spent_s, _name_of(handle)

        asyncio.events.Handle._run = run  # type: ignore[method-assign]

    def _collecting(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collection_began_s = time.thread_time()
        else:
            spent_s = time.thread_time() - self._collection_began_s
            self.longest_collection_s = max(self.longest_collection_s, spent_s)

    def reset(self) -> None:
        self.longest_s, self.longest_collection_s, self.what = 0.0, 0.0, ""


def _name_of(handle: Any) -> str:
    owner = getattr(handle._callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return owner.get_name()
    return str(getattr(handle._callback, "__qualname__", type(handle._callback).__name__))


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Report:
    def __init__(self, cluster: VirtualCluster, steps: StepTimer) -> None:
        self._cluster = cluster
        self._steps = steps

    async def measure(self, name: str, work: Awaitable[Any]) -> Any:
        self._steps.reset()
        self._cluster.calls.clear()
        before_s, wall_s = time.process_time(), time.perf_counter()
        result = await work
        spent_s, passed_s = time.process_time() - before_s, time.perf_counter() - wall_s
        calls = ", ".join(f"{n:,} {name}" for name, n in sorted(self._cluster.calls.items()))
        print(
            f"{name:<44} {spent_s:8.2f} s   longest step {self._steps.longest_s * 1e3:7.1f} ms "
            f"({self._steps.what}), garbage {self._steps.longest_collection_s * 1e3:.1f} ms   "
            f"wall {passed_s:.1f} s   {calls}",
            flush=True,
        )
        return result


async def begin(cluster: VirtualCluster, coordinator: Coordinator) -> None:
    with without_collections():
        await coordinator.start()
    await cluster.settle(coordinator)


async def wake_everything(cluster: VirtualCluster, coordinator: Coordinator) -> None:
    loads = coordinator._parts.loads
    loads._attention.wake(list(loads._loaded))
    await cluster.settle(coordinator)


async def change_query_nodes(cluster: VirtualCluster, coordinator: Coordinator) -> None:
    coordinator.query_nodes_changed()
    await cluster.settle(coordinator)


async def change_streaming_nodes(cluster: VirtualCluster, coordinator: Coordinator) -> None:
    alive = await cluster.streaming_nodes()
    coordinator.streaming_nodes_changed(alive, alive)
    await cluster.settle(coordinator)


async def run(scale: Scale, *, is_cold: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    steps = StepTimer()
    cluster = VirtualCluster(scale)
    report = Report(cluster, steps)
    await cluster.fill(is_held=not is_cold)
    print(scale, flush=True)
    gc.collect()
    gc.freeze()
    before_bytes = resident_bytes()
    leader = cluster.coordinator()
    with without_collections():
        await report.measure("a leader reads the metadata", leader.load_metadata())
    catalog_bytes = resident_bytes() - before_bytes
    name = "it has everything loaded" if is_cold else "it takes over what is loaded"
    await report.measure(name, begin(cluster, leader))
    all_bytes = resident_bytes() - before_bytes
    for name, spent in (("catalog", catalog_bytes), ("catalog and loads", all_bytes)):
        print(f"{name}: {spent >> 20} MiB, {spent / scale.segments:.0f} bytes per segment")
    await report.measure("a pass, nothing has changed", wake_everything(cluster, leader))
    cluster.lose_query_node()
    await report.measure("a query node is lost", change_query_nodes(cluster, leader))
    cluster.add_query_node()
    await report.measure("a query node is added", change_query_nodes(cluster, leader))
    held = cluster.held()
    print(f"segments of a query node: {min(held)} to {max(held)}, the new one {held[-1]}")
    cluster.lose_streaming_node()
    await report.measure("a streaming node is lost", change_streaming_nodes(cluster, leader))
    await cluster.retire(leader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--query-nodes", type=int, default=1_000)
    parser.add_argument("--streaming-nodes", type=int, default=64)
    parser.add_argument("--pchannels", type=int, default=256)
    parser.add_argument("--collections", type=int, default=10_000)
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--cold", action="store_true")
    values = vars(parser.parse_args())
    asyncio.run(run(is_cold=values.pop("cold"), scale=Scale(**values)))


if __name__ == "__main__":
    main()
