"""The write-ahead log: one ordered, durable sequence of records per pchannel.

What a WAL promises:

1. ``append`` returns only when the record would survive a power failure, and positions grow in
   the order of the appends.
2. A reader sees exactly the records up to some point, whole and in order: an append that was not
   acknowledged is there as a whole or not at all.
3. Opening a writer with a term fences every writer of a smaller term: its appends fail with
   FencedWriter from then on.
4. ``truncate`` may only remove records at or before the position given.
5. A retried append, whatever was lost on the way, leaves exactly one record.

A position is an integer ≥ 0 of at most 63 bits that only its backend understands; it grows from
record to record, by any step.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from elanus.storage.objects.base import Buffer

BEFORE_FIRST = -1


@dataclass(frozen=True, slots=True)
class WalRecord:
    position: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Activity:
    """``counts`` by kind, ``size_bytes`` by direction: sent or received."""

    counts: Mapping[str, int] = field(default_factory=dict)
    size_bytes: Mapping[str, int] = field(default_factory=dict)


class WalWriter(ABC):
    @abstractmethod
    async def append(self, records: Sequence[Sequence[Buffer]]) -> list[int]:
        """Append records, each given as parts to be concatenated, with one flush for all of them.

        Calls may overlap; their records are in the order of the calls.

        Returns their positions. Each record is atomic; the group is not.
        Raises FencedWriter, DiskFull or Unavailable; after an error none of the records will ever
        be seen, or the writer refuses all further appends until it is opened again.
        """

    @abstractmethod
    async def close(self) -> None: ...


class Wal(ABC):
    @abstractmethod
    async def open_writer(self, pchannel: str, term: int) -> WalWriter:
        """Fence older terms, cut a torn tail. Raises FencedWriter if a newer term was seen."""

    @abstractmethod
    def read(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        """Records with a position > ``after`` that are durable now, then ends.
        Raises CorruptData if a record before the tail is damaged."""

    @abstractmethod
    def tail(self, pchannel: str, after: int = BEFORE_FIRST) -> AsyncIterator[WalRecord]:
        """As ``read``, then goes on with records as they become durable, whoever appends them;
        ends when this Wal is closed. May be opened before the first record is there.
        Raises Unavailable if it can't go on; open it again after the last position seen."""

    @abstractmethod
    async def truncate(self, pchannel: str, upto: int) -> None:
        """Records at positions ≤ ``upto`` are no longer needed."""

    @abstractmethod
    async def list_channels(self) -> list[str]: ...

    @abstractmethod
    async def size_bytes(self) -> int:
        """What all channels take on storage, for metrics and back-pressure."""

    def activity(self) -> Activity:
        """What was done so far, where that is worth counting."""
        return Activity()

    @abstractmethod
    async def close(self) -> None: ...
