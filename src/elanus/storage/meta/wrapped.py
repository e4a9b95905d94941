"""A metadata store in front of another one: a base for those that change some of what it does."""

from collections.abc import AsyncIterator, Sequence

from elanus.storage.meta.base import (
    Compare,
    Delete,
    KeyValue,
    MetaStore,
    Put,
    Snapshot,
    TransactionResult,
    WatchEvent,
)


class WrappedMetaStore(MetaStore):
    """Hands every call on to ``inner``."""

    def __init__(self, inner: MetaStore) -> None:
        self.inner = inner

    async def get(self, key: str) -> KeyValue | None:
        return await self.inner.get(key)

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        return await self.inner.range(prefix, after=after, limit=limit)

    async def snapshot(self, prefix: str) -> Snapshot:
        return await self.inner.snapshot(prefix)

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        return await self.inner.transact(operations, compares)

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        return self.inner.watch(prefix, from_revision)

    async def revision(self) -> int:
        return await self.inner.revision()

    async def grant_lease(self, ttl_s: float) -> int:
        return await self.inner.grant_lease(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        await self.inner.keep_alive(lease)

    async def revoke_lease(self, lease: int) -> None:
        await self.inner.revoke_lease(lease)

    async def close(self) -> None:
        await self.inner.close()
