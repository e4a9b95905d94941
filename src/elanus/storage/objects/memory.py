"""Objects in memory, for tests and simulations: they outlive their users, not the process."""

from collections.abc import Sequence
from pathlib import Path

from elanus.runtime.world import World
from elanus.storage.objects.base import (
    Buffer,
    ObjectExists,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
)
from elanus.storage.objects.keys import check_key


class MemoryObjectStore(ObjectStore):
    def __init__(self, world: World) -> None:
        self._world = world
        self._objects: dict[str, tuple[bytes, int]] = {}

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        check_key(key)
        self._world.failpoints.hit("objects.put.before_write")
        if create_only and key in self._objects:
            if await self.holds(key, parts):
                return
            raise ObjectExists(key)
        self._objects[key] = (b"".join(parts), self._world.clock.now_ms())
        self._world.failpoints.hit("objects.put.after_write")

    async def put_file(self, key: str, path: Path) -> None:
        await self.put(key, [await self._world.executor.run("io", path.read_bytes)])

    async def get(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)][0]
        except KeyError:
            raise ObjectNotFound(key) from None

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        return (await self.get(key))[start : start + length]

    async def list(self, prefix: str) -> list[ObjectInfo]:
        return [
            ObjectInfo(key, len(data), modified_ms)
            for key, (data, modified_ms) in sorted(self._objects.items())
            if key.startswith(prefix)
        ]

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._objects.pop(check_key(key), None)

    async def close(self) -> None:
        pass
