"""Object storage: immutable named blobs. A put is durable when it returns and never half seen."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size_bytes: int
    modified_ms: int


class ObjectExists(Exception):
    """A create-only put found the key taken."""


class ObjectNotFound(Exception):
    """The key names no object."""


class ObjectStore(ABC):
    """Keys are slash-separated relative paths. Raises Unavailable, DiskFull, ObjectNotFound."""

    @abstractmethod
    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        """Store the concatenation of ``parts``. Raises ObjectExists if ``create_only`` and the
        key is taken."""

    @abstractmethod
    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under ``key``; the file may be moved away."""

    @abstractmethod
    async def get(self, key: str) -> bytes: ...

    @abstractmethod
    async def get_range(self, key: str, start: int, length: int) -> bytes: ...

    @abstractmethod
    async def list(self, prefix: str) -> list[ObjectInfo]:
        """Objects whose key starts with ``prefix``, sorted by key."""

    @abstractmethod
    async def delete(self, keys: Sequence[str]) -> None:
        """Absent keys are fine."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies as a file that may be mapped; None if it is not local."""
        return None

    @abstractmethod
    async def close(self) -> None: ...
