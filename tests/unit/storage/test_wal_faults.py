"""The local WAL on a disk that runs full or fails."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from elanus.config.settings import WalSettings
from elanus.errors import DiskFull, ElanusError, FencedWriter, Unavailable
from elanus.runtime.world import World
from elanus.storage.disk import AppendHandle, LocalDisk
from elanus.storage.objects.base import Buffer
from elanus.storage.wal._term import write_term
from elanus.storage.wal.local import LocalWal

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"


class FaultyDisk(LocalDisk):
    """Fails in the ways that are switched on; a failing write leaves half of its bytes."""

    def __init__(self) -> None:
        self.write_error: ElanusError | None = None
        self.sync_error: ElanusError | None = None
        self.truncate_error: ElanusError | None = None
        self.create_error: ElanusError | None = None
        self.syncs = 0

    def open_append(self, path: Path) -> AppendHandle:
        return _FaultyHandle(self, super().open_append(path))

    def write_file_durably(
        self,
        path: Path,
        parts: Sequence[Buffer],
        *,
        temporary: Path | None = None,
        create_only: bool = False,
    ) -> None:
        if self.create_error is not None:
            raise self.create_error
        super().write_file_durably(path, parts, temporary=temporary, create_only=create_only)


class _FaultyHandle:
    def __init__(self, disk: FaultyDisk, handle: AppendHandle) -> None:
        self._disk = disk
        self._handle = handle
        self.close: Callable[[], None] = handle.close

    @property
    def size(self) -> int:
        return self._handle.size

    def write(self, parts: Sequence[Buffer]) -> None:
        if self._disk.write_error is None:
            self._handle.write(parts)
            return
        data = b"".join(parts)
        self._handle.write([data[: len(data) // 2]])
        raise self._disk.write_error

    def sync(self) -> None:
        self._disk.syncs += 1
        if self._disk.sync_error is not None:
            error, self._disk.sync_error = self._disk.sync_error, None
            raise error
        self._handle.sync()

    def truncate(self, size: int) -> None:
        if self._disk.truncate_error is not None:
            raise self._disk.truncate_error
        self._handle.truncate(size)


async def contents(wal: LocalWal) -> list[bytes]:
    return [bytes(record.payload) async for record in wal.read("p")]


def open_log(world: World, disk: LocalDisk, root: Path, segment_size: int = 1 << 20) -> LocalWal:
    return LocalWal(world, disk, root, WalSettings(segment_size=segment_size), CLUSTER)


@pytest.mark.parametrize("fault", ["write_error", "sync_error"])
async def test_on_a_full_disk_appends_are_refused_until_there_is_room(
    world: World, tmp_path: Path, fault: str
) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"1"]])
    for _ in range(3):
        setattr(disk, fault, DiskFull(str(tmp_path)))
        with pytest.raises(DiskFull):
            await writer.append([[b"refused"], [b"refused" * 100]])
        assert await contents(wal) == [b"1"]
        assert await contents(open_log(world, LocalDisk(), tmp_path)) == [b"1"]
    setattr(disk, fault, None)
    assert await writer.append([[b"2"]]) == [1]
    await wal.close()
    assert await contents(open_log(world, LocalDisk(), tmp_path)) == [b"1", b"2"]


async def test_a_file_that_can_not_be_created_refuses_and_harms_nothing(
    world: World, tmp_path: Path
) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path, segment_size=100)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"1" * 100]])
    disk.create_error = DiskFull(str(tmp_path))
    for _ in range(2):
        with pytest.raises(DiskFull):
            await writer.append([[b"refused"]])
    disk.create_error = None
    assert await writer.append([[b"2"]]) == [1]
    assert await contents(wal) == [b"1" * 100, b"2"]
    await wal.close()


async def test_after_a_failed_sync_the_file_is_left(world: World, tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"1"]])
    disk.sync_error = Unavailable("input/output error")
    with pytest.raises(Unavailable, match="input/output"):
        await writer.append([[b"refused"]])
    await writer.append([[b"2"]])
    assert len(disk.list_directory(tmp_path / "p")) == 3  # two files and the term
    assert await contents(wal) == [b"1", b"2"]
    await wal.close()


async def test_what_a_failed_sync_left_is_written_anew_before_it_is_read(
    world: World, tmp_path: Path
) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"1"]])
    [name] = [name for name in disk.list_directory(tmp_path / "p") if name.endswith(".wal")]
    path = tmp_path / "p" / name
    synced_bytes = path.stat().st_size
    disk.sync_error = disk.truncate_error = Unavailable("input/output error")
    with pytest.raises(Unavailable):
        await writer.append([[b"2"]])
    disk.truncate_error = None
    await wal.open_writer("p", 2)
    assert await contents(wal) == [b"1", b"2"]
    await wal.close()
    # The system forgot that the bytes of the failed sync are not on the disk; then power fails.
    with path.open("r+b") as file:
        file.truncate(synced_bytes)
    assert await contents(open_log(world, LocalDisk(), tmp_path)) == [b"1", b"2"]


async def test_if_cutting_back_fails_the_writer_refuses_until_reopened(
    world: World, tmp_path: Path
) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"1"]])
    disk.write_error = DiskFull(str(tmp_path))
    disk.truncate_error = Unavailable("input/output error")
    with pytest.raises(Unavailable):
        await writer.append([[b"refused"]])
    disk.write_error = disk.truncate_error = None
    with pytest.raises(Unavailable, match="opened again"):
        await writer.append([[b"refused"]])
    writer = await wal.open_writer("p", 1)
    assert await writer.append([[b"2"]]) == [1]
    assert await contents(wal) == [b"1", b"2"]
    await wal.close()


async def test_appends_side_by_side_share_a_sync(world: World, tmp_path: Path) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"first"]])
    before = disk.syncs
    payloads = [b"%d" % number for number in range(20)]
    positions = await asyncio.gather(*(writer.append([[payload]]) for payload in payloads))
    assert positions == [[number] for number in range(1, 21)]
    assert disk.syncs - before == 1
    assert await contents(wal) == [b"first", *payloads]
    await wal.close()


async def test_appends_that_share_a_failed_write_are_all_refused_and_absent(
    world: World, tmp_path: Path
) -> None:
    disk = FaultyDisk()
    wal = open_log(world, disk, tmp_path)
    writer = await wal.open_writer("p", 1)
    disk.write_error = DiskFull(str(tmp_path))
    outcomes = await asyncio.gather(
        *(writer.append([[b"refused"]]) for _ in range(5)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [DiskFull] * 5
    disk.write_error = None
    assert await writer.append([[b"1"], [b"2"]]) == [0, 1]
    assert await contents(wal) == [b"1", b"2"]
    await wal.close()


async def test_closing_waits_for_appends_under_way(world: World, tmp_path: Path) -> None:
    wal = open_log(world, LocalDisk(), tmp_path)
    writer = await wal.open_writer("p", 1)
    appends = [asyncio.create_task(writer.append([[b"%d" % number]])) for number in range(5)]
    await asyncio.sleep(0)
    await writer.close()
    assert await asyncio.gather(*appends) == [[number] for number in range(5)]
    with pytest.raises(FencedWriter):
        await writer.append([])


@pytest.mark.parametrize("step", ["before_sync", "after_sync"])
async def test_a_writer_replaced_while_it_writes_acknowledges_nothing(
    world: World, tmp_path: Path, step: str
) -> None:
    wal = open_log(world, LocalDisk(), tmp_path)
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"1"]])
    world.failpoints.arm_with(
        f"wal.append.{step}", lambda: write_term(LocalDisk(), tmp_path / "p", 2)
    )
    with pytest.raises(FencedWriter, match="taken over at term 2"):
        await writer.append([[b"unknown"]])
    with pytest.raises(FencedWriter):
        await writer.append([[b"refused"]])
    await wal.close()
