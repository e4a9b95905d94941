"""Starts ``steady_load.py`` against a server, watches its progress, and has it judge at the end."""

import json
import queue
import time
from pathlib import Path
from typing import Any

from tests.client_load import ClientLoad

SETTLE_TIMEOUT_S = 180.0
END_TIMEOUT_S = 30.0
NOTES_SHOWN = 20


class SteadyLoad(ClientLoad):
    """``recovers(n)`` waits for ``n`` more acknowledged writes; ``finish`` gives the summary, after
    every row was checked."""

    def __init__(self, uri: str, directory: Path, seed: int = 1) -> None:
        self._notes: list[str] = []
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.last: dict[str, Any] = {"acknowledged": 0}
        self.longest_gap_s = 0.0
        super().__init__(Path(__file__).parent / "steady_load.py", uri, directory, seed)

    def _take(self, line: str) -> None:
        if line.startswith("{"):
            self._lines.put(json.loads(line))
        else:
            self._notes.append(line)

    def _ended(self) -> None:
        self._lines.put(None)

    def _wait_until_served(self) -> None:
        self.recovers()

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
        self._tell_to_end()
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while self._next(deadline):
            pass
        self._wait_for_end(END_TIMEOUT_S)
        return self.last

    def errors(self) -> str:
        return "".join([*self._notes[-NOTES_SHOWN:], super().errors()])
