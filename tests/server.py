"""A real server process for tests: started on a free port, stopped or killed at the end."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

START_TIMEOUT_S = 60.0

FREE_FLUSHES: dict[str, object] = {"quotaAndLimits.flushRate.enabled": False}
"""For loads that flush more often than a collection may by default."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_environment() -> dict[str, str]:
    """The tests' environment without what is for Elanus: a server takes that for settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("ELANUS_")}


class RunningServer:
    """``elanus run standalone`` on ``directory``; ``settings`` maps keys to values."""

    def __init__(
        self,
        directory: Path,
        settings: dict[str, object] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.port, self.management_port = free_port(), free_port()
        self._settings = {"metrics.port": self.management_port, **(settings or {})}
        self._environment = environment or {}
        self._log = directory.parent / f"{directory.name}.log"
        self._waits = True
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> None:
        options = [f"--set={key}={value}" for key, value in self._settings.items()]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "elanus.cli.main", "run", "standalone"),
                    *("--data-dir", str(self.directory), "--port", str(self.port), *options),
                ],
                stdout=log,
                stderr=log,
                env={**plain_environment(), **self._environment},
            )
        if wait:
            self.wait_until_healthy()

    def starting(self) -> "RunningServer":
        """As a context manager that doesn't wait until it serves: it may have to stand by."""
        self._waits = False
        return self

    def wait_until_healthy(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                url = f"http://127.0.0.1:{self.management_port}/healthz"
                with urllib.request.urlopen(url, timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if self.process.poll() is not None:
                    raise RuntimeError(f"the server ended:\n{self.log_tail()}") from None
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not healthy:\n{self.log_tail()}") from None
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=60)

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-6_000:] if self._log.exists() else ""

    def __enter__(self) -> "RunningServer":
        self.start(wait=self._waits)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
