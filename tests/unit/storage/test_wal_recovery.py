"""The local WAL after power failures and damage: files are cut and scrambled at every byte."""

import asyncio
import random
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elanus.config.settings import WalSettings
from elanus.errors import CorruptData, InternalError, Unavailable
from elanus.runtime.clock import SystemClock
from elanus.runtime.failpoints import Failpoints
from elanus.runtime.memory import MemoryLedger
from elanus.runtime.tasks import TaskSupervisor
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.wal._frames import FrameEncoder
from elanus.storage.wal.base import WalWriter
from elanus.storage.wal.local import LocalWal

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"
FIRST_FILE = "00000000000000000000.wal"


class InlineExecutor:
    async def run(self, pool, function, *args, **kwargs):  # type: ignore[no-untyped-def]
        return function(*args, **kwargs)

    def start(self, pool, function):  # type: ignore[no-untyped-def]
        return asyncio.ensure_future(self.run(pool, function))

    def close(self) -> None:
        pass


def inline_world() -> World:
    return World(
        clock=SystemClock(),
        random=random.Random(1),
        executor=InlineExecutor(),
        tasks=TaskSupervisor(),
        failpoints=Failpoints(),
        memory=MemoryLedger(1 << 30),
    )


class UnsyncedDisk(LocalDisk):
    """Real files, whose bytes nobody waits for: tests that cut files themselves are faster so."""

    def sync_directory(self, path: Path) -> None:
        pass


def open_log(root: Path, segment_size: int = 1 << 20) -> LocalWal:
    settings = WalSettings(segment_size=segment_size)
    return LocalWal(inline_world(), UnsyncedDisk(), root, settings, CLUSTER)


async def contents(wal: LocalWal) -> list[bytes]:
    return [bytes(record.payload) async for record in wal.read("p")]


def payloads(count: int, first: int = 0) -> list[bytes]:
    return [b"%d:" % number * (number % 17 + 1) for number in range(first, first + count)]


async def append(writer: WalWriter, group: list[bytes]) -> None:
    await writer.append([[payload] for payload in group])


async def write_log(root: Path, groups: list[int]) -> tuple[list[bytes], list[int]]:
    """Append groups of so many records; all payloads, and the file's size after each group."""
    wal = open_log(root)
    writer = await wal.open_writer("p", 1)
    written: list[bytes] = []
    sizes = []
    for count in groups:
        group = payloads(count, len(written))
        await append(writer, group)
        written += group
        sizes.append((root / "p" / FIRST_FILE).stat().st_size)
    await wal.close()
    return written, sizes


async def recover(root: Path, data: bytes) -> list[bytes]:
    """Records after a crash that left ``data``; checks that the log then works on."""
    (root / "p" / FIRST_FILE).write_bytes(data)
    for name in root.joinpath("p").iterdir():
        if name.name != FIRST_FILE:
            name.unlink()
    wal = open_log(root)
    before = await contents(wal)
    writer = await wal.open_writer("p", 2)
    recovered = await contents(wal)
    assert before == recovered
    assert await writer.append([[b"after"], [b"crash"]]) == [
        len(recovered),
        len(recovered) + 1,
    ]
    await wal.close()
    assert await contents(open_log(root)) == [*recovered, b"after", b"crash"]
    return recovered


async def test_a_log_cut_at_any_byte_holds_every_acknowledged_record(tmp_path: Path) -> None:
    written, sizes = await write_log(tmp_path, [3, 2, 4])
    data = (tmp_path / "p" / FIRST_FILE).read_bytes()
    for end in range(sizes[1], len(data) + 1):
        recovered = await recover(tmp_path, data[:end])
        assert recovered == written[: len(recovered)]
        assert len(recovered) >= 5, f"cut at {end}"
    assert await recover(tmp_path, data) == written


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), groups=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_pages_of_the_last_group_may_arrive_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, groups: list[int]
) -> None:
    root = tmp_path_factory.mktemp("wal")

    async def check() -> None:
        written, sizes = await write_log(root, groups)
        whole = (root / "p" / FIRST_FILE).read_bytes()
        durable_size = sizes[-2] if len(sizes) > 1 else 64
        torn = bytearray(whole)
        page = data.draw(st.sampled_from([32, 64, 100]), "page size")
        for start in range(durable_size, len(whole), page):
            fate = data.draw(st.sampled_from(["kept", "zero", "noise"]), "page")
            end = min(start + page, len(whole))
            if fate == "zero":
                torn[start:end] = bytes(end - start)
            elif fate == "noise":
                torn[start:end] = random.Random(start).randbytes(end - start)
        end = data.draw(st.integers(durable_size, len(whole)), "end")
        recovered = await recover(root, bytes(torn[:end]))
        assert recovered == written[: len(recovered)]
        assert len(recovered) >= sum(groups[:-1])

    asyncio.run(check())
    shutil.rmtree(root)


async def test_a_flipped_bit_in_durable_records_is_reported_and_never_served(
    tmp_path: Path,
) -> None:
    written, sizes = await write_log(tmp_path, [2, 2, 1])
    path = tmp_path / "p" / FIRST_FILE
    data = path.read_bytes()
    for offset in range(sizes[1]):
        path.write_bytes(data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :])
        found: list[bytes] | CorruptData
        try:
            found = await contents(open_log(tmp_path))
        except CorruptData as error:
            found = error
        if isinstance(found, CorruptData):
            assert str(path) in found.message
            with pytest.raises(CorruptData):
                await open_log(tmp_path).open_writer("p", 2)
        else:
            assert found == written, f"bit at {offset} changed what is read"


async def test_a_flipped_bit_in_an_older_file_is_reported(tmp_path: Path) -> None:
    wal = open_log(tmp_path, segment_size=200)
    writer = await wal.open_writer("p", 1)
    await append(writer, payloads(12))
    await append(writer, payloads(12))
    await wal.close()
    path = tmp_path / "p" / FIRST_FILE
    data = bytearray(path.read_bytes())
    data[64 + 32] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptData, match=r"offset 64 \(position 0\)"):
        await contents(open_log(tmp_path))


async def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    wal = open_log(tmp_path, segment_size=200)
    writer = await wal.open_writer("p", 1)
    for number in range(12):
        await append(writer, payloads(3, number))
    await wal.close()
    files = sorted((tmp_path / "p").glob("*.wal"))
    assert len(files) > 3
    files[1].unlink()
    with pytest.raises(CorruptData, match="damaged"):
        await contents(open_log(tmp_path))


async def test_a_log_of_another_cluster_is_refused(tmp_path: Path) -> None:
    await write_log(tmp_path, [1])
    other = CLUSTER.replace("7a", "7b")
    wal = LocalWal(inline_world(), UnsyncedDisk(), tmp_path, WalSettings(), other)
    with pytest.raises(CorruptData, match="belongs to the cluster"):
        await wal.open_writer("p", 2)


async def test_other_files_in_the_directory_are_no_channels(tmp_path: Path) -> None:
    await write_log(tmp_path, [1])
    (tmp_path / "cluster.json").write_bytes(b"{}")
    wal = open_log(tmp_path)
    assert await wal.list_channels() == ["p"]
    assert await wal.size_bytes() == (tmp_path / "p" / FIRST_FILE).stat().st_size


async def test_debris_of_a_crash_is_removed(tmp_path: Path) -> None:
    written, _ = await write_log(tmp_path, [2])
    debris = tmp_path / "p" / "00000000000000000002.wal.tmp"
    debris.write_bytes(b"half a header")
    wal = open_log(tmp_path)
    await wal.open_writer("p", 2)
    assert not debris.exists()
    assert await contents(wal) == written


@pytest.mark.parametrize("step", ["before_write", "before_sync", "after_sync"])
async def test_after_an_unknown_failure_the_writer_refuses_until_reopened(
    tmp_path: Path, step: str
) -> None:
    world = inline_world()
    wal = LocalWal(world, UnsyncedDisk(), tmp_path, WalSettings(), CLUSTER)
    writer = await wal.open_writer("p", 1)
    await append(writer, [b"1"])
    world.failpoints.arm(f"wal.append.{step}", "error")
    with pytest.raises(InternalError):
        await append(writer, [b"2"])
    with pytest.raises(Unavailable, match="opened again"):
        await append(writer, [b"3"])
    assert await contents(wal) == [b"1"]
    writer = await wal.open_writer("p", 2)
    await append(writer, [b"4"])
    kept = [b"1", b"4"] if step == "before_write" else [b"1", b"2", b"4"]
    assert await contents(wal) == kept
    await wal.close()


async def test_a_zombie_write_behind_the_new_writers_back_is_not_read(tmp_path: Path) -> None:
    wal = open_log(tmp_path)
    writer = await wal.open_writer("p", 1)
    await append(writer, [b"1"])
    new_wal = open_log(tmp_path)
    new_writer = await new_wal.open_writer("p", 2)
    await append(new_writer, [b"2"])
    old_file = tmp_path / "p" / FIRST_FILE
    zombie = b"".join(FrameEncoder().encode(1, 1, [[b"zombie"]], [6]))
    old_file.write_bytes(old_file.read_bytes() + zombie)
    assert await contents(open_log(tmp_path)) == [b"1", b"2"]
    await wal.close()
    await new_wal.close()


async def test_small_records_that_share_a_frame_are_read_whole_and_aligned(tmp_path: Path) -> None:
    wal = open_log(tmp_path)
    writer = await wal.open_writer("p", 1)
    written = [bytes([number % 251]) * (number % 97) for number in range(2_000)]
    assert await writer.append([[each[:3], each[3:]] for each in written]) == list(range(2_000))
    (file,) = (tmp_path / "p").glob("*.wal")
    assert file.stat().st_size < 2_000 * 64 + 2_000 * 97, "no frame for each"
    await wal.close()
    records = [record async for record in open_log(tmp_path).read("p")]
    assert [record.payload.tobytes() for record in records] == written
    for record in records:
        if record.payload:
            assert np.frombuffer(record.payload, np.uint8).ctypes.data % 32 == 0


async def test_files_with_a_frame_for_each_record_are_still_read(tmp_path: Path) -> None:
    wal = open_log(tmp_path)
    writer = await wal.open_writer("p", 1)
    for number in range(3):
        await writer.append([[b"%d" % number]])
    await wal.close()
    (file,) = (tmp_path / "p").glob("*.wal")
    data = bytearray(file.read_bytes())
    data[8:12] = struct.pack("<I", 1)
    data[60:64] = struct.pack("<I", zlib.crc32(data[:60]))
    file.write_bytes(data)
    wal = open_log(tmp_path)
    writer = await wal.open_writer("p", 2)
    assert await writer.append([[b"3"], [b"4"]]) == [3, 4]
    assert await contents(wal) == [b"0", b"1", b"2", b"3", b"4"]
    await wal.close()
