"""Objects in a remote store: S3 and compatibles such as MinIO, Azure Blob, Google Cloud Storage.

An object is there as a whole or not at all. A put up to ``UPLOAD_IN_PARTS_BYTES``, and every
create-only one, is a single request; of those with the condition "unless it exists" the store lets
one win. Larger ones are uploaded in parts, which become an object in one step at the end. What a
crash leaves of such an upload costs room but can't be seen: give the bucket a rule that aborts
incomplete uploads (MinIO has one by itself).

A create-only put whose answer was lost finds its own object on the next attempt. So whenever the
key is taken the content decides: our bytes are success, others are ObjectExists.

Bodies are protected on their way: S3 checks each against the SHA-256 that its request is signed
with. What is read is checked by its users, see ``formats/files.py``.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from elanus.config.storage import MinioSettings
from elanus.errors import ElanusError, InternalError, Unavailable
from elanus.runtime.world import World
from elanus.storage.objects.backends import make_backends
from elanus.storage.objects.base import (
    Buffer,
    ObjectExists,
)
from elanus.storage.objects.bucket import create_bucket
from elanus.storage.objects.failures import Failure, Kind, RequestFailed
from elanus.storage.objects.keys import check_key
from elanus.storage.objects.remote_reads import CHUNK_BYTES, PROBE_KEY, RemoteReading
from elanus.storage.objects.retry import RetryPolicy

UPLOAD_IN_PARTS_BYTES = 16 << 20
MAX_CREATE_BYTES = 5_000 << 20

_PARALLEL_PARTS = 4
_MAX_PARTS = 9_000
_DELETE_BATCH = 256
_MAX_CONFLICTS = 10


class RemoteObjectStore(RemoteReading):
    """Open with :meth:`open`."""

    @classmethod
    async def open(cls, world: World, settings: MinioSettings) -> "RemoteObjectStore":
        """Connect, make the bucket if there is none, and see that create-only puts are honoured.

        Raises Unavailable, which tells an endpoint that can't be reached, refused credentials and
        a bucket that can't be made apart; InvalidParameter for settings that can't work.
        """
        policy = RetryPolicy(
            attempt_s=settings.request_timeout_ms / 1_000,
            total_s=settings.retry_timeout_ms / 1_000,
            max_retries=settings.max_retries,
            max_concurrent=settings.max_concurrent_requests,
        )
        backends = await world.executor.run("io", make_backends, settings)
        store = cls(world, backends, policy)
        try:
            await store._check_bucket()
        except RequestFailed as error:
            if error.failure.kind is not Kind.NO_BUCKET:
                raise store._cannot_open(error.failure) from None
            await world.executor.run("io", create_bucket, settings)
        try:
            await store._check_create_only()
        except RequestFailed as error:
            raise store._cannot_open(error.failure) from None
        return store

    # --- writing --------------------------------------------------------------------------------

    async def put(self, key: str, parts: Sequence[Buffer], *, create_only: bool = False) -> None:
        check_key(key)
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        size_bytes = sum(view.nbytes for view in views)
        self._world.failpoints.hit("objects.put.before_write")
        with self._translated(key):
            if create_only:
                await self._create(key, views, size_bytes)
            elif size_bytes > UPLOAD_IN_PARTS_BYTES:
                await self._upload_in_parts(key, views, size_bytes)
            else:
                await self._put_at_once(key, views, size_bytes, "overwrite")
        self._world.failpoints.hit("objects.put.after_write")

    async def put_file(self, key: str, path: Path) -> None:
        check_key(key)
        run = self._world.executor.run
        try:
            size_bytes = (await run("io", path.stat)).st_size
            small = size_bytes <= UPLOAD_IN_PARTS_BYTES
            data = await run("io", path.read_bytes) if small else b""
        except OSError as error:
            raise Unavailable(f"file {path}: {error.strerror or error}") from error
        if small:
            await self.put(key, [data])
            return
        self._world.failpoints.hit("objects.put.before_write")
        with self._translated(key):
            await self._upload_in_parts(key, path, size_bytes)
        self._world.failpoints.hit("objects.put.after_write")

    async def _put_at_once(
        self,
        key: str,
        views: list[memoryview],
        size_bytes: int,
        mode: Literal["create", "overwrite"],
    ) -> None:
        async def attempt() -> None:
            await self._backend.put_async(key, views, mode=mode, use_multipart=False)
            self.stats.add_bytes(sent=size_bytes)

        await self._requests.run("put", key, attempt, size_bytes=size_bytes)

    async def _create(self, key: str, views: list[memoryview], size_bytes: int) -> None:
        if size_bytes > MAX_CREATE_BYTES:
            raise InternalError(
                f"object {key} has {size_bytes} bytes, a store takes at most {MAX_CREATE_BYTES} "
                f"in the one request that create-only needs"
            )
        for conflict in range(_MAX_CONFLICTS):
            try:
                await self._put_at_once(key, views, size_bytes, "create")
            except RequestFailed as error:
                if error.failure.kind is not Kind.TAKEN:
                    raise
            else:
                return
            same = await self._compare(key, views, size_bytes)
            if same:
                return
            if same is False:
                raise ObjectExists(key)
            # Another's put that failed meanwhile, or a delete.
            await self._world.clock.sleep(self._requests.jitter_s(conflict))
        raise RequestFailed(Failure(Kind.PASSING, "others are creating and deleting it"))

    async def _upload_in_parts(
        self, key: str, data: list[memoryview] | Path, size_bytes: int
    ) -> None:
        part_bytes = max(CHUNK_BYTES, -(-size_bytes // _MAX_PARTS))

        async def attempt() -> None:
            await self._backend_for_parts.put_async(
                key,
                data,
                use_multipart=True,
                chunk_size=part_bytes,
                max_concurrency=_PARALLEL_PARTS,
            )
            self.stats.add_bytes(sent=size_bytes)

        await self._requests.run(
            "put",
            key,
            attempt,
            size_bytes=size_bytes,
            width=_PARALLEL_PARTS,
            requests=-(-size_bytes // part_bytes) + 2,
        )

    async def holds(self, key: str, parts: Sequence[Buffer]) -> bool:
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        with self._translated(check_key(key)):
            size_bytes = sum(view.nbytes for view in views)
            return await self._compare(key, views, size_bytes) is True

    async def _compare(self, key: str, views: list[memoryview], size_bytes: int) -> bool | None:
        """Whether the object has this content; None if there is no object."""
        expected = deque(views)
        try:
            async with self._stream(key) as stream:
                if stream.size_bytes != size_bytes:
                    return False
                async for chunk in stream.chunks:
                    if not await self._world.executor.run("io", _consume_equal, expected, chunk):
                        return False
        except RequestFailed as error:
            if error.failure.kind is Kind.MISSING:
                return None
            raise
        return True

    async def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            check_key(key)
        batches = [keys[at : at + _DELETE_BATCH] for at in range(0, len(keys), _DELETE_BATCH)]
        for batch in batches:
            with self._translated(batch[0]):
                await self._delete_batch(list(batch))

    async def _delete_batch(self, keys: list[str]) -> None:
        async def attempt() -> None:
            await self._backend.delete_async(keys)

        try:
            await self._requests.run("delete", keys[0], attempt)
        except RequestFailed as error:
            # Azure and Google tell absent keys and may stop at one; some stores have no batches.
            if error.failure.kind not in (Kind.MISSING, Kind.UNSUPPORTED, Kind.REFUSED):
                raise
            await asyncio.gather(*(self._delete_one(key) for key in keys))

    async def _delete_one(self, key: str) -> None:
        try:
            await self._requests.run("delete", key, lambda: self._backend.delete_async(key))
        except RequestFailed as error:
            if error.failure.kind is not Kind.MISSING:
                raise

    # --- opening ---------------------------------------------------------------------------------

    async def _check_bucket(self) -> None:
        async def attempt() -> None:
            await anext(self._backend.list(chunk_size=1), [])

        await self._requests.run("list", "", attempt)

    async def _check_create_only(self) -> None:
        """The log and all files rely on it that a key can't be taken twice. Some imitations of S3
        ignore that condition. The probe stays, so it is one request at every later start."""
        for _ in range(2):
            content = self._world.random.randbytes(16)
            try:
                await self._put_at_once(PROBE_KEY, [memoryview(content)], len(content), "create")
            except RequestFailed as error:
                if error.failure.kind is Kind.TAKEN:
                    return
                raise
        raise Unavailable(
            f"{self.where} does not honour create-only puts (If-None-Match: *): one object "
            f"replaced another; this store can't be used"
        )

    def _cannot_open(self, failure: Failure) -> ElanusError:
        if failure.kind is Kind.DENIED:
            return Unavailable(
                f"{self.where} refuses the credentials or what they may do: {failure.reason}"
            )
        if failure.kind is Kind.PASSING:
            return Unavailable(f"{self.where} can't be reached: {failure.reason}")
        return Unavailable(f"{self.where} can't be used: {failure.reason}")


def _consume_equal(expected: deque[memoryview], data: Buffer) -> bool:
    """Whether ``expected`` begins with ``data``, which is then taken off it."""
    view = memoryview(data)
    while view.nbytes:
        if not expected:
            return False
        part = expected.popleft()
        count = min(part.nbytes, view.nbytes)
        # Comparing memoryviews goes item by item; bytes are compared by the machine's words.
        if bytes(part[:count]) != bytes(view[:count]):
            return False
        view = view[count:]
        if count < part.nbytes:
            expected.appendleft(part[count:])
    return True
