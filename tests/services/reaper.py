"""No server outlives the process that owns it, not even one that is killed.

A small process of its own reads which servers live from a pipe. When the pipe's other end is gone,
so is the owner, whatever ended it, and the servers that are left are killed.
"""

import subprocess
import sys
import threading

PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
alive = set()
for line in sys.stdin:
    sign, pid = line[0], int(line[1:])
    (alive.add if sign == "+" else alive.discard)(pid)
for pid in alive:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


class Reaper:
    """Kills what was told with ``born`` and not with ``dead`` when this process is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def born(self, pid: int) -> None:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAM],
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            self._tell(f"+{pid}")

    def dead(self, pid: int) -> None:
        with self._lock:
            if self._process is not None:
                self._tell(f"-{pid}")

    def close(self) -> None:
        """The owner is about to end in order: what still lives is killed now."""
        with self._lock:
            if self._process is not None:
                self._process.communicate()
                self._process = None

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


REAPER = Reaper()
