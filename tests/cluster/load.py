"""Runs ``chaos_load.py`` against a cluster and gathers its history."""

import json
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.client_load import ClientLoad
from tests.cluster.history import History

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 180.0
POLL_S = 0.05


class ChaosLoad(ClientLoad):
    """The load runs from its beginning to ``finish``."""

    def __init__(self, uri: str, directory: Path, seed: int) -> None:
        self.history = History()
        self.final: dict[str, Any] = {}
        self._is_ready = threading.Event()
        self._record = (directory / "history.jsonl").open("w")
        super().__init__(Path(__file__).parent / "chaos_load.py", uri, directory, seed)

    def _take(self, line: str) -> None:
        self._record.write(line)
        content = json.loads(line)
        if "final" in content:
            self.final = content["final"]
        elif "ready" in content:
            self._is_ready.set()
        else:
            self.history.add(content)

    def _wait_until_served(self) -> None:
        assert self._is_ready.wait(START_TIMEOUT_S), self.errors()
        self.is_served_within(time.monotonic(), START_TIMEOUT_S)

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
        self._tell_to_end()
        self._wait_for_end(END_TIMEOUT_S)
        return self.history.judge(self.final)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self._record.close()
