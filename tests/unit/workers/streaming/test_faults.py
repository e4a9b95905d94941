"""Crashes at every durable step of a flush, a full disk, a log that fails: nothing acknowledged is
lost, nothing comes back, and the shard heals by itself."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.unit.workers.streaming.harness import Server, eventually

from elanus.config.settings import Settings, StreamingSettings
from elanus.errors import DiskFull, TooManyRequests, Unavailable
from elanus.storage.disk import AppendHandle, LocalDisk


class Crash(BaseException):
    """The process is gone from here on."""


class _FaultyHandle:
    def __init__(self, disk: "FaultyDisk", path: Path, handle: AppendHandle) -> None:
        self._disk, self._path, self._handle = disk, path, handle

    @property
    def size(self) -> int:
        return self._handle.size

    def write(self, parts: Sequence[Any]) -> None:
        if self._disk.full:
            whole = b"".join(bytes(part) for part in parts)
            self._handle.write([whole[: len(whole) // 2]])
            raise DiskFull(str(self._path))
        self._handle.write(parts)

    def sync(self) -> None:
        if self._disk.failing_syncs:
            self._disk.failing_syncs -= 1
            raise Unavailable(f"{self._path} can't be synced")
        self._handle.sync()

    def truncate(self, size: int) -> None:
        self._handle.truncate(size)

    def close(self) -> None:
        self._handle.close()


class FaultyDisk(LocalDisk):
    """A disk that is full, or fails to sync a few times, when told so."""

    full = False
    failing_syncs = 0

    def open_append(self, path: Path) -> AppendHandle:
        return _FaultyHandle(self, path, super().open_append(path))

    def write_file_durably(self, path: Path, parts: Sequence[Any], **how: Any) -> None:
        if self.full:
            raise DiskFull(str(path))
        super().write_file_durably(path, parts, **how)


@pytest.mark.parametrize(
    "where",
    [
        "flush.before_write",
        "flush.after_write",
        "flush.before_commit",
        "flush.after_commit",
        "segment.write.before_manifest",
        "deltas.write.before_manifest",
    ],
)
@pytest.mark.parametrize("loaded", [True, False])
async def test_a_crash_in_a_flush_changes_no_answer(
    tmp_path: Path, where: str, loaded: bool
) -> None:
    server = await Server(tmp_path).start()
    things = await server.create(load=loaded)
    await server.write(things, {n: n for n in range(10)})
    await server.flush(things)
    await server.write(things, {n: n for n in range(10, 20)}, deletes=[1, 2])
    await server.upsert(things, {3: 33, 13: 1313})
    expected = {n: n for n in range(20) if n not in (1, 2)} | {3: 33, 13: 1313}

    crashed = asyncio.Event()

    def crash() -> None:
        crashed.set()
        raise Crash

    server.world.failpoints.arm_with(where, crash)
    await server.streaming.seal(things.vchannels[0])
    await asyncio.wait_for(crashed.wait(), 10)
    await server.crash()

    for _ in range(2):  # recovery may crash and start again, too
        server = await server.restarted()
        if not loaded:
            await server.load(things)
        await server.wait_loaded(things)
        assert await server.contents(things) == expected
        await server.crash()

    server = await server.restarted()
    await server.wait_loaded(things)
    await server.flush(things)
    assert await server.contents(things) == expected
    await server.stop()


async def test_a_crash_after_the_append_keeps_or_drops_the_write_as_a_whole(
    tmp_path: Path,
) -> None:
    server = await Server(tmp_path).start()
    things = await server.create()
    await server.write(things, {1: 1, 2: 2})

    def crash() -> None:
        raise Crash

    server.world.failpoints.arm_with("wal.after_append", crash)
    with pytest.raises(Unavailable):
        await server.write(things, {3: 3, 4: 4}, deletes=[1])
    await server.crash()
    server = await server.restarted()
    await server.wait_loaded(things)
    assert await server.contents(things) in ({1: 1, 2: 2}, {2: 2, 3: 3, 4: 4})
    await server.stop()


async def test_a_full_disk_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    disk = FaultyDisk()
    server = await Server(tmp_path, disk=disk).start()
    things = await server.create()
    await server.write(things, {1: 1})
    disk.full = True
    for n in range(3):
        with pytest.raises(DiskFull):
            await server.write(things, {2: n}, deletes=[1])
        assert await server.contents(things) == {1: 1}
    await server.streaming.seal(things.vchannels[0])  # its flush fails and is tried again
    await asyncio.sleep(0.05)
    assert await server.contents(things) == {1: 1}
    disk.full = False
    await server.write(things, {3: 3})
    await server.flush(things)
    assert await server.contents(things) == {1: 1, 3: 3}
    await server.crash()
    server = await server.restarted()
    await server.wait_loaded(things)
    assert await server.contents(things) == {1: 1, 3: 3}
    await server.stop()


@pytest.mark.parametrize("failing_syncs", [1, 2])
async def test_a_log_that_fails_is_recovered_while_reads_go_on(
    tmp_path: Path, failing_syncs: int
) -> None:
    disk = FaultyDisk()
    server = await Server(tmp_path, disk=disk).start()
    things = await server.create()
    await server.write(things, {1: 1, 2: 2, 5: 5})
    await server.flush(things)
    await server.write(things, {3: 3}, deletes=[5])
    disk.failing_syncs = failing_syncs
    with pytest.raises(Unavailable):
        await server.write(things, {4: 4}, deletes=[1])
    if failing_syncs == 1:  # the failed write was taken back
        assert await server.contents(things) == {1: 1, 2: 2, 3: 3}
    else:  # only the log knows whether it is there
        with pytest.raises(Unavailable):
            await server.contents(things)
        with pytest.raises(Unavailable):
            await server.query(things, guarantee_ts=0, is_strong=True)
        assert (await server.query(things, guarantee_ts=0)).rows.num_rows == 3

    async def writable() -> bool:
        try:
            await server.write(things, {9: 9})
        except Unavailable:
            return False
        return True

    await eventually(writable)
    with_failed = {2: 2, 3: 3, 4: 4, 9: 9}
    without_failed = {1: 1, 2: 2, 3: 3, 9: 9}
    seen = await server.contents(things)
    assert seen in (with_failed, without_failed)
    await server.flush(things)
    assert await server.contents(things) == seen
    await server.crash()
    server = await server.restarted()
    await server.wait_loaded(things)
    assert await server.contents(things) == seen
    await server.stop()


async def test_writes_beyond_the_bound_are_refused(tmp_path: Path) -> None:
    settings = Settings(streaming=StreamingSettings(max_pending_bytes=1_000))
    server = await Server(tmp_path, settings=settings).start()
    things = await server.create()
    writes = [server.write(things, {n: n for n in range(k, k + 10)}) for k in range(0, 100, 10)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, TooManyRequests)]
    accepted = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert refused
    assert accepted
    assert len(refused) + len(accepted) == 10
    assert await server.count(things) == 10 * len(accepted)
    await server.write(things, {1000: 1})
    await server.stop()
