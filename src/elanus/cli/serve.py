"""Serving in the foreground: start, say where, wait for a signal, stop in order."""

import asyncio
import contextlib
import os
import signal
import sys
import time

import structlog
import uvloop

from elanus.config.settings import Settings
from elanus.errors import ElanusError
from elanus.observability.logs import configure_logs
from elanus.roles.process import give_memory_back_early, take_turns_quickly

log = structlog.get_logger(__name__)


def serve_standalone(settings: Settings, *, sample: bool) -> int:
    """Returns the exit code."""
    configure_logs(settings.log.level, settings.log.format)
    return uvloop.run(_serve_standalone(settings, sample))


def serve_role(settings: Settings, name: str) -> int:
    """One role of a cluster. Returns the exit code."""
    configure_logs(settings.log.level, settings.log.format)
    return uvloop.run(_serve_role(settings, name))


async def _serve_standalone(settings: Settings, sample: bool) -> int:
    from elanus.roles.standalone import Standalone

    stop = _stop_on_signals()
    started_s = time.monotonic()
    server = Standalone(settings)
    try:
        await server.start()
    except (ElanusError, OSError) as error:
        await server.stop()
        return _cannot_start(error)
    address = f"http://{settings.proxy.host}:{server.port}"
    log.info("ready", address=address, start_s=round(time.monotonic() - started_s, 2))
    print(
        f"Elanus is ready at {address} (gRPC and REST); Ctrl-C stops it.\n"
        f'  from pymilvus import MilvusClient; client = MilvusClient(uri="{address}")',
        flush=True,
    )
    demonstration = None
    if sample:
        demonstration = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "elanus.cli.main", "demo", "--if-empty", "--uri", address
        )
    await stop.wait()
    log.info("stopping")
    if demonstration is not None and demonstration.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            demonstration.terminate()
        await demonstration.wait()
    await server.stop()
    log.info("stopped", pid=os.getpid())
    return 0


async def _serve_role(settings: Settings, name: str) -> int:
    from elanus.roles.cluster.process import ClusterProcess, wait_for_end
    from elanus.roles.cluster.roles import ROLES

    give_memory_back_early()
    take_turns_quickly()
    stop = _stop_on_signals()
    while True:
        started_s = time.monotonic()
        process = ClusterProcess(settings, ROLES[name]())
        try:
            await process.start()
        except (ElanusError, OSError) as error:
            await process.stop()
            return _cannot_start(error)
        info = process.node.session.info
        log.info(
            "ready",
            role=name,
            node_id=info.node_id,
            address=info.address,
            start_s=round(time.monotonic() - started_s, 2),
        )
        lives_again = await wait_for_end(process, stop)
        if not lives_again:
            log.info("stopping", role=name)
            await process.hand_over(settings.cluster.drain_timeout)
        await process.stop()
        if not lives_again:
            log.info("stopped", role=name, pid=os.getpid())
            return 0
        log.warning("session lost, beginning anew", role=name)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _cannot_start(error: BaseException) -> int:
    print(f"elanus: cannot start: {error}", file=sys.stderr)
    return 1
