"""What goes wrong, when: one seeded source of crashes, delays, errors and lost replies."""

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from elanus.errors import Unavailable
from elanus.runtime.executor import Pool
from elanus.storage.meta.base import Compare, Delete, MetaStore, Put, TransactionResult
from elanus.storage.objects.base import Buffer, ObjectInfo, ObjectStore

T = TypeVar("T")


class Died(SystemExit):
    """The simulated process was killed at this very instruction."""


class Faults:
    """``intensity`` 0 … 1 scales every probability; the first ``quiet`` operations are safe."""

    def __init__(self, rng: random.Random, trace: Callable[[str], None]) -> None:
        self.rng = rng
        self._trace = trace
        self._fuse = -1
        self.error_rate = 0.0
        self.lost_reply_rate = 0.0
        self.max_delay_s = 0.01
        self.dead = False

    def arm_crash(self, operations: int) -> None:
        """Die at the given durable operation from now."""
        self._fuse = operations

    def disarm(self) -> None:
        self._fuse = -1
        self.error_rate = self.lost_reply_rate = 0.0

    def step(self, name: str) -> None:
        """A durable operation is about to happen."""
        if self.dead:
            raise Died(name)
        if self._fuse == 0:
            self._fuse = -1
            self.dead = True
            self._trace(f"crash before {name}")
            raise Died(name)
        if self._fuse > 0:
            self._fuse -= 1
        if self.error_rate and self.rng.random() < self.error_rate:
            self._trace(f"error in {name}")
            raise Unavailable(f"simulated fault in {name}")

    async def delay(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        await sleep(self.rng.random() ** 3 * self.max_delay_s)

    def loses_reply(self, name: str) -> bool:
        lost = bool(self.lost_reply_rate) and self.rng.random() < self.lost_reply_rate
        if lost:
            self._trace(f"lost reply of {name}")
        return lost


class SimulatedClock:
    def __init__(self, time_s: Callable[[], float], sleep: Callable[[float], Awaitable[None]]):
        self._time_s = time_s
        self._sleep = sleep
        self.skew_ms = 0

    def now_ms(self) -> int:
        return 1_700_000_000_000 + int(self._time_s() * 1_000) + self.skew_ms

    def monotonic_s(self) -> float:
        return self._time_s()

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)


class SimulatedExecutor:
    """Runs everything on the loop, after a random delay."""

    def __init__(self, faults: Faults, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._faults = faults
        self._sleep = sleep

    async def run(self, pool: Pool, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await self._faults.delay(self._sleep)
        result = function(*args, **kwargs)
        await self._faults.delay(self._sleep)
        return result

    def close(self) -> None:
        pass


class FaultyMeta(MetaStore):
    """A durable metadata store behind a network: slow, failing, losing replies."""

    def __init__(self, inner: MetaStore, faults: Faults, sleep: Any) -> None:
        self._inner = inner
        self._faults = faults
        self._sleep = sleep

    async def get(self, key: str) -> Any:
        await self._faults.delay(self._sleep)
        return await self._inner.get(key)

    async def range(self, prefix: str, *, after: str | None = None, limit: int = 0) -> Any:
        await self._faults.delay(self._sleep)
        return await self._inner.range(prefix, after=after, limit=limit)

    async def transact(
        self, operations: Sequence[Put | Delete], compares: Sequence[Compare] = ()
    ) -> TransactionResult:
        await self._faults.delay(self._sleep)
        self._faults.step("meta transaction")
        result = await self._inner.transact(operations, compares)
        self._faults.step("meta reply")
        if self._faults.loses_reply("meta transaction"):
            raise Unavailable("simulated loss of a reply")
        return result

    def watch(self, prefix: str, from_revision: int) -> Any:
        return self._inner.watch(prefix, from_revision)

    async def revision(self) -> int:
        return await self._inner.revision()

    async def grant_lease(self, ttl_s: float) -> int:
        return await self._inner.grant_lease(ttl_s)

    async def keep_alive(self, lease: int) -> None:
        await self._inner.keep_alive(lease)

    async def revoke_lease(self, lease: int) -> None:
        await self._inner.revoke_lease(lease)

    async def close(self) -> None:
        pass


class FaultyObjects(ObjectStore):
    """Objects that are whole or absent; a put may fail before or after it took effect."""

    def __init__(self, inner: ObjectStore, faults: Faults, sleep: Any) -> None:
        self._inner = inner
        self._faults = faults
        self._sleep = sleep

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        await self._faults.delay(self._sleep)
        self._faults.step("object put")
        await self._inner.put(key, parts, create_only=create_only)
        self._faults.step("object reply")
        if self._faults.loses_reply("object put"):
            raise Unavailable("simulated loss of a reply")

    async def put_file(self, key: str, path: Path) -> None:
        await self.put(key, [path.read_bytes()])

    async def get(self, key: str) -> bytes:
        await self._faults.delay(self._sleep)
        return await self._inner.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        await self._faults.delay(self._sleep)
        return await self._inner.get_range(key, start, length)

    async def list(self, prefix: str) -> list[ObjectInfo]:
        await self._faults.delay(self._sleep)
        return await self._inner.list(prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        await self._faults.delay(self._sleep)
        self._faults.step("object delete")
        await self._inner.delete(keys)

    async def close(self) -> None:
        pass


class FaultyService:
    """A role behind a network: calls are delayed; their requests or replies may be lost."""

    def __init__(self, target: Any, name: str, faults: Faults, sleep: Any) -> None:
        self._target = target
        self._name = name
        self._faults = faults
        self._sleep = sleep

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._target, method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            name = f"{self._name}.{method}"
            await self._faults.delay(self._sleep)
            if self._faults.loses_reply(f"request {name}"):
                raise Unavailable(f"simulated loss of a request to {name}")
            result = await function(*args, **kwargs)
            if self._faults.loses_reply(name):
                raise Unavailable(f"simulated loss of a reply from {name}")
            return result

        return call
