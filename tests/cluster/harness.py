"""A real cluster for tests: ``elanus cluster up`` on a free port, ended with all its processes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from elanus.errors import ElanusError
from elanus.roles.cluster.supervisor import send_command
from tests.backends import Combination, settings_of
from tests.server import free_port
from tests.services.ports import can_bind
from tests.services.ports import free_port as services_port
from tests.services.reaper import REAPER

START_TIMEOUT_S = 120.0
CHANGE_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0
POLL_S = 0.2
LOG_TAIL_BYTES = 5_000

READY = {"serving", "standby", "leading"}
PAIRS = {"proxy": 2, "coordinator": 2, "streaming": 2, "query": 2, "data": 2}

SINGLES = dict.fromkeys(PAIRS, 1)
OPTIONS = {
    "proxy": "--proxies",
    "coordinator": "--coordinators",
    "streaming": "--streaming",
    "query": "--query",
    "data": "--data",
}
Processes = list[dict[str, Any]]


def adjoining_ports(number: int) -> list[int]:
    """Free ports, one after the other, as proxies that don't share one have them."""
    while True:
        first = services_port()
        ports = list(range(first, first + number))
        if all(map(can_bind, ports)):
            return ports


class RunningCluster:
    """A context manager. ``counts``: processes by role; ``settings``: given to every one of them;
    ``options``: more words for ``elanus cluster up``.

    Processes have the supervisor's names: ``proxy-1``, ``streaming-2``.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, object],
        counts: Mapping[str, int] = PAIRS,
        environment: Mapping[str, str] | None = None,
        port: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.counts = dict(counts)
        self._settings = dict(settings)
        self._environment = dict(environment or {})
        self._options = list(options)
        self._log = directory.parent / f"{directory.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def objects_url(self) -> str:
        """Of the directory of its objects, with the credentials."""
        names = ("accessKeyID", "secretAccessKey", "address", "port", "bucketName", "rootPath")
        key, secret, host, port, bucket, root = (self._settings[f"minio.{name}"] for name in names)
        return f"http://{key}:{secret}@{host}:{port}/{bucket}/{root}"

    @property
    def settings(self) -> dict[str, object]:
        """Those that every process is given."""
        return dict(self._settings)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        words = [word for role, n in self.counts.items() for word in (OPTIONS[role], str(n))]
        words += self._options
        words += [f"--set={key}={value}" for key, value in self._settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "elanus.cli.main", "cluster", "up"),
                    *("--data-dir", str(self.directory), "--port", str(self.port), *words),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self._environment},
            )
        REAPER.born(self._process.pid)
        self.wait_until_ready(START_TIMEOUT_S)

    # --- what it is told ------------------------------------------------------------------------

    def status(self) -> Processes:
        """The supervisor's words on each process."""
        return list(self._command({"do": "status"})["processes"])

    def kill(self, name: str) -> int:
        """kill -9; the supervisor starts it again. Its process id."""
        return int(self._command({"do": "kill", "name": name})["pid"])

    def add(self, role: str) -> str:
        """One more process of a role; its name."""
        return str(self._command({"do": "add", "role": role})["name"])

    def restart(self, name: str) -> None:
        """Have it hand over what it owns and end; returns when it serves again."""
        self._command({"do": "restart", "name": name})

    def drain(self, name: str) -> None:
        """Have it hand over what it owns and end; returns when it has ended."""
        self._command({"do": "drain", "name": name})

    def pause(self, name: str) -> int:
        """SIGSTOP; its process id, for ``resume``."""
        pid = int(self.process(name)["pid"])
        os.kill(pid, signal.SIGSTOP)
        return pid

    @staticmethod
    def resume(pid: int) -> None:
        os.kill(pid, signal.SIGCONT)

    # --- what it does ---------------------------------------------------------------------------

    def process(self, name: str) -> dict[str, Any]:
        return next(each for each in self.status() if each["name"] == name)

    def of_role(self, role: str) -> Processes:
        return [each for each in self.status() if each["role"] == role]

    def leader(self) -> str:
        """The name of the active coordinator."""
        self.wait_for("a leader", lambda all_: any(p["state"] == "leading" for p in all_))
        return next(str(p["name"]) for p in self.status() if p["state"] == "leading")

    def wait_until_ready(self, timeout_s: float = CHANGE_TIMEOUT_S) -> Processes:
        """Every process serves, and one coordinator leads."""
        return self.wait_for(
            "all processes ready",
            lambda all_: (
                len(all_) > 0
                and all(p["state"] in READY for p in all_)
                and sum(p["state"] == "leading" for p in all_) == 1
            ),
            timeout_s,
        )

    def wait_for(
        self,
        what: str,
        is_so: Callable[[Processes], bool],
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> Processes:
        """The first status of which ``is_so`` is true."""
        deadline = time.monotonic() + timeout_s
        processes: Processes = []
        while True:
            try:
                processes = self.status()
            except ElanusError:
                assert self._process is not None
                assert self._process.poll() is None, f"the cluster ended\n{self.logs()}"
            else:
                if is_so(processes):
                    return processes
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {timeout_s:.0f} s: {what}, but {processes}")
            time.sleep(POLL_S)

    def _command(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return asyncio.run(send_command(self.directory, request))

    # --- its end --------------------------------------------------------------------------------

    def stop(self) -> int:
        """SIGTERM to all; the supervisor's exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._clear_away()

    def _clear_away(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        REAPER.dead(self._process.pid)
        for pid in self._left_over():
            os.kill(pid, signal.SIGKILL)

    def _left_over(self) -> list[int]:
        """Processes of this cluster that live on: each names its directory in its arguments."""
        found = []
        mark = f"{self.directory}/".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                except OSError:
                    continue  # it has just ended
                if mark in words:
                    found.append(int(entry.name))
        return found

    def logs(self) -> str:
        """The end of each process's log."""
        files = [self._log, *sorted(self.directory.glob("*.log"))]
        return "\n".join(
            f"--- {file.name}\n{file.read_text(errors='replace')[-LOG_TAIL_BYTES:]}"
            for file in files
            if file.exists()
        )

    def __enter__(self) -> "RunningCluster":
        try:
            self.start()
        except BaseException:
            print(self.logs())
            self._clear_away()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            print(self.logs())
        if self._process is not None and self._process.poll() is None:
            self.stop()


def cluster_on(
    directory: Path,
    combination: Combination,
    servers: Mapping[str, Any],
    counts: Mapping[str, int] = PAIRS,
    settings: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> RunningCluster:
    """A cluster in a place of its own on real ``servers``, not started yet."""
    name = f"cluster-{os.getpid()}-{free_port()}"
    chosen = {**settings_of(combination, servers, name), **(settings or {})}
    return RunningCluster(directory, chosen, counts, environment)
