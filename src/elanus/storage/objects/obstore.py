"""What every backend of the obstore package shares: reading, listing and deleting."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from obstore.exceptions import BaseError
from obstore.store import ObjectStore as Backend

from elanus.errors import Unavailable
from elanus.storage.objects.base import ObjectInfo, ObjectNotFound, ObjectStore
from elanus.storage.objects.keys import check_key

_LIST_PAGE = 1_000


class ObstoreObjectStore(ObjectStore):
    """Objects in ``backend``; ``where`` names it in errors."""

    def __init__(self, backend: Backend, where: str) -> None:
        self._backend = backend
        self._where = where

    async def get(self, key: str) -> bytes:
        with self._translate_errors(check_key(key)):
            answer = await self._backend.get_async(key)
            return bytes(await answer.bytes_async())

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        if length == 0:
            return b""
        with self._translate_errors(check_key(key)):
            return bytes(await self._backend.get_range_async(key, start=start, length=length))

    async def size_of(self, key: str) -> int:
        with self._translate_errors(check_key(key)):
            return int((await self._backend.head_async(key))["size"])

    async def list(self, prefix: str) -> list[ObjectInfo]:
        # The backends list whole path segments, in no order that they promise.
        directory = prefix.rpartition("/")[0]
        found = [
            info async for info in self._list_directory(directory) if info.key.startswith(prefix)
        ]
        return sorted(found, key=lambda info: info.key)

    async def _list_directory(self, directory: str) -> AsyncIterator[ObjectInfo]:
        with self._translate_errors(directory):
            async for page in self._backend.list(directory or None, chunk_size=_LIST_PAGE):
                for meta in page:
                    modified_ms = int(meta["last_modified"].timestamp() * 1_000)
                    yield ObjectInfo(meta["path"], meta["size"], modified_ms)

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                with self._translate_errors(check_key(key)):
                    await self._backend.delete_async(key)
            except ObjectNotFound:
                continue

    async def close(self) -> None:
        pass

    @contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise ObjectNotFound(f"{key} in {self._where}") from error
        except (BaseError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise Unavailable(f"object {key} in {self._where}: {reason}") from error
