"""A metadata store whose process dies, or whose answer is lost, at a chosen transaction."""

from collections.abc import Sequence

from elanus.errors import Unavailable
from elanus.storage.meta.base import (
    Compare,
    Delete,
    KeyValue,
    MetaStore,
    Put,
    Snapshot,
    TransactionResult,
)
from elanus.storage.meta.wrapped import WrappedMetaStore


class DyingStore(WrappedMetaStore):
    """Dies at transaction number ``at`` (1, 2, …), before or after it takes effect: from then on
    everything fails. ``transactions`` counts them."""

    def __init__(self, inner: MetaStore, at: int = 0, *, after: bool = False) -> None:
        super().__init__(inner)
        self.transactions = 0
        self.dead = False
        self._at = at
        self._after = after
        self._lose: bool | None = None

    def lose_next(self, *, after: bool) -> None:
        """The next transaction fails, with or without effect; the store lives on."""
        self._lose = after

    def die_at(self, number: int) -> None:
        """At that transaction from now on."""
        self._at = self.transactions + number

    def revive(self) -> None:
        self.dead, self._lose = False, None

    def _check(self) -> None:
        if self.dead:
            raise Unavailable("the metadata store is gone")

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        self._check()
        self.transactions += 1
        dies = self.transactions == self._at
        lose, self._lose = self._lose, None
        if (dies and not self._after) or lose is False:
            self.dead = dies
            raise Unavailable("died before the transaction")
        result = await self.inner.transact(operations, compares)
        if dies or lose:
            self.dead = dies
            raise Unavailable("died after the transaction")
        return result

    async def get(self, key: str) -> KeyValue | None:
        self._check()
        return await self.inner.get(key)

    async def snapshot(self, prefix: str) -> Snapshot:
        self._check()
        return await self.inner.snapshot(prefix)

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        self._check()
        return await self.inner.range(prefix, after=after, limit=limit)
