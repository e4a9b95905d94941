"""What a remote object store was asked and what it cost, counted since the process began."""

import threading
from collections import Counter
from dataclasses import dataclass, field

OK = "ok"
FAILED = "failed"
RETRIED = "retried"


@dataclass
class ObjectStats:
    """Counters that any thread may read while requests go on.

    ``requests``: by operation (get, put, list, delete) and outcome: ``ok`` covers every answer
    that settles the question, such as "there is no such object"; ``retried`` is an attempt that was
    repeated, ``failed`` one that was given up.
    """

    _requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    _bytes_in: int = 0
    _bytes_out: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, operation: str, outcome: str, requests: int = 1) -> None:
        with self._lock:
            self._requests[operation, outcome] += requests

    def add_bytes(self, *, received: int = 0, sent: int = 0) -> None:
        with self._lock:
            self._bytes_in += received
            self._bytes_out += sent

    @property
    def requests(self) -> dict[tuple[str, str], int]:
        with self._lock:
            return dict(self._requests)

    @property
    def total_requests(self) -> int:
        return sum(self.requests.values())

    @property
    def retries(self) -> int:
        return sum(count for (_, outcome), count in self.requests.items() if outcome == RETRIED)

    @property
    def bytes_in(self) -> int:
        return self._bytes_in

    @property
    def bytes_out(self) -> int:
        return self._bytes_out
