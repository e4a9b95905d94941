"""What the data node's child processes have in common: low priority, and no life without their
parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping

from elanus.errors import Unavailable

NICENESS = 10
_PR_SET_PDEATHSIG = 1


def describe_exit(code: int) -> str:
    """How a process ended, for messages."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


async def start_child(
    what: str,
    module: str,
    *arguments: object,
    max_line_bytes: int,
    environment: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """Run a module with pipes to and from it. ``what``: its name in messages. ``environment``: what
    the parent's doesn't say. Raises Unavailable."""
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=max_line_bytes,
            env={
                **(environment or {}),
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
        )
    except OSError as error:
        raise Unavailable(f"the {what} can't be started: {error}") from error


async def kill_child(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def die_with_parent() -> None:
    """Linux kills this process when its parent ends; elsewhere the closed pipe has to do."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
