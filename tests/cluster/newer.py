"""A build of the next version, whose messages have an added field and whose interfaces an added
method, and processes of it beside those of this version.

It is a copy of the package with some lines put in, which is found before this one. Its proxies use
the added method as such a method must be used: by doing without it where the other end is older.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import elanus
from tests.server import free_port
from tests.services.reaper import REAPER

TIMEOUT_S = 90.0
CHANGED_MESSAGES = (
    "WriteRequest",
    "SearchRequest",
    "QueryRequest",
    "SearchResponse",
    "QueryResponse",
    "SegmentSearch",
    "SegmentHits",
    "SegmentQuery",
    "SegmentRows",
    "FetchRows",
    "QueryView",
    "LoadSegment",
    "VchannelRecovery",
    "FlushCommit",
    "NodeStatus",
)


def build_newer(directory: Path) -> Path:
    """Makes the build; the directory to put on PYTHONPATH."""
    source = Path(elanus.__file__).parent
    package = directory / "elanus"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    messages = (package / "services" / "messages.py").read_text()
    for name in CHANGED_MESSAGES:
        start = messages.index(f"class {name}")
        end = messages.find("\n\n\n", start)
        end = len(messages.rstrip()) if end < 0 else end
        messages = f'{messages[:end]}\n    added_later: str = "by the next version"{messages[end:]}'
    (package / "services" / "messages.py").write_text(messages + "\n")
    _replace(
        package / "services" / "interfaces.py",
        "    async def growing(self, vchannel: str) -> list[GrowingInfo]: ...\n",
        "    async def growing(self, vchannel: str) -> list[GrowingInfo]: ...\n"
        '    async def added_later(self, vchannel: str, how: str = "") -> str: ...\n',
    )
    _replace(
        package / "workers" / "streaming" / "node.py",
        "    async def growing(self, vchannel: str) -> list[GrowingInfo]:\n",
        '    async def added_later(self, vchannel: str, how: str = "") -> str:\n'
        '        log.info("added method called", vchannel=vchannel, how=how)\n'
        "        return vchannel\n\n"
        "    async def growing(self, vchannel: str) -> list[GrowingInfo]:\n",
    )
    _replace(
        package / "access" / "dql" / "fan_out.py",
        "        return await proxy.direct.search(node, request(vchannel), collection.schema)\n",
        "        from elanus.errors import NotServed\n"
        "        try:\n"
        '            await node.added_later(vchannel, how="new")\n'
        "        except NotServed:\n"
        '            print("added method not known", flush=True)\n'
        "        return await proxy.direct.search(node, request(vchannel), collection.schema)\n",
    )
    return directory


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} has changed"
    path.write_text(text.replace(old, new, 1))


class NewerProcess:
    """A context manager: a role's process of the newer build, ended in order."""

    def __init__(
        self, build: Path, role: str, settings: Mapping[str, object], directory: Path
    ) -> None:
        self.port = free_port()
        self._log = directory / f"newer-{role}.log"
        own = {
            "metrics.port": 0,
            **settings,
            "proxy.port": self.port,
            "localStorage.path": str(directory / f"newer-{role}"),
        }
        self._command = [
            *(sys.executable, "-m", "elanus.cli.main", "run", role),
            *(f"--set={key}={value}" for key, value in own.items()),
        ]
        self._environment = {**os.environ, "PYTHONPATH": str(build)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> "NewerProcess":
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment
            )
        REAPER.born(self._process.pid)
        deadline = time.monotonic() + TIMEOUT_S
        while " ready " not in self.log:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if kind is not None:
            print(self.log[-5_000:])
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        REAPER.dead(self._process.pid)
