"""An object store seen through one process's connection, which a test can disturb.

What a request does and what its caller hears of it are two things: a request may fail without
effect, take effect without an answer, or take effect long after it was given up.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.contract.conftest import ManualClock
from tests.unit.storage.test_wal_recovery import InlineExecutor

from elanus.errors import Unavailable
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.objects.base import Buffer, ObjectExists, ObjectInfo, ObjectStore
from elanus.storage.objects.memory import MemoryObjectStore

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"


def process_world(seed: int) -> World:
    """Of one process: no threads, a clock that stands still."""
    return World(
        clock=ManualClock(),
        random=random.Random(seed),
        executor=InlineExecutor(),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )


class LateEffects:
    """Changes that were sent and have not arrived yet. They land in any order, or never."""

    def __init__(self, store: MemoryObjectStore) -> None:
        self._store = store
        self.waiting: list[tuple[str, bytes | None]] = []

    def put(self, key: str, data: bytes) -> None:
        self.waiting.append((key, data))

    def delete(self, key: str) -> None:
        self.waiting.append((key, None))

    async def land(self, place: int = 0) -> None:
        key, data = self.waiting.pop(place)
        if data is None:
            await self._store.delete([key])
            return
        with suppress(ObjectExists):
            await self._store.put(key, [data], create_only=True)


class Connection(ObjectStore):
    """``before_request`` is told each request and says what becomes of it: "" = it goes well,
    "lost" = no effect, "unanswered" = effect without an answer, "late" = the effect comes later.
    The caller hears Unavailable, or nothing any more if ``is_deadly``: then its process is dead.

    ``hold()``: puts and deletes wait until ``release()``. Every request takes some turns of the
    loop before its effect and after it, so that they overtake each other.
    """

    def __init__(
        self,
        store: MemoryObjectStore,
        late: LateEffects,
        before_request: Callable[[str], str] = lambda name: "",
        is_deadly: bool = False,
        seed: int = 0,
    ) -> None:
        self._turns = random.Random(seed)
        self._store = store
        self._late = late
        self.before_request = before_request
        self.is_deadly = is_deadly
        self.died = asyncio.Event()
        self._gate: asyncio.Event | None = None

    def hold(self) -> None:
        if self._gate is None:
            self._gate = asyncio.Event()

    def release(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.set()

    async def _delay(self) -> None:
        for _ in range(self._turns.randrange(5)):
            await asyncio.sleep(0)

    async def _fate(self, name: str) -> str:
        await self._delay()
        if self._gate is not None and not name.startswith(("get", "list")):
            await self._gate.wait()
        if self.died.is_set():
            await asyncio.Event().wait()
        return self.before_request(name)

    async def _end(self, name: str, fate: str) -> None:
        await self._delay()
        if not fate:
            return
        if self.is_deadly:
            self.died.set()
            await asyncio.Event().wait()
        raise Unavailable(f"simulated fault in {name}")

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        data = b"".join(parts)
        fate = await self._fate(f"put {key}")
        if fate == "late":
            self._late.put(key, data)
        elif fate != "lost":
            await self._store.put(key, [data], create_only=create_only)
        await self._end(f"put {key}", fate)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            fate = await self._fate(f"delete {key}")
            if fate == "late":
                self._late.delete(key)
            elif fate != "lost":
                await self._store.delete([key])
            await self._end(f"delete {key}", fate)

    async def get(self, key: str) -> bytes:
        await self._end(f"get {key}", await self._fate(f"get {key}"))
        return await self._store.get(key)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return (await self.get(key))[start : start + length]

    async def list(self, prefix: str) -> list[ObjectInfo]:
        await self._end(f"list {prefix}", await self._fate(f"list {prefix}"))
        return await self._store.list(prefix)

    async def put_file(self, key: str, path: Path) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        pass
