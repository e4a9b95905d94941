"""Gauges and counters that are read from the live roles when somebody scrapes the metrics."""

import resource

from elanus.access.dql.direct import DirectSearch
from elanus.observability.metrics import Metrics
from elanus.runtime.world import World
from elanus.storage.objects.base import ObjectStore
from elanus.storage.objects.copies import LocalCopies
from elanus.storage.objects.stats import ObjectStats
from elanus.storage.wal.base import Wal


def add_readings(metrics: Metrics, world: World) -> None:
    metrics.gauge(
        "elanus_memory_reserved_bytes",
        "Memory that is accounted for, by what it is used for.",
        "category",
        lambda: world.memory.used_by_category(),
    )
    metrics.gauge(
        "elanus_memory_limit_bytes",
        "Memory that may be used.",
        "process",
        lambda: {"standalone": world.memory.limit_bytes},
    )
    metrics.gauge(
        "elanus_max_resident_bytes",
        "Largest resident memory of the process so far.",
        "process",
        lambda: {"standalone": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
    )
    metrics.gauge(
        "elanus_background_task_failures",
        "Background tasks that failed, by name (the last 100).",
        "task",
        lambda: _failures(world),
    )


def add_storage_readings(metrics: Metrics, objects: ObjectStore, wal: Wal) -> None:
    """What the storage has cost so far; none where requests cost nothing."""
    stats = objects.request_stats
    metrics.counter(
        "elanus_object_requests",
        "Requests to the remote object store.",
        ["operation", "outcome"],
        lambda: {} if stats is None else dict(stats.requests.items()),
    )
    metrics.counter(
        "elanus_object_bytes",
        "Bytes of objects exchanged with the remote object store.",
        ["direction"],
        lambda: {} if stats is None else _exchanged(stats),
    )
    _add_cache_readings(metrics, objects.copies)
    metrics.counter(
        "elanus_wal_activity",
        "What a write-ahead log in objects has written and requested.",
        ["kind"],
        lambda: {(kind,): count for kind, count in wal.activity().counts.items()},
    )
    metrics.counter(
        "elanus_wal_bytes",
        "Bytes that a write-ahead log in objects has exchanged with them.",
        ["direction"],
        lambda: {(direction,): count for direction, count in wal.activity().size_bytes.items()},
    )


def _add_cache_readings(metrics: Metrics, copies: LocalCopies | None) -> None:
    metrics.counter(
        "elanus_object_cache_files",
        "Local copies of remote objects that came and went.",
        ["event"],
        lambda: {} if copies is None else _moved(copies.stats.fetched, copies.stats.evicted),
    )
    metrics.counter(
        "elanus_object_cache_moved_bytes",
        "Bytes of local copies of remote objects that came and went.",
        ["event"],
        lambda: (
            {} if copies is None else _moved(copies.stats.fetched_bytes, copies.stats.evicted_bytes)
        ),
    )
    metrics.gauge(
        "elanus_object_cache_bytes",
        "Local copies of remote objects: all, those of loaded segments, and their bound.",
        "kind",
        lambda: {} if copies is None else _sizes(copies),
    )


def _moved(fetched: int, evicted: int) -> dict[tuple[str, ...], int]:
    return {("fetched",): fetched, ("evicted",): evicted}


def _sizes(copies: LocalCopies) -> dict[str, float]:
    return {"used": copies.used_bytes, "loaded": copies.held_bytes, "limit": copies.max_bytes}


def add_search_readings(metrics: Metrics, direct: DirectSearch) -> None:
    metrics.counter(
        "elanus_direct_searches",
        "Searches of a shard for which the proxy asked the query nodes itself, by how it ended.",
        ["outcome"],
        lambda: {(outcome,): count for outcome, count in direct.counts.items()},
    )


def _exchanged(stats: ObjectStats) -> dict[tuple[str, ...], int]:
    return {("received",): stats.bytes_in, ("sent",): stats.bytes_out}


def _failures(world: World) -> dict[str, float]:
    counts: dict[str, float] = {}
    for name, _ in world.tasks.failures:
        counts[name] = counts.get(name, 0.0) + 1
    return counts
