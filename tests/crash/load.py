"""Starts ``steady_load.py`` against a server, watches its progress, and has it judge at the end."""

import json
import queue
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SETTLE_TIMEOUT_S = 180.0


class SteadyLoad:
    """A context manager. ``recovers(n)`` waits for ``n`` more acknowledged writes; ``finish``
    gives the summary, after every row was checked."""

    def __init__(self, uri: str, directory: Path, seed: int = 1) -> None:
        python = ROOT / ".clients" / "2.6" / "bin" / "python"
        if not python.exists():
            pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
        self._errors = (directory / "load.log").open("w+")
        self._process = subprocess.Popen(
            [python, Path(__file__).parent / "steady_load.py", uri, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._notes: list[str] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.last: dict[str, Any] = {"acknowledged": 0}
        self.longest_gap_s = 0.0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._lines.put(json.loads(line))
            else:
                self._notes.append(line)
        self._lines.put(None)

    def _next(self, deadline: float) -> bool:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise AssertionError(f"no progress: {self.last}, {self.errors()}") from None
        if line is None:
            return False
        self.last = line
        self.longest_gap_s = max(self.longest_gap_s, line["longest_gap_s"])
        return True

    def recovers(self, writes: int = 30) -> float:
        """Wait until that many more writes were acknowledged, by a load that is not failing.
        Gives the longest time without an acknowledgement that any writer has seen since the last
        call."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        self.longest_gap_s = 0.0
        while not self._lines.empty():
            assert self._next(deadline), self.errors()
        assert self._next(deadline), self.errors()
        wanted = self.last["acknowledged"] + writes
        while self.last["acknowledged"] < wanted:
            assert time.monotonic() < deadline, f"it does not recover: {self.last}"
            assert self._next(deadline), self.errors()
        return self.longest_gap_s

    def finish(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.close()
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while self._next(deadline):
            pass
        assert self._process.wait(timeout=30) == 0, self.errors()
        return self.last

    def errors(self) -> str:
        self._errors.seek(0)
        return "".join([*self._notes[-20:], self._errors.read()[-6_000:]])

    def __enter__(self) -> "SteadyLoad":
        try:
            self.recovers()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()
