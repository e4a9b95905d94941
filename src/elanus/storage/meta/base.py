"""Metadata: a small, ordered, transactional key-value store with revisions, watches and leases.

The semantics are etcd's: every successful transaction gets the next revision; a key remembers the
revision that created it and the one that changed it last; a transaction first compares, then does
all of its operations or none; a watch delivers every change from a revision on, in order; a key
that was put under a lease disappears when the lease ends.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from elanus.errors import InternalError, ParameterTooLarge, Unavailable

MAX_OPERATIONS = 128
MAX_VALUE_BYTES = 1 << 20
"""Limits of every backend, so that metadata can be moved: etcd refuses transactions over 128
operations and requests over 1.5 MB."""


class RevisionCompacted(Unavailable):
    """A watch asked for changes that are no longer kept: read the range again, then watch from
    the revision after that."""

    def __init__(self, from_revision: int, compacted_revision: int) -> None:
        super().__init__(
            f"changes up to revision {compacted_revision} are no longer kept, "
            f"revision {from_revision} was asked for: read again"
        )


class LeaseEnded(Unavailable):
    """A lease is over, by its time or because it was revoked; its keys are gone."""

    def __init__(self) -> None:
        super().__init__("lease not found or ended")


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: str
    value: bytes
    created_revision: int
    modified_revision: int
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """True iff ``key`` was last modified at ``modified_revision``; 0 = the key does not exist."""

    key: str
    modified_revision: int


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    key: str


@dataclass(frozen=True, slots=True)
class TransactionResult:
    succeeded: bool
    revision: int


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """``value`` is None when the key was deleted."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Pairs in key order as they all were at ``revision``: a watch from ``revision + 1`` on tells
    what came after."""

    pairs: list[KeyValue]
    revision: int


class MetaStore(ABC):
    """Durable on return. Raises Unavailable, DiskFull or CorruptData.

    After Unavailable from a change it is not known whether the change took effect.
    """

    @abstractmethod
    async def get(self, key: str) -> KeyValue | None: ...

    @abstractmethod
    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        """Pairs whose key starts with ``prefix``, in key order; only keys > ``after`` if given;
        at most ``limit`` unless 0."""

    @abstractmethod
    async def snapshot(self, prefix: str) -> Snapshot:
        """Every pair whose key starts with ``prefix``, all at one instant, however many."""

    @abstractmethod
    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        """Do all operations if every comparison holds, else none. Atomic and durable.

        A key may occur in one operation only. The revision returned is that of the transaction,
        or the newest one if it failed or had no operations. Raises ParameterTooLarge, before
        anything is done, for more than MAX_OPERATIONS operations or comparisons and for more
        than MAX_VALUE_BYTES of values.
        """

    @abstractmethod
    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        """Every change of a key under ``prefix`` with a revision ≥ ``from_revision``, in order;
        never ends by itself, except when the store is closed. Raises RevisionCompacted if some of
        them are no longer kept."""

    @abstractmethod
    async def revision(self) -> int:
        """The newest revision."""

    @abstractmethod
    async def grant_lease(self, ttl_s: float) -> int: ...

    @abstractmethod
    async def keep_alive(self, lease: int) -> None:
        """Start the lease's time again. Raises LeaseEnded if it has ended."""

    @abstractmethod
    async def revoke_lease(self, lease: int) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...

    async def put(self, key: str, value: bytes) -> int:
        return (await self.transact([Put(key, value)])).revision

    async def delete(self, key: str) -> int:
        return (await self.transact([Delete(key)])).revision


def check_transaction(operations: Sequence[Put | Delete], compares: Sequence[Compare]) -> None:
    """Raises InternalError if a key occurs twice: the order would then have a meaning that not
    every backend gives it. Raises ParameterTooLarge beyond the limits of all backends."""
    keys = [operation.key for operation in operations]
    if len(set(keys)) != len(keys):
        raise InternalError(f"a metadata transaction names a key twice: {sorted(keys)}")
    if max(len(operations), len(compares)) > MAX_OPERATIONS:
        raise ParameterTooLarge(
            f"a metadata transaction has {len(operations)} operations and {len(compares)} "
            f"comparisons, at most {MAX_OPERATIONS} of each are possible"
        )
    size_bytes = 0
    for operation in operations:
        if isinstance(operation, Put):
            size_bytes += len(operation.value)
            if size_bytes > MAX_VALUE_BYTES:
                raise ParameterTooLarge(
                    f"a metadata transaction has more than {MAX_VALUE_BYTES} bytes of values "
                    f"(so many up to {operation.key}): that is the most that fits"
                )
