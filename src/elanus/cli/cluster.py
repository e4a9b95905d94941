"""``elanus cluster``: a whole cluster on this machine, and commands to the one that runs."""

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from elanus.cli.serve import scheme_of, stop_on_signals
from elanus.config.settings import Settings
from elanus.errors import ElanusError, Unavailable
from elanus.observability.logs import configure_logs
from elanus.roles.cluster.foundation import Wanted, lay_foundation
from elanus.roles.cluster.peers import Peers
from elanus.roles.cluster.supervisor import READY, READY_CHECK_S, Supervisor, send_command
from elanus.roles.process import real_world
from elanus.roles.storage import open_meta
from elanus.roles.tls import internal_tls
from elanus.services.cluster.sessions import Membership

log = structlog.get_logger(__name__)


def cluster_settings(*, etcd: str, objects: str, wal: str, port: int) -> dict[str, Any]:
    """What every process of a cluster is told, from the command line's short forms."""
    kind, separator, address = wal.partition("://")
    settings: dict[str, Any] = {"mq.type": kind, "proxy.port": port, "proxy.reusePort": True}
    if etcd:
        settings |= {"metastore.type": "etcd", "etcd.endpoints": etcd}
    if objects:
        host, _, object_port = objects.removeprefix("http://").partition(":")
        settings |= {
            "common.storageType": "remote",
            "minio.address": host,
            "minio.port": int(object_port or 9_000),
        }
    if separator:
        settings["kafka.brokerList" if kind == "kafka" else "pulsar.address"] = (
            address if kind == "kafka" else wal
        )
    return settings


def certificate_settings(directory: Path) -> dict[str, Any]:
    """Has the roles speak TLS with the certificate that lies in a directory."""
    place = directory.absolute()
    return {
        "common.security.internaltlsEnabled": True,
        "internaltls.serverPemPath": str(place / "server.pem"),
        "internaltls.serverKeyPath": str(place / "server.key"),
        "internaltls.caPemPath": str(place / "ca.pem"),
    }


def run_cluster(
    load: Callable[[dict[str, Any]], Settings],
    given: Mapping[str, Any],
    directory: Path,
    counts: Mapping[str, int],
    config: Path | None,
    wanted: Wanted,
) -> int:
    """Serve until a signal or ``down``. ``given``, ``config``: what every process is told;
    ``load`` makes settings of it; ``wanted``: what has to be started before."""
    settings = load(dict(given))
    configure_logs(settings.log.level, settings.log.format)
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    try:
        asyncio.run(send_command(directory.absolute(), {"do": "status"}))
    except Unavailable:
        return uvloop.run(_run(load, given, directory.absolute(), counts, config, wanted))
    print(f"elanus: cannot start: a cluster runs in {directory} already", file=sys.stderr)
    return 1


async def _run(
    load: Callable[[dict[str, Any]], Settings],
    given: Mapping[str, Any],
    directory: Path,
    counts: Mapping[str, int],
    config: Path | None,
    wanted: Wanted,
) -> int:
    stop = stop_on_signals()
    settings = load(dict(given))
    world = real_world(settings.memory, lambda name, error: None)
    try:
        foundation = await lay_foundation(world, directory, wanted, settings)
    except ElanusError as error:
        print(f"elanus: cannot start: {error}", file=sys.stderr)
        return 1
    told = {**given, **foundation.settings}
    settings = load(dict(told))
    try:
        meta = await open_meta(world, settings)
    except ElanusError as error:
        print(f"elanus: cannot start: {error}", file=sys.stderr)
        await foundation.programs.stop()
        return 1
    membership = Membership(world, meta)
    await membership.start()
    try:
        files = internal_tls(settings)
        peers = Peers(None if files is None else files.client_context(), settings.internal_tls.sni)
    except ElanusError as error:
        print(f"elanus: cannot start: {error}", file=sys.stderr)
        await foundation.programs.stop()
        return 1
    supervisor = Supervisor(
        world,
        membership,
        directory,
        told,
        config,
        peers,
        environment=foundation.environment,
        programs=foundation.programs,
        balancer=foundation.balancer,
    )
    await supervisor.start(counts)
    announcing = world.tasks.spawn("announce", _announce(supervisor, settings, counts))
    await _until_unwanted(stop, supervisor)
    announcing.cancel()
    log.info("stopping")
    await supervisor.stop()
    await meta.close()
    await foundation.programs.stop()
    await world.tasks.close()
    world.executor.close()
    log.info("stopped", pid=os.getpid())
    return 0


async def _until_unwanted(stop: asyncio.Event, supervisor: Supervisor) -> None:
    stopped = asyncio.create_task(supervisor.stopping.wait())
    signalled = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, signalled}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    signalled.cancel()


async def _announce(supervisor: Supervisor, settings: Settings, counts: Mapping[str, int]) -> None:
    """Say once that everything serves."""
    while True:
        states = [process["state"] for process in await supervisor.status()]
        ready = [state in READY for state in states]
        if len(ready) >= sum(counts.values()) and all(ready) and "leading" in states:
            break
        await asyncio.sleep(READY_CHECK_S * (0.5 + random.random()))
    is_balanced = any(process["role"] == "balancer" for process in await supervisor.status())
    how = "nginx spreads calls over the proxies"
    if not is_balanced:
        how = "the system spreads connections over the proxies, which share the port"
    print(
        f"The cluster is ready at {scheme_of(settings)}://{settings.proxy.host}:"
        f"{settings.proxy.port} "
        f"(gRPC and REST), {len(states)} processes; {how}; Ctrl-C stops it.",
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
