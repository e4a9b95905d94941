"""What the data node's child processes have in common: low priority, and no life without their
parent."""

import contextlib
import ctypes
import os
import signal
import sys

NICENESS = 10
_PR_SET_PDEATHSIG = 1


def describe_exit(code: int) -> str:
    """How a process ended, for messages."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def die_with_parent() -> None:
    """Linux kills this process when its parent ends; elsewhere the closed pipe has to do."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
