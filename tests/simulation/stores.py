"""Metadata and objects behind a network: slow, failing, losing replies."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from elanus.errors import Unavailable
from elanus.storage.meta.base import Compare, Delete, MetaStore, Put, Snapshot, TransactionResult
from elanus.storage.meta.wrapped import WrappedMetaStore
from elanus.storage.objects.base import Buffer, ObjectExists, ObjectInfo, ObjectStore
from tests.simulation.faults import Faults, Sleep


class FaultyMeta(WrappedMetaStore):
    """One process's connection to a durable metadata store."""

    def __init__(self, inner: MetaStore, faults: Faults, sleep: Sleep) -> None:
        super().__init__(inner)
        self._faults = faults
        self._sleep = sleep

    async def get(self, key: str) -> Any:
        await self._faults.delay(self._sleep)
        self._faults.glitch("read metadata")
        return await self.inner.get(key)

    async def range(self, prefix: str, *, after: str | None = None, limit: int = 0) -> Any:
        await self._faults.delay(self._sleep)
        self._faults.glitch("read metadata range")
        return await self.inner.range(prefix, after=after, limit=limit)

    async def snapshot(self, prefix: str) -> Snapshot:
        await self._faults.delay(self._sleep)
        self._faults.glitch("read metadata snapshot")
        return await self.inner.snapshot(prefix)

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        await self._faults.delay(self._sleep)
        self._faults.step("meta transaction")
        result = await self.inner.transact(operations, compares)
        await self._faults.delay(self._sleep)
        self._faults.glitch("answer of a meta transaction")
        if self._faults.loses_reply("meta transaction"):
            raise Unavailable("simulated loss of a reply")
        return result

    async def close(self) -> None:
        pass


class FaultyObjects(ObjectStore):
    """Objects that are whole or absent; a put may fail before or after it took effect, or take
    effect some time after it failed.

    Index files are on the local disk too (in ``directory``), where the library can map them.
    """

    def __init__(self, inner: ObjectStore, directory: Path, faults: Faults, sleep: Sleep) -> None:
        self._inner = inner
        self._directory = directory
        self._faults = faults
        self._sleep = sleep
        self._late_puts: set[asyncio.Task[None]] = set()

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        await self._faults.delay(self._sleep)
        self._faults.step("object put")
        if create_only and self._faults.loses_reply("object put, which comes late"):
            self._put_later(key, b"".join(parts))
            raise Unavailable("simulated delay of a put")
        await self._inner.put(key, parts, create_only=create_only)
        await self._faults.delay(self._sleep)
        self._faults.glitch("answer of an object put")
        if self._faults.loses_reply("object put"):
            raise Unavailable("simulated loss of a reply")

    def _put_later(self, key: str, data: bytes) -> None:
        async def put() -> None:
            await self._sleep(self._faults.rng.random() * 3)
            with suppress(ObjectExists, Unavailable):
                self._faults.glitch("late object put")
                await self._inner.put(key, [data], create_only=True)

        task = asyncio.ensure_future(put())
        self._late_puts.add(task)
        task.add_done_callback(self._late_puts.discard)

    async def put_file(self, key: str, path: Path) -> None:
        data = path.read_bytes()  # noqa: ASYNC240 - small, and nothing else runs
        local = await self.fetch(key)
        if local is not None:
            local.write_bytes(data)
        await self.put(key, [data])

    async def get(self, key: str) -> bytes:
        await self._faults.delay(self._sleep)
        self._faults.glitch("read object")
        return await self._inner.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return (await self.get(key))[start : start + length]

    async def list(self, prefix: str) -> list[ObjectInfo]:
        await self._faults.delay(self._sleep)
        self._faults.glitch("list objects")
        return await self._inner.list(prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._faults.delay(self._sleep)
        for key in keys:
            self._faults.step("object delete")
            await self._inner.delete([key])
            local = await self.fetch(key)
            if local is not None:
                local.unlink(missing_ok=True)

    async def fetch(self, key: str) -> Path | None:
        if not key.startswith("index_files/"):
            return None
        return self._directory / key.replace("/", "_")

    async def close(self) -> None:
        pass
