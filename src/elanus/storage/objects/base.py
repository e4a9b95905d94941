"""Object storage: immutable named blobs. A put is durable when it returns and never half seen."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from elanus.storage.objects.copies import LocalCopies
from elanus.storage.objects.stats import ObjectStats

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size_bytes: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class ObjectStream:
    """An object in pieces, in their order; only a few of them are in memory at a time."""

    size_bytes: int
    chunks: AsyncIterator[Buffer]


class ObjectExists(Exception):
    """A create-only put found the key taken."""


class ObjectNotFound(Exception):
    """The key names no object."""


class ObjectStore(ABC):
    """Keys are slash-separated relative paths. Raises Unavailable, DiskFull, ObjectNotFound.

    ``maps_files``: objects can be had as local files (``fetch``), which cost no memory of ours.
    ``request_stats``: what a remote store was asked; None if nothing is remote.
    ``copies``: those that ``fetch`` gives, if they are copies, which may be removed; None if they
    are the objects themselves.
    """

    maps_files = False
    request_stats: ObjectStats | None = None
    copies: LocalCopies | None = None

    @abstractmethod
    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        """Store the concatenation of ``parts``. Raises ObjectExists if ``create_only`` and the
        key is taken by another object; that it is taken by this very content, as after a lost
        answer, is success. After Unavailable the object may be there or not, or appear later."""

    @abstractmethod
    async def put_file(self, key: str, path: Path) -> None:
        """Store a local file under ``key``; the file may be moved away."""

    @abstractmethod
    async def get(self, key: str) -> bytes: ...

    @abstractmethod
    async def get_range(self, key: str, start: int, length: int) -> bytes: ...

    async def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Several ``(start, length)`` of one object, in the order given; near ones are read
        together where a request costs more than the bytes in between."""
        return [await self.get_range(key, start, length) for start, length in ranges]

    @asynccontextmanager
    async def stream(self, key: str) -> AsyncIterator[ObjectStream]:
        """The object piece by piece, for what is too large to hold. Raises in the middle too."""
        data = await self.get(key)

        async def chunks() -> AsyncIterator[Buffer]:
            yield data

        yield ObjectStream(len(data), chunks())

    async def size_of(self, key: str) -> int:
        """Bytes of the object."""
        async with self.stream(key) as stream:
            return stream.size_bytes

    @abstractmethod
    async def list(self, prefix: str) -> list[ObjectInfo]:
        """Objects whose key starts with ``prefix``, sorted by key."""

    @abstractmethod
    async def delete(self, keys: Sequence[str]) -> None:
        """Absent keys are fine."""

    async def fetch(self, key: str) -> Path | None:
        """The object as a local file that may be mapped, and stays readable through a mapping
        or an open descriptor whatever happens to its name; None unless ``maps_files``."""
        return None

    async def refetch(self, key: str) -> Path | None:
        """As ``fetch``, from where the object is kept and not from a cache, whose copy may be
        damaged; None if there is no cache in between."""
        return None

    @abstractmethod
    async def close(self) -> None: ...

    async def holds(self, key: str, parts: Sequence[Buffer]) -> bool:
        """Whether the object exists with just this content."""
        try:
            return await self.get(key) == b"".join(parts)
        except ObjectNotFound:
            return False
