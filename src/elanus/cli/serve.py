"""Serving in the foreground: start, say where, wait for a signal, stop in order."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from elanus.config.settings import Settings
from elanus.errors import ElanusError, Unavailable
from elanus.observability.logs import configure_logs
from elanus.roles.process import give_memory_back_early, take_turns_quickly
from elanus.runtime.garbage import without_collections

if TYPE_CHECKING:
    from elanus.roles.cluster.process import ClusterProcess

log = structlog.get_logger(__name__)

RETRY_S = 1.0
"""Between two attempts to come back of a process that has served before."""


def serve_standalone(settings: Settings, *, sample: bool) -> int:
    """Returns the exit code."""
    configure_logs(settings.log.level, settings.log.format)
    return uvloop.run(_serve_standalone(settings, sample))


def serve_role(settings: Settings, name: str) -> int:
    """One role of a cluster. Returns the exit code."""
    configure_logs(settings.log.level, settings.log.format)
    return uvloop.run(_serve_role(settings, name))


async def _serve_standalone(settings: Settings, sample: bool) -> int:
    with without_collections():
        from elanus.roles.standalone import Standalone

    stop = stop_on_signals()
    demonstration = None
    has_served = False
    while True:
        started_s = time.monotonic()
        server = Standalone(settings)
        starting = asyncio.create_task(server.start())
        try:
            await unless(stop, starting)
        except (ElanusError, OSError) as error:
            await server.stop()
            if not (has_served and isinstance(error, Unavailable)):
                return _cannot_start(error)
            log.warning("not back yet", reason=error.message)
            await unless(stop, asyncio.create_task(asyncio.sleep(RETRY_S)))
            continue
        if not stop.is_set():
            address = f"{scheme_of(settings)}://{settings.proxy.host}:{server.port}"
            log.info("ready", address=address, start_s=round(time.monotonic() - started_s, 2))
            _say_ready(address)
            has_served = True
            if sample and settings.common.security.tls_mode:
                log.warning("no sample loaded, run `elanus demo` with a certificate it may trust")
            elif sample and demonstration is None:
                demonstration = await _demonstrate(address)
            await unless(stop, asyncio.create_task(server.lost.wait()))
        if not stop.is_set():
            log.warning("another process may have taken over, beginning anew")
            await server.stop()
            continue
        log.info("stopping")
        if demonstration is not None and demonstration.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                demonstration.terminate()
            await demonstration.wait()
        await server.stop()
        log.info("stopped", pid=os.getpid())
        return 0


async def unless(stop: asyncio.Event, task: asyncio.Task[Any]) -> None:
    """Wait for ``task``, or cancel it when ``stop`` is set. Raises what the task raises."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({stopped, task}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def scheme_of(settings: Settings) -> str:
    """Of the public port's address."""
    return "https" if settings.common.security.tls_mode else "http"


def _say_ready(address: str) -> None:
    print(
        f"Elanus is ready at {address} (gRPC and REST); Ctrl-C stops it.\n"
        f'  from pymilvus import MilvusClient; client = MilvusClient(uri="{address}")',
        flush=True,
    )


async def _demonstrate(address: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "elanus.cli.main", "demo", "--if-empty", "--uri", address
    )


async def _serve_role(settings: Settings, name: str) -> int:
    with without_collections():
        from elanus.roles.cluster.process import ClusterProcess
        from elanus.roles.cluster.roles import ROLES

    give_memory_back_early()
    take_turns_quickly()
    stop, hurry = stop_on_signals(), asyncio.Event()
    # SIGQUIT ends the role at once: there is nobody to hand over to.

    def end_at_once() -> None:
        hurry.set()
        stop.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, end_at_once)
    has_served = False
    while True:
        started_s = time.monotonic()
        process = ClusterProcess(settings, ROLES[name]())
        try:
            await unless(stop, asyncio.create_task(process.start()))
        except (ElanusError, OSError) as error:
            await process.stop()
            if not (has_served and isinstance(error, Unavailable)) or stop.is_set():
                return _cannot_start(error)
            log.warning("not back yet", reason=error.message)
            await unless(stop, asyncio.create_task(asyncio.sleep(RETRY_S)))
            continue
        if not process.serves:
            await process.stop()
            log.info("stopped while starting", role=name, pid=os.getpid())
            return 0
        has_served = True
        info = process.node.session.info
        log.info(
            "ready",
            role=name,
            node_id=info.node_id,
            address=info.address,
            start_s=round(time.monotonic() - started_s, 2),
        )
        await unless(stop, asyncio.create_task(process.ended()))
        lives_again = not stop.is_set()
        if not lives_again:
            log.info("stopping", role=name)
            await _hand_over(process, settings.cluster.drain_timeout, hurry)
        await process.stop()
        if not lives_again:
            log.info("stopped", role=name, pid=os.getpid())
            return 0
        log.warning("session lost, beginning anew", role=name)


async def _hand_over(process: "ClusterProcess", timeout_s: float, hurry: asyncio.Event) -> None:
    """Until it is done, the time is over, or there is a hurry."""
    handing_over = asyncio.create_task(process.hand_over(timeout_s))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({handing_over, hurried}, return_when=asyncio.FIRST_COMPLETED)
    for task in (handing_over, hurried):
        task.cancel()
    await asyncio.gather(handing_over, hurried, return_exceptions=True)


def stop_on_signals() -> asyncio.Event:
    """Set by SIGINT and SIGTERM from now on."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _cannot_start(error: BaseException) -> int:
    print(f"elanus: cannot start: {error}", file=sys.stderr)
    return 1
