"""A metadata store in memory, for tests and simulations: outlives its users, not the process."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Sequence

from elanus.runtime.world import World
from elanus.storage.meta._events import EventLog
from elanus.storage.meta._leases import LeaseTable
from elanus.storage.meta.base import (
    Compare,
    Delete,
    KeyValue,
    MetaStore,
    Put,
    Snapshot,
    TransactionResult,
    WatchEvent,
    check_transaction,
)


class MemoryMetaStore(MetaStore):
    def __init__(self, world: World) -> None:
        self._hit = world.failpoints.hit
        self._pairs: dict[str, KeyValue] = {}
        self._keys: list[str] = []
        self._revision = 0
        self._next_lease = 1
        self._events = EventLog(0)
        self._leases = LeaseTable(world, self.revoke_lease)

    async def get(self, key: str) -> KeyValue | None:
        return self._pairs.get(key)

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        start = bisect_left(self._keys, prefix)
        if after is not None:
            start = max(start, bisect_right(self._keys, after))
        found: list[KeyValue] = []
        for place in range(start, len(self._keys)):
            key = self._keys[place]
            if not key.startswith(prefix) or (limit and len(found) == limit):
                break
            found.append(self._pairs[key])
        return found

    async def snapshot(self, prefix: str) -> Snapshot:
        return Snapshot(await self.range(prefix), self._revision)

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        check_transaction(operations, compares)
        for compare in compares:
            pair = self._pairs.get(compare.key)
            if (pair.modified_revision if pair else 0) != compare.modified_revision:
                return TransactionResult(False, self._revision)
        for operation in operations:
            if isinstance(operation, Put) and operation.lease:
                self._leases.require(operation.lease)
        if operations:
            self._hit("meta.transact.before_commit")
            self._revision += 1
            events = [event for operation in operations if (event := self._apply(operation))]
            self._events.publish(events)
            self._hit("meta.transact.after_commit")
        return TransactionResult(True, self._revision)

    def _apply(self, operation: Put | Delete) -> WatchEvent | None:
        revision = self._revision
        old = self._pairs.get(operation.key)
        if isinstance(operation, Put):
            created = old.created_revision if old else revision
            self._pairs[operation.key] = KeyValue(
                operation.key, bytes(operation.value), created, revision, operation.lease
            )
            if old is None:
                insort(self._keys, operation.key)
            return WatchEvent(operation.key, bytes(operation.value), revision)
        if old is None:
            return None
        del self._pairs[operation.key]
        del self._keys[bisect_left(self._keys, operation.key)]
        return WatchEvent(operation.key, None, revision)

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        return self._events.watch(prefix, from_revision)

    async def revision(self) -> int:
        return self._revision

    async def grant_lease(self, ttl_s: float) -> int:
        lease = self._next_lease
        self._next_lease += 1
        self._leases.start({lease: ttl_s})
        return lease

    async def keep_alive(self, lease: int) -> None:
        self._leases.keep_alive(lease)

    async def revoke_lease(self, lease: int) -> None:
        self._leases.forget(lease)
        keys = [pair.key for pair in self._pairs.values() if pair.lease == lease]
        await self.transact([Delete(key) for key in sorted(keys)])

    async def close(self) -> None:
        self._events.close()
        await self._leases.close()
