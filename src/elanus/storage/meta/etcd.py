"""Metadata in etcd, shared by all processes of a cluster.

Every key of the cluster stands under ``<etcd.rootPath>/``; nothing outside is read or written.
Reads are linearisable: they see every change that was acknowledged before they began, whichever
member answers. A change is durable when etcd acknowledges it.

A range larger than one message is read in pages, all at the revision of the first, so that it is
of one instant. A transaction is sent again after its answer was lost only if its comparisons make
sure that it can happen once only; if the repetition then finds that they no longer hold, nobody
can say whose change that was, and the outcome is unknown.
"""

import math
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from elanus.config.storage import EtcdSettings
from elanus.errors import CorruptData, Unavailable
from elanus.runtime.world import World
from elanus.storage.meta import _etcd_protocol as protocol
from elanus.storage.meta._etcd_client import EtcdClient
from elanus.storage.meta._etcd_errors import (
    HistoryCompacted,
    OutcomeUnknown,
    ResponseTooLarge,
)
from elanus.storage.meta._etcd_watch import watch_pairs
from elanus.storage.meta.base import (
    Compare,
    Delete,
    KeyValue,
    LeaseEnded,
    MetaStore,
    Put,
    Snapshot,
    TransactionResult,
    WatchEvent,
    check_transaction,
)

MAX_PAGE_KEYS = 1_024
_PAGE_SHRINKS_BY = 8
_RANGE_ATTEMPTS = 5


class EtcdMetaStore(MetaStore):
    """Open with :meth:`open`."""

    def __init__(self, world: World, client: EtcdClient, prefix: bytes) -> None:
        self._hit = world.failpoints.hit
        self._client = client
        self._prefix = prefix

    @classmethod
    async def open(cls, world: World, settings: EtcdSettings) -> "EtcdMetaStore":
        """Connect to etcd. Raises InvalidParameter for settings that can't be used, Unavailable
        if etcd can't be reached within ``etcd.requestTimeout`` or refuses us."""
        prefix = f"{settings.root_path.rstrip('/')}/".encode()
        client = await EtcdClient.open(world, settings, prefix)
        try:
            await client.read_revision()
        except BaseException:
            await client.close()
            raise
        return cls(world, client, prefix)

    async def get(self, key: str) -> KeyValue | None:
        request = protocol.RangeRequest(key=self._raw(key))
        response = await self._client.call(protocol.RANGE, request)
        return self._pair(response.kvs[0]) if response.kvs else None

    async def range(
        self, prefix: str, *, after: str | None = None, limit: int = 0
    ) -> list[KeyValue]:
        begin, end = self._bounds(prefix)
        if after is not None:
            begin = max(begin, _following(self._raw(after)))
        return [] if begin >= end else (await self._read(begin, end, limit)).pairs

    async def snapshot(self, prefix: str) -> Snapshot:
        return await self._read(*self._bounds(prefix), 0)

    async def _read(self, begin: bytes, end: bytes, limit: int) -> Snapshot:
        for _ in range(_RANGE_ATTEMPTS):
            try:
                return await self._read_pages(begin, end, limit)
            except HistoryCompacted as error:
                reason = error
        raise Unavailable(
            f"{self._client.where} was compacted {_RANGE_ATTEMPTS} times while a range was read"
        ) from reason

    async def _read_pages(self, begin: bytes, end: bytes, limit: int) -> Snapshot:
        pairs: list[KeyValue] = []
        revision = 0
        page_keys = MAX_PAGE_KEYS
        while True:
            wanted = min(page_keys, limit - len(pairs)) if limit else page_keys
            request = protocol.RangeRequest(
                key=begin, range_end=end, limit=wanted, revision=revision
            )
            try:
                response = await self._client.call(protocol.RANGE, request)
            except ResponseTooLarge:
                if wanted == 1:
                    raise
                page_keys = max(1, wanted // _PAGE_SHRINKS_BY)
                continue
            revision = revision or response.header.revision
            pairs += [self._pair(kv) for kv in response.kvs]
            if not response.more or len(pairs) == limit:
                return Snapshot(pairs, revision)
            begin = _following(response.kvs[-1].key)

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        check_transaction(operations, compares)
        request = self._transaction(operations, compares)
        call = partial(
            self._client.call, protocol.TRANSACTION, request, deadline_s=self._client.deadline_s()
        )
        if not operations:
            response = await call()
            return TransactionResult(response.succeeded, response.header.revision)
        self._hit("meta.transact.before_commit")
        try:
            response = await call(repeatable=False)
        except OutcomeUnknown:
            if not _happens_once_only(operations, compares):
                raise
            response = await call(repeatable=False)
            if not response.succeeded:
                raise
        self._hit("meta.transact.after_commit")
        return TransactionResult(response.succeeded, response.header.revision)

    def _transaction(self, operations: Sequence[Put | Delete], compares: Sequence[Compare]) -> Any:
        request = protocol.TxnRequest()
        for compare in compares:
            request.compare.add(
                key=self._raw(compare.key),
                target=protocol.Compare.MOD,
                result=protocol.Compare.EQUAL,
                mod_revision=compare.modified_revision,
            )
        for operation in operations:
            key = self._raw(operation.key)
            if isinstance(operation, Put):
                put = protocol.PutRequest(key=key, value=operation.value, lease=operation.lease)
                request.success.add(request_put=put)
            else:
                request.success.add(request_delete_range=protocol.DeleteRangeRequest(key=key))
        if not operations:
            # Without a linearisable read a member would answer from what it has, however old.
            read = protocol.RangeRequest(key=self._prefix, count_only=True)
            request.success.add(request_range=read)
        return request

    async def watch(self, prefix: str, from_revision: int) -> AsyncIterator[WatchEvent]:
        begin, end = self._bounds(prefix)
        async for event in watch_pairs(self._client, begin, end, from_revision):
            yield WatchEvent(self._name(event.key), event.value, event.revision)

    async def revision(self) -> int:
        return await self._client.read_revision()

    async def grant_lease(self, ttl_s: float) -> int:
        # Sent twice it leaves a lease that nobody uses and that ends by itself.
        request = protocol.LeaseGrantRequest(TTL=max(1, math.ceil(ttl_s)))
        return int((await self._client.call(protocol.LEASE_GRANT, request)).ID)

    async def keep_alive(self, lease: int) -> None:
        request = protocol.LeaseKeepAliveRequest(ID=lease)
        if (await self._client.call(protocol.LEASE_KEEP_ALIVE, request)).TTL <= 0:
            raise LeaseEnded

    async def revoke_lease(self, lease: int) -> None:
        try:
            await self._client.call(protocol.LEASE_REVOKE, protocol.LeaseRevokeRequest(ID=lease))
        except LeaseEnded:
            return

    async def close(self) -> None:
        await self._client.close()

    def _raw(self, key: str) -> bytes:
        return self._prefix + key.encode()

    def _bounds(self, prefix: str) -> tuple[bytes, bytes]:
        """The raw keys that start with ``prefix``: from the first on, below the second."""
        begin = self._raw(prefix)
        # The last byte of UTF-8 is never 0xff.
        return begin, begin[:-1] + bytes([begin[-1] + 1])

    def _name(self, raw: bytes) -> str:
        try:
            return raw[len(self._prefix) :].decode()
        except UnicodeDecodeError as error:
            raise CorruptData(
                f"metadata key {raw!r} in {self._client.where} is not ours"
            ) from error

    def _pair(self, kv: Any) -> KeyValue:
        return KeyValue(self._name(kv.key), kv.value, kv.create_revision, kv.mod_revision, kv.lease)


def _following(raw: bytes) -> bytes:
    """The key right after ``raw``."""
    return raw + b"\0"


def _happens_once_only(operations: Sequence[Put | Delete], compares: Sequence[Compare]) -> bool:
    """Whether one of the operations changes a key at a revision that a comparison names. That
    revision never comes back, so the transaction can't be done twice, whoever else writes."""
    named = {compare.key for compare in compares if compare.modified_revision > 0}
    return any(operation.key in named for operation in operations)
