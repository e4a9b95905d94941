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
from elanus.roles.standalone import Standalone

log = structlog.get_logger(__name__)


def serve_standalone(settings: Settings, *, sample: bool) -> int:
    """Returns the exit code."""
    configure_logs(settings.log.level, settings.log.format)
    return uvloop.run(_serve(settings, sample))


async def _serve(settings: Settings, sample: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    started_s = time.monotonic()
    server = Standalone(settings)
    try:
        await server.start()
    except (ElanusError, OSError) as error:
        await server.stop()
        print(f"elanus: cannot start: {error}", file=sys.stderr)
        return 1
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
