"""The real disk: whole files or none, and errors that say where."""

import subprocess
import sys
from pathlib import Path

import pytest

from elanus.errors import DiskFull, Unavailable
from elanus.storage.disk import FileMissing, FileTaken, LocalDisk

HOLD_LOCK = """
import sys
from pathlib import Path
from elanus.storage.disk import LocalDisk
lock = LocalDisk().lock_file(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD_LOCK, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Unavailable, match=f"in use by process {holder.pid}"):
            LocalDisk().lock_file(path)
        holder.kill()
        holder.wait()
    LocalDisk().lock_file(path).release()


def test_a_durable_write_replaces_or_creates(tmp_path: Path) -> None:
    disk = LocalDisk()
    path = tmp_path / "a" / "b" / "file"
    disk.make_directories(path.parent)
    disk.make_directories(path.parent)
    disk.write_file_durably(path, [b"1", memoryview(b"2")])
    disk.write_file_durably(path, [b"3"])
    with pytest.raises(FileTaken):
        disk.write_file_durably(path, [b"4"], create_only=True)
    assert disk.read_file(path) == b"3"
    assert disk.list_directory(path.parent) == ["file"]


def test_ranges_end_with_the_file(tmp_path: Path) -> None:
    disk = LocalDisk()
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert bytes(disk.read_range(path, 3, 4)) == b"3456"
    assert bytes(disk.read_range(path, 8, 40)) == b"89"
    assert bytes(disk.read_range(path, 80, 1)) == b""


def test_an_append_handle_knows_its_size(tmp_path: Path) -> None:
    disk = LocalDisk()
    path = tmp_path / "file"
    with pytest.raises(FileMissing):
        disk.open_append(path)
    path.write_bytes(b"ab")
    handle = disk.open_append(path)
    handle.write([b"c", b"", b"de"])
    assert handle.size == 5
    handle.truncate(3)
    handle.write([b"!"])
    handle.sync()
    handle.close()
    assert path.read_bytes() == b"abc!"


def test_missing_and_forbidden_things_are_told_by_path(tmp_path: Path) -> None:
    disk = LocalDisk()
    with pytest.raises(FileMissing, match="nothing"):
        disk.read_file(tmp_path / "nothing")
    assert disk.list_directory(tmp_path / "nothing") == []
    assert disk.file_info(tmp_path / "nothing") is None
    disk.remove(tmp_path / "nothing")
    with pytest.raises(Unavailable, match=str(tmp_path)):
        disk.read_file(tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device to try")
def test_a_full_device_is_disk_full() -> None:
    handle = LocalDisk().open_append(Path("/dev/full"))
    with pytest.raises(DiskFull, match="/dev/full"):
        handle.write([b"x"])
    handle.close()


def test_a_watch_notices_every_other_file_of_the_name(tmp_path: Path) -> None:
    disk = LocalDisk()
    path = tmp_path / "file"
    disk.write_file_durably(path, [b"1"])
    watch = disk.watch_file(path)
    assert watch.is_unchanged()
    for _ in range(5):  # the system gives numbers of files again
        disk.write_file_durably(path, [b"1"])
        assert not watch.is_unchanged()
    watch.close()
    watch = disk.watch_file(path)
    assert watch.is_unchanged()
    path.write_bytes(b"22")
    assert not watch.is_unchanged()
    disk.remove(path)
    assert not watch.is_unchanged()
    watch.close()
    with pytest.raises(FileMissing):
        disk.watch_file(path)
