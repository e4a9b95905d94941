"""The local WAL on a disk that keeps only what was synced, through any sequence of crashes."""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.storage.test_wal_recovery import CLUSTER, inline_world

from elanus.config.settings import WalSettings
from elanus.errors import DiskFull
from elanus.storage.disk import DirectoryLock, FileInfo, FileMissing
from elanus.storage.objects.base import Buffer
from elanus.storage.wal.local import LocalWal

T = TypeVar("T")
ROOT = Path("/wal")


class PowerFailure(BaseException):
    pass


class ForgetfulDisk:
    """Files in memory: ``synced`` is what a power failure leaves for sure."""

    def __init__(self) -> None:
        self.current: dict[Path, bytearray] = {}
        self.synced: dict[Path, bytes] = {}
        self.fail_at: str = ""
        self.room: int = 1 << 40

    def lose_power(self, chance: random.Random) -> None:
        """Of what was not synced, any part may be there, in any order."""
        survived = {}
        for path, safe in self.synced.items():
            data = bytearray(self.current.get(path, b""))
            data[: len(safe)] = safe
            for start in range(len(safe), len(data), 32):
                if chance.random() < 0.3:
                    end = min(start + 32, len(data))
                    data[start:end] = bytes(end - start)
            survived[path] = data[: chance.randint(len(safe), len(data))]
        self.current = survived
        self.synced = {path: bytes(data) for path, data in survived.items()}
        self.fail_at = ""

    def make_directories(self, path: Path) -> None:
        pass

    def list_directory(self, path: Path) -> list[str]:
        return sorted(file.name for file in self.current if file.parent == path)

    def file_info(self, path: Path) -> FileInfo | None:
        return FileInfo(len(self.current[path]), 0) if path in self.current else None

    def open_append(self, path: Path) -> "ForgetfulHandle":
        if path not in self.current:
            raise FileMissing(path)
        return ForgetfulHandle(self, path)

    def read_file(self, path: Path) -> bytes:
        if path not in self.current:
            raise FileMissing(path)
        return bytes(self.current[path])

    def read_range(self, path: Path, start: int, length: int) -> memoryview:
        return memoryview(self.read_file(path))[start : start + length]

    def watch_file(self, path: Path) -> "ForgetfulWatch":
        return ForgetfulWatch(self, path)

    def write_file_durably(
        self,
        path: Path,
        parts: Sequence[Buffer],
        *,
        temporary: Path | None = None,
        create_only: bool = False,
    ) -> None:
        data = b"".join(parts)
        self._take(path, len(data))
        self.current[path] = bytearray(data)
        self.synced[path] = data

    def _take(self, path: Path, size: int) -> None:
        if self.room < size:
            raise DiskFull(str(path))
        self.room -= size

    def adopt_file(self, source: Path, path: Path, *, create_only: bool = False) -> None:
        raise NotImplementedError

    def rename(self, source: Path, target: Path) -> None:
        raise NotImplementedError

    def remove(self, path: Path) -> None:
        self.current.pop(path, None)
        self.synced.pop(path, None)

    def sync_directory(self, path: Path) -> None:
        pass

    def lock_file(self, path: Path) -> DirectoryLock:
        raise NotImplementedError


class ForgetfulHandle:
    def __init__(self, disk: ForgetfulDisk, path: Path) -> None:
        self._disk = disk
        self._data = disk.current[path]
        self._path = path

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, parts: Sequence[Buffer]) -> None:
        data = b"".join(parts)
        if self._disk.fail_at == "write":
            self._data += data[: len(data) // 3]
            raise PowerFailure
        if self._disk.room < len(data):
            self._data += data[: self._disk.room]
        self._disk._take(self._path, len(data))
        self._data += data

    def sync(self) -> None:
        if self._disk.fail_at == "sync":
            raise PowerFailure
        if self._disk.current.get(self._path) is self._data:
            self._disk.synced[self._path] = bytes(self._data)
        if self._disk.fail_at == "after sync":
            raise PowerFailure

    def truncate(self, size: int) -> None:
        del self._data[size:]
        if self._path in self._disk.synced:
            self._disk.synced[self._path] = self._disk.synced[self._path][:size]

    def close(self) -> None:
        pass


class ForgetfulWatch:
    def __init__(self, disk: ForgetfulDisk, path: Path) -> None:
        if path not in disk.current:
            raise FileMissing(path)
        self._disk = disk
        self._path = path
        self._data = disk.current[path]

    def is_unchanged(self) -> bool:
        return self._disk.current.get(self._path) is self._data

    def close(self) -> None:
        pass


class WalAndPowerLoss(RuleBasedStateMachine):
    """``known``: payload by position of what must be there; ``truncated``: what may be gone."""

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.disk = ForgetfulDisk()
        self.term = 0
        self.truncated = -1
        self.counter = 0
        self.known: dict[int, bytes] = {}
        self.open()

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(step)

    def open(self) -> None:
        self.term += 1
        settings = WalSettings(segment_size=500)
        self.wal = LocalWal(inline_world(), self.disk, ROOT, settings, CLUSTER)
        self.writer = self.run(self.wal.open_writer("p", self.term))

    def group(self, sizes: list[int]) -> list[bytes]:
        self.counter += 1
        return [b"%d/%d|" % (self.counter, number) * size for number, size in enumerate(sizes)]

    SIZES = st.lists(st.integers(0, 20), min_size=1, max_size=5)

    @rule(sizes=SIZES)
    def append(self, sizes: list[int]) -> None:
        group = self.group(sizes)
        positions = self.run(self.writer.append([[payload] for payload in group]))
        self.known.update(zip(positions, group, strict=True))

    @rule(sizes=SIZES, room=st.integers(0, 300))
    def append_without_room(self, sizes: list[int], room: int) -> None:
        self.disk.room = room
        group = self.group(sizes)
        try:
            positions = self.run(self.writer.append([[payload] for payload in group]))
        except DiskFull:
            positions = []
        self.known.update(zip(positions, group, strict=False))
        self.disk.room = 1 << 40

    @rule(
        sizes=SIZES,
        at=st.sampled_from(["write", "sync", "after sync"]),
        power_too=st.booleans(),
        seed=st.integers(),
    )
    def the_process_dies_in_an_append(
        self, sizes: list[int], at: str, power_too: bool, seed: int
    ) -> None:
        self.disk.fail_at = at
        group = self.group(sizes)
        try:
            self.loop.run_until_complete(self.writer.append([[payload] for payload in group]))
        except PowerFailure:
            pass
        else:
            raise AssertionError("the append survived")
        self.restart(random.Random(seed) if power_too else None)
        found = self.contents()
        first = max(self.known, default=-1) + 1
        new = [found[position] for position in sorted(found) if position >= first]
        assert new == group[: len(new)], "an unacknowledged record changed"
        self.known.update(enumerate(new, first))

    @rule(seed=st.integers())
    def power_fails_while_idle(self, seed: int) -> None:
        self.restart(random.Random(seed))

    def restart(self, chance: random.Random | None) -> None:
        """``chance`` decides what a power failure leaves; None: only the process died."""
        self.loop.close()
        self.loop = asyncio.new_event_loop()
        if chance is not None:
            self.disk.lose_power(chance)
        self.disk.fail_at = ""
        self.open()

    @rule()
    def process_restarts(self) -> None:
        self.run(self.wal.close())
        self.open()

    @rule(back=st.integers(0, 10))
    def truncate(self, back: int) -> None:
        upto = max(self.known, default=-1) - back
        self.run(self.wal.truncate("p", upto))
        self.truncated = max(self.truncated, upto)

    def contents(self) -> dict[int, bytes]:
        async def read() -> dict[int, bytes]:
            return {r.position: bytes(r.payload) async for r in self.wal.read("p")}

        return self.run(read())

    @invariant()
    def everything_acknowledged_is_there_once(self) -> None:
        found = self.contents()
        positions = sorted(found)
        assert positions == list(range(positions[0], positions[-1] + 1)) if positions else True
        assert {p: v for p, v in found.items() if p > self.truncated} == {
            p: v for p, v in self.known.items() if p > self.truncated
        }
        assert found.items() <= self.known.items()

    def teardown(self) -> None:
        self.loop.close()


TestWalAndPowerLoss = WalAndPowerLoss.TestCase
TestWalAndPowerLoss.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
