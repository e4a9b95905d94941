"""Gauges that are read from the live roles when somebody scrapes the metrics."""

import resource

from elanus.observability.metrics import Metrics
from elanus.runtime.world import World


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


def _failures(world: World) -> dict[str, float]:
    counts: dict[str, float] = {}
    for name, _ in world.tasks.failures:
        counts[name] = counts.get(name, 0.0) + 1
    return counts
