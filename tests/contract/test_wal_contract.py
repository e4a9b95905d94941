"""What every write-ahead log must do. A new backend joins by another case of ``log``.

``log.reopen()`` gives a log over the same storage, as a new process would see it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from elanus.config.settings import WalSettings
from elanus.config.storage import (
    LogstoreSettings,
    SegmentRollingPolicySettings,
    SegmentSyncPolicySettings,
    WoodpeckerClientSettings,
    WoodpeckerSettings,
)
from elanus.errors import FencedWriter
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.objects.base import ObjectStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.wal.base import Wal, WalRecord
from elanus.storage.wal.local import LocalWal
from elanus.storage.wal.memory import MemoryWal
from elanus.storage.wal.woodpecker import WoodpeckerWal

CLUSTER = "7a0e7c0c-3b8e-4a51-9b9d-2f6d1c6f5a10"
SMALL_FILES = WalSettings(segment_size=400)
SMALL_FRAGMENTS = WoodpeckerSettings(
    client=WoodpeckerClientSettings(
        segment_rolling_policy=SegmentRollingPolicySettings(max_blocks=3)
    ),
    logstore=LogstoreSettings(
        segment_sync_policy=SegmentSyncPolicySettings(max_flush_size=64, max_flush_threads=3)
    ),
)
Reopen = Callable[[], Wal]


BACKENDS = [
    "memory",
    "local",
    "local in small files",
    "local without sync",
    "woodpecker on memory",
    "woodpecker on memory in small fragments",
    "woodpecker on local",
]


@pytest.fixture(params=BACKENDS)
async def reopen(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Reopen:
    if request.param == "memory":
        shared = MemoryWal()
        return lambda: shared
    if request.param.startswith("woodpecker"):
        small = request.param.endswith("in small fragments")
        woodpecker = SMALL_FRAGMENTS if small else WoodpeckerSettings()
        store: ObjectStore = MemoryObjectStore(world)
        if request.param == "woodpecker on local":
            store = await LocalObjectStore.open(world, LocalDisk(), tmp_path / "objects")
        return lambda: WoodpeckerWal(world, store, woodpecker, CLUSTER)
    settings = {
        "local": WalSettings(),
        "local in small files": SMALL_FILES,
        "local without sync": WalSettings(sync=False, segment_size=400),
    }[request.param]
    return lambda: LocalWal(world, LocalDisk(), tmp_path / "wal", settings, CLUSTER)


async def contents(wal: Wal, channel: str = "p", after: int = -1) -> list[tuple[int, bytes]]:
    return [(record.position, bytes(record.payload)) async for record in wal.read(channel, after)]


async def test_records_come_back_in_order_as_the_sum_of_their_parts(reopen: Reopen) -> None:
    wal = reopen()
    assert await contents(wal) == []
    writer = await wal.open_writer("p", 1)
    first = await writer.append([[b"a", b"", b"b"], [b""]])
    second = await writer.append([[memoryview(b"c" * 1_000)]])
    positions = [*first, *second]
    assert positions == sorted(set(positions))
    expected = list(zip(positions, [b"ab", b"", b"c" * 1_000], strict=True))
    assert await contents(wal) == expected
    assert await contents(wal, after=first[0]) == expected[1:]
    assert await contents(wal, after=second[0]) == []
    assert await writer.append([]) == []
    await wal.close()


async def test_what_was_acknowledged_is_there_after_reopening(reopen: Reopen) -> None:
    expected = []
    for term in range(1, 5):
        wal = reopen()
        writer = await wal.open_writer("p", term)
        for number in range(4):
            payload = b"%d-%d" % (term, number)
            expected += [(position, payload) for position in await writer.append([[payload]])]
        await wal.close()
        assert await contents(reopen()) == expected
    assert [position for position, _ in expected] == sorted({p for p, _ in expected})


async def test_concurrent_appends_keep_apart(reopen: Reopen) -> None:
    wal = reopen()
    writer = await wal.open_writer("p", 1)
    groups = await asyncio.gather(
        *(writer.append([[b"%d" % number], [b"!"]]) for number in range(30))
    )
    found = dict(await contents(wal))
    assert len(found) == 60
    for number, (first, second) in enumerate(groups):
        assert found[first] == b"%d" % number
        assert found[second] == b"!"
        assert second > first
    await wal.close()


async def test_a_cancelled_append_is_whole_or_absent_and_harms_no_other(reopen: Reopen) -> None:
    wal = reopen()
    writer = await wal.open_writer("p", 1)
    lost = asyncio.create_task(writer.append([[b"lost" * 50_000]]))
    await asyncio.sleep(0)
    lost.cancel()
    position = (await writer.append([[b"kept"]]))[0]
    await asyncio.gather(lost, return_exceptions=True)
    found = await contents(wal)
    assert found[-1] == (position, b"kept")
    assert [payload for _, payload in found[:-1]] in ([], [b"lost" * 50_000])
    await wal.close()


async def test_channels_are_apart(reopen: Reopen) -> None:
    wal = reopen()
    one, two = await wal.open_writer("p_1", 1), await wal.open_writer("p_2", 7)
    await one.append([[b"1"]])
    await two.append([[b"2"]])
    assert [payload for _, payload in await contents(wal, "p_1")] == [b"1"]
    assert [payload for _, payload in await contents(wal, "p_2")] == [b"2"]
    assert await wal.list_channels() == ["p_1", "p_2"]
    await wal.close()


async def take(records: AsyncIterator[WalRecord], count: int) -> list[bytes]:
    async with asyncio.timeout(20):
        return [bytes((await anext(records)).payload) for _ in range(count)]


async def test_a_tail_follows_the_log_from_before_its_first_record(reopen: Reopen) -> None:
    wal = reopen()
    tail = wal.tail("p")
    waiting = asyncio.create_task(take(tail, 3))
    writer = await wal.open_writer("p", 1)
    first = await writer.append([[b"1"], [b"2"]])
    await writer.append([[b"3"]])
    assert await waiting == [b"1", b"2", b"3"]
    later = wal.tail("p", first[0])
    assert await take(later, 2) == [b"2", b"3"]
    writer = await wal.open_writer("p", 2)
    await writer.append([[b"4"]])
    assert await take(tail, 1) == await take(later, 1) == [b"4"]
    await wal.close()
    with pytest.raises(StopAsyncIteration):
        await anext(tail)


async def test_a_newer_term_fences_the_older_writer(reopen: Reopen) -> None:
    old_wal, new_wal = reopen(), reopen()
    old = await old_wal.open_writer("p", 1)
    await old.append([[b"1"]])
    new = await new_wal.open_writer("p", 2)
    with pytest.raises(FencedWriter):
        await old.append([[b"zombie"]])
    await new.append([[b"2"]])
    with pytest.raises(FencedWriter):
        await old.append([[b"zombie"]])
    with pytest.raises(FencedWriter):
        await old_wal.open_writer("p", 1)
    assert [payload for _, payload in await contents(reopen())] == [b"1", b"2"]
    await old_wal.close()
    await new_wal.close()


async def test_the_same_term_may_open_again_and_the_former_writer_ends(reopen: Reopen) -> None:
    wal = reopen()
    former = await wal.open_writer("p", 1)
    await former.append([[b"1"]])
    writer = await wal.open_writer("p", 1)
    with pytest.raises(FencedWriter):
        await former.append([[b"zombie"]])
    await writer.append([[b"2"]])
    assert [payload for _, payload in await contents(wal)] == [b"1", b"2"]
    await wal.close()


async def test_truncation_keeps_everything_behind_it(reopen: Reopen) -> None:
    wal = reopen()
    writer = await wal.open_writer("p", 1)
    positions = [(await writer.append([[b"%03d" % number * 30]]))[0] for number in range(30)]
    before = await wal.size_bytes()
    await wal.truncate("p", positions[19])
    kept = await contents(wal, after=positions[19])
    assert kept == [(positions[n], b"%03d" % n * 30) for n in range(20, 30)]
    assert await wal.size_bytes() <= before
    await wal.truncate("p", positions[-1])
    await wal.truncate("q", 5)
    await wal.close()
    wal = reopen()
    writer = await wal.open_writer("p", 2)
    assert (await writer.append([[b"next"]]))[0] > positions[-1]
    await wal.close()


async def test_a_closed_writer_refuses(reopen: Reopen) -> None:
    wal = reopen()
    writer = await wal.open_writer("p", 1)
    await writer.close()
    await writer.close()
    with pytest.raises(FencedWriter):
        await writer.append([[b"late"]])
    await wal.close()
