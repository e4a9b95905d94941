"""A write-ahead log in memory, for tests and simulations. It outlives its writers, not the process.

A position is the number of the record, as in the local log.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from elanus.errors import FencedWriter
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._growth import Growth
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord, WalWriter


@dataclass
class _Log:
    term: int = 0
    first: int = 0
    payloads: list[bytes] = field(default_factory=list)
    growth: Growth = field(default_factory=Growth)


class MemoryWal(Wal):
    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._writers: dict[str, MemoryWalWriter] = {}

    async def open_writer(self, pchannel: str, term: int) -> WalWriter:
        log = self._logs.setdefault(pchannel, _Log())
        if log.term > term:
            raise FencedWriter(f"{pchannel} was opened at term {log.term}, this is term {term}")
        log.term = term
        if (previous := self._writers.get(pchannel)) is not None:
            await previous.close()
        self._writers[pchannel] = writer = MemoryWalWriter(pchannel, log, term)
        return writer

    async def read(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        log = self._logs.get(pchannel, _Log())
        durable = list(enumerate(log.payloads, log.first))
        for position, payload in durable:
            if position > after:
                yield WalRecord(position, memoryview(payload))

    def tail(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        log = self._logs.setdefault(pchannel, _Log())
        return log.growth.follow(lambda seen: self.read(pchannel, seen), after)

    async def truncate(self, pchannel: str, upto: int) -> None:
        log = self._logs.get(pchannel, _Log())
        count = min(max(0, upto + 1 - log.first), len(log.payloads))
        del log.payloads[:count]
        log.first += count

    async def list_channels(self) -> list[str]:
        return sorted(name for name, log in self._logs.items() if log.term)

    async def size_bytes(self) -> int:
        return sum(len(payload) for log in self._logs.values() for payload in log.payloads)

    async def close(self) -> None:
        for writer in self._writers.values():
            await writer.close()
        for log in self._logs.values():
            log.growth.end()
            log.growth = Growth()


class MemoryWalWriter(WalWriter):
    def __init__(self, pchannel: str, log: _Log, term: int) -> None:
        self._pchannel = pchannel
        self._log = log
        self._term = term
        self._closed = False

    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        if self._closed or self._log.term != self._term:
            raise FencedWriter(
                f"the log {self._pchannel} was taken over at term {self._log.term} or closed, "
                f"this writer has term {self._term}"
            )
        first = self._log.first + len(self._log.payloads)
        self._log.payloads += [b"".join(parts) for parts in records]
        self._log.growth.notify()
        return list(range(first, first + len(records)))

    async def close(self) -> None:
        self._closed = True
