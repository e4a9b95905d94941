"""The two servers as processes: start, wait until healthy, measure, kill."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 180.0


class Server(ABC):
    """A server on 127.0.0.1 with a data directory of its own."""

    name: str
    port: int

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pid = 0
        self.management_port = 0

    @abstractmethod
    def launch(self) -> None:
        """Start the process and set ``pid`` and ``management_port``."""

    def start(self) -> float:
        """Returns the seconds until it called itself healthy."""
        started = time.monotonic()
        self.launch()
        self._wait_healthy()
        return time.monotonic() - started

    def kill(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while self.processes():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} survives SIGKILL")
            time.sleep(0.01)

    def remove_data(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self) -> list[int]:
        """The server's process and all of its descendants."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (stat := _stat(int(entry))) is not None and stat[0] != "Z":
                children.setdefault(int(stat[1]), []).append(int(entry))
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            if (stat := _stat(pid)) is not None and stat[0] != "Z":
                found.append(pid)
                queue.extend(children.get(pid, []))
        return found

    def cpu_s(self) -> float:
        """Processor seconds used so far, children included."""
        return sum(
            (int(stat[11]) + int(stat[12])) / TICKS
            for pid in self.processes()
            if (stat := _stat(pid)) is not None
        )

    def resident_mb(self) -> float:
        total = 0
        for pid in self.processes():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        return total / 1024

    def _wait_healthy(self) -> None:
        url = f"http://127.0.0.1:{self.management_port}/healthz"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    if b"OK" in response.read():
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.02)
        raise TimeoutError(f"{self.name} was not healthy within {START_TIMEOUT_S} s")


class ElanusServer(Server):
    name = "elanus"
    port = 19630
    python = sys.executable

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.management_port = self.port + 1
        with (self.directory / "server.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(self.python, "-m", "elanus.cli.main", "run", "standalone"),
                    *("--data-dir", str(self.directory / "data"), "--port", str(self.port)),
                    *("--set", f"metrics.port={self.management_port}"),
                ],
                stdout=log,
                stderr=log,
            )
        self.pid = process.pid
        self._process = process

    def kill(self) -> None:
        super().kill()
        self._process.wait()


class MilvusServer(Server):
    name = "milvus"
    port = 19730

    def launch(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        python = ROOT / ".clients" / "milvus" / "bin" / "python"
        launcher = Path(__file__).parent / "launch_milvus.py"
        answer = subprocess.run(
            [python, launcher, self.directory, str(self.port)],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        self.pid, self.management_port = map(int, answer.stdout.split())


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the state (index 0) on; None if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
