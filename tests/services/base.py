"""A real server as a test owns it: start it, stop it, kill it, freeze it, start it again.

Everything of an instance lies in the folder that its owner gives: the server's data in ``data``,
its configuration, and ``server.log``. Its ports are chosen once and kept over restarts, so that
clients find it again. ``start`` returns when the server has answered a real request.
"""

import signal
import ssl
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import httpx

from tests.services.packages import Package
from tests.services.ports import free_port
from tests.services.reaper import REAPER

POLL_INTERVAL_S = 0.05
THREAD_POLL_INTERVAL_S = 0.001
REQUEST_TIMEOUT_S = 5.0
LOG_LINES_SHOWN = 30


class ServiceError(Exception):
    """A server did not do as told; the message ends with what it logged last."""


class ServiceMissingError(ServiceError):
    """The server is not installed."""


class Service(ABC):
    """One instance of a server."""

    name: ClassVar[str]
    package: ClassVar[Package]
    port_names: ClassVar[tuple[str, ...]]
    start_timeout_s: ClassVar[float] = 120.0
    stop_timeout_s: ClassVar[float] = 60.0

    def __init__(
        self, directory: Path, *, ports: dict[str, int] | None = None, owned: bool = True
    ) -> None:
        """``owned``: ends with this process at the latest, which a background server does not."""
        self.directory = directory.absolute()
        self.ports = ports or {name: free_port() for name in self.port_names}
        self._owned = owned
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where clients connect, as a person would write it."""

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments; it stays in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Ask the server something that it can answer only when it serves."""

    def environment(self) -> dict[str, str]:
        """Variables beside a bare PATH and HOME; nothing else of the tests' environment leaks."""
        return {}

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Write configuration, format storage; called before every start."""

    def initialize(self) -> None:  # noqa: B027 - most servers need nothing
        """Set up what clients expect; called after every start, must do no harm twice."""

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def log_file(self) -> Path:
        return self.directory / "server.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._live_process().pid

    @property
    def memory_bytes(self) -> int:
        """Resident memory of the server's process."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ServiceError(f"{self.name}: the kernel does not tell its memory")

    def start(self) -> Self:
        if self.running:
            raise ServiceError(f"{self.name} runs already, as process {self.pid}")
        if not self.package.installed:
            raise ServiceMissingError(f"{self.name} is not installed: run 'make services-install'")
        self.data_directory.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self._owned:
            REAPER.born(self._process.pid)
        try:
            self._wait_until_ready()
            self.initialize()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """End it in order, as an operator would; an error if it doesn't end."""
        process = self._live_process()
        process.terminate()
        try:
            process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceError(
                f"{self.name} did not end within {self.stop_timeout_s:.0f} s of SIGTERM and was"
                f" killed\n{self.log_tail()}"
            ) from None
        self._forget()

    def kill(self) -> None:
        """End it as the kernel's memory killer or a power failure of its process would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze it: connections stay, nothing is answered once this returns."""
        process = self._live_process()
        process.send_signal(signal.SIGSTOP)
        while process.poll() is None and not all_threads_stopped(process.pid):
            time.sleep(THREAD_POLL_INTERVAL_S)

    def resume(self) -> None:
        self._live_process().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def log_tail(self) -> str:
        if not self.log_file.exists():
            return "(it logged nothing)"
        lines = self.log_file.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        while not self.is_ready():
            if not self.running:
                raise ServiceError(f"{self.name} ended while starting\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} did not answer within {self.start_timeout_s:.0f} s of its start"
                    f"\n{self.log_tail()}"
                )
            time.sleep(POLL_INTERVAL_S)

    def _live_process(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise ServiceError(f"{self.name} does not run\n{self.log_tail()}")
        return self._process

    def _forget(self) -> None:
        assert self._process is not None
        if self._owned:
            REAPER.dead(self._process.pid)
        self._process = None


def all_threads_stopped(pid: int) -> bool:
    """A stop reaches the threads of a busy process one after the other."""
    try:
        tasks = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except FileNotFoundError:  # a thread or the process that has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TZ" for stat in tasks)


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a GET of the URL is answered with a status of success."""
    trust = True if context is None else context
    try:
        with httpx.Client(verify=trust, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            return client.get(url).is_success
    except httpx.TransportError:
        return False
