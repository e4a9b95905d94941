"""Servers that go on after the command that started them, for work by hand.

Each has the folder ``.services/run/<name>``: its data, its log, and ``state.json`` with the ports
and the process. A process is known by its id together with the moment of its start, so that an id
that the kernel has given to somebody else is not taken for it.
"""

import json
import os
import signal
import time
from pathlib import Path

from tests.services.base import POLL_INTERVAL_S, Service
from tests.services.packages import SERVICES as SERVICES_DIRECTORY


def _started_ticks(pid: int) -> int | None:
    """When the process started, in the kernel's ticks; none if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class Background:
    """One server in the background."""

    def __init__(self, kind: type[Service]) -> None:
        self.kind = kind
        self.directory = SERVICES_DIRECTORY / "run" / kind.name
        self._file = self.directory / "state.json"

    @property
    def pid(self) -> int | None:
        state = self._state()
        pid = state.get("pid")
        return pid if pid is not None and _started_ticks(pid) == state["started"] else None

    @property
    def service(self) -> Service:
        """The server as configured; its ports are those of the last time."""
        return self.kind(self.directory, ports=self._state().get("ports"), owned=False)

    def start(self) -> None:
        if self.pid is not None:
            return
        service = self.service.start()
        pid = service.pid
        state = {"pid": pid, "started": _started_ticks(pid), "ports": service.ports}
        self._file.write_text(json.dumps(state))

    def stop(self) -> None:
        """End it with SIGTERM, or SIGKILL if that doesn't end it in time."""
        deadline = time.monotonic() + self.kind.stop_timeout_s
        if self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)
        while (pid := self.pid) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_INTERVAL_S)

    def _state(self) -> dict:
        return json.loads(self._file.read_text()) if self._file.exists() else {}
