"""``elanus cluster``: a whole cluster on this machine, and commands to the one that runs."""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from elanus.cli.serve import stop_on_signals
from elanus.config.settings import Settings
from elanus.errors import ElanusError
from elanus.observability.logs import configure_logs
from elanus.roles.cluster.supervisor import Supervisor, send_command
from elanus.roles.process import real_world
from elanus.roles.storage import open_meta
from elanus.services.cluster.sessions import Membership

log = structlog.get_logger(__name__)

READY_CHECK_S = 0.2


def cluster_settings(*, etcd: str, objects: str, wal: str, port: int) -> dict[str, Any]:
    """What every process of a cluster is told, from the command line's short forms."""
    host, _, object_port = objects.removeprefix("http://").partition(":")
    kind, separator, address = wal.partition("://")
    settings: dict[str, Any] = {
        "metastore.type": "etcd",
        "etcd.endpoints": etcd,
        "common.storageType": "remote",
        "minio.address": host,
        "minio.port": int(object_port or 9_000),
        "mq.type": kind,
        "proxy.port": port,
        "proxy.reusePort": True,
    }
    if separator:
        settings["kafka.brokerList" if kind == "kafka" else "pulsar.address"] = (
            address if kind == "kafka" else wal
        )
    return settings


def run_cluster(
    settings: Settings,
    given: Mapping[str, Any],
    directory: Path,
    counts: Mapping[str, int],
    config: Path | None,
) -> int:
    """Serve until a signal or ``down``. ``given``, ``config``: what every process is told."""
    configure_logs(settings.log.level, settings.log.format)
    directory.mkdir(parents=True, exist_ok=True)
    return uvloop.run(_run(settings, given, directory.absolute(), counts, config))


async def _run(
    settings: Settings,
    given: Mapping[str, Any],
    directory: Path,
    counts: Mapping[str, int],
    config: Path | None,
) -> int:
    stop = stop_on_signals()
    world = real_world(settings.memory, lambda name, error: None)
    try:
        meta = await open_meta(world, settings)
    except ElanusError as error:
        print(f"elanus: cannot start: {error}")
        return 1
    membership = Membership(world, meta)
    await membership.start()
    supervisor = Supervisor(world, membership, directory, given, config)
    await supervisor.start(counts)
    announcing = world.tasks.spawn("announce", _announce(supervisor, settings, counts))
    stopped = asyncio.create_task(supervisor.stopping.wait())
    signalled = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, signalled}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    signalled.cancel()
    announcing.cancel()
    log.info("stopping")
    await supervisor.stop()
    await world.tasks.close()
    await meta.close()
    world.executor.close()
    log.info("stopped", pid=os.getpid())
    return 0


async def _announce(supervisor: Supervisor, settings: Settings, counts: Mapping[str, int]) -> None:
    """Say once that everything serves."""
    while True:
        states = [process["state"] for process in await supervisor.status()]
        ready = [state in ("serving", "standby", "leading") for state in states]
        if len(ready) >= sum(counts.values()) and all(ready) and "leading" in states:
            break
        await asyncio.sleep(READY_CHECK_S * (0.5 + random.random()))
    print(
        f"The cluster is ready at http://{settings.proxy.host}:{settings.proxy.port} "
        f"(gRPC and REST), {len(states)} processes; Ctrl-C stops it.",
        flush=True,
    )


def command(directory: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Raises ElanusError."""
    return asyncio.run(send_command(directory.absolute(), request))


def show_cluster(directory: Path, *, as_json: bool) -> None:
    """Raises ElanusError."""
    answer = command(directory, {"do": "status"})
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    table = Table("name", "pid", "node", "state", "term", "address", "owns")
    for process in answer["processes"]:
        owns = process.get("owns", [])
        shown = ", ".join(owns[:3]) + (f" and {len(owns) - 3} more" if len(owns) > 3 else "")
        table.add_row(
            process["name"],
            str(process["pid"] or ""),
            str(process.get("node_id", "")),
            process["state"],
            str(process.get("term") or ""),
            process.get("address", ""),
            shown,
        )
    Console().print(table)
