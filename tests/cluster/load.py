"""Runs ``chaos_load.py`` against a cluster and gathers its history."""

import json
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.cluster.history import History

PYTHON = Path(__file__).parents[2] / ".clients" / "2.6" / "bin" / "python"
LOAD = Path(__file__).parent / "chaos_load.py"
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 180.0
POLL_S = 0.05


class ChaosLoad:
    """A context manager; the load runs from its beginning to ``finish``."""

    def __init__(self, uri: str, directory: Path, seed: int) -> None:
        if not PYTHON.exists():
            pytest.skip("pymilvus 2.6 is not installed: run `make clients`")
        self.history = History()
        self.final: dict[str, Any] = {}
        self._is_ready = threading.Event()
        self._errors = (directory / "load.log").open("w+")
        self._record = (directory / "history.jsonl").open("w")
        self._process = subprocess.Popen(
            [PYTHON, LOAD, uri, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._pump = threading.Thread(target=self._read)
        self._pump.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._record.write(text)
            line = json.loads(text)
            if "final" in line:
                self.final = line["final"]
            elif "ready" in line:
                self._is_ready.set()
            else:
                self.history.add(line)

    def is_served_within(self, moment_s: float, limit_s: float) -> None:
        """Returns when calls that began after ``moment_s`` were answered to all clients by all
        shards. AssertionError after ``limit_s`` from now."""
        deadline_s = time.monotonic() + limit_s
        while not self.history.is_served_since(moment_s):
            assert self._process.poll() is None, self.errors()
            if time.monotonic() > deadline_s:
                last = "\n".join(map(str, self.history.lines[-20:]))
                raise AssertionError(f"not everybody is served again in {limit_s} s\n{last}")
            time.sleep(POLL_S)

    def finish(self) -> list[str]:
        """End the load; what was wrong."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(END_TIMEOUT_S) == 0, self.errors()
        self._pump.join()
        return self.history.judge(self.final)

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-6_000:]

    def __enter__(self) -> "ChaosLoad":
        try:
            assert self._is_ready.wait(START_TIMEOUT_S), self.errors()
            self.is_served_within(time.monotonic(), START_TIMEOUT_S)
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
        self._pump.join()
        for pipe in (
            self._process.stdin,
            self._process.stdout,
            self._errors,
            self._record,
        ):
            if pipe is not None:
                pipe.close()
