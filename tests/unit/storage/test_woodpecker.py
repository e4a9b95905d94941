"""The log on objects: races of openers and writers, what it costs, damage, following."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from tests.contract.conftest import ManualClock
from tests.unit.storage.objects_in_trouble import CLUSTER, Connection, LateEffects, process_world
from tests.unit.storage.test_woodpecker_crashes import contents, idle

from elanus.config.storage import (
    LogstoreSettings,
    SegmentCompactionPolicySettings,
    SegmentRollingPolicySettings,
    SegmentSyncPolicySettings,
    WoodpeckerClientSettings,
    WoodpeckerSettings,
)
from elanus.errors import CorruptData, FencedWriter, TooManyRequests
from elanus.runtime.world import World
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.wal._woodpecker_upkeep import FENCE_RETENTION_MS, KEPT_FENCES
from elanus.storage.wal.base import WalRecord
from elanus.storage.wal.woodpecker import WoodpeckerWal


def sync(**policy: Any) -> WoodpeckerSettings:
    return WoodpeckerSettings(
        logstore=LogstoreSettings(segment_sync_policy=SegmentSyncPolicySettings(**policy))
    )


def rolling(blocks: int) -> WoodpeckerSettings:
    policy = SegmentRollingPolicySettings(max_blocks=blocks)
    return WoodpeckerSettings(
        client=WoodpeckerClientSettings(segment_rolling_policy=policy),
        logstore=LogstoreSettings(
            segment_compaction_policy=SegmentCompactionPolicySettings(max_size=100_000)
        ),
    )


class Bucket:
    """One object store and the processes that use it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryObjectStore(self.world(0))
        self.late = LateEffects(self.store)
        self._processes = 0

    def world(self, seed: int) -> World:
        world = process_world(seed)
        object.__setattr__(world, "clock", self.clock)
        return world

    def process(
        self,
        settings: WoodpeckerSettings | None = None,
        before_request: Callable[[str], str] = lambda name: "",
    ) -> tuple[WoodpeckerWal, Connection]:
        self._processes += 1
        connection = Connection(self.store, self.late, before_request, seed=self._processes)
        world = self.world(self._processes)
        return WoodpeckerWal(world, connection, settings or sync(), CLUSTER), connection

    async def keys(self) -> list[str]:
        return [info.key for info in await self.store.list("")]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


# --- who may write --------------------------------------------------------------------------------


@pytest.mark.parametrize("term_of_second", [1, 2])
async def test_of_two_that_open_at_once_exactly_one_can_append(
    bucket: Bucket, term_of_second: int
) -> None:
    (one, slow), (two, _) = bucket.process(), bucket.process()
    slow.hold()
    opening = asyncio.create_task(one.open_writer("p", 1))
    await idle()
    quick = await two.open_writer("p", term_of_second)
    slow.release()
    (outcome,) = await asyncio.gather(opening, return_exceptions=True)
    appends = [quick.append([[b"quick"]])]
    if isinstance(outcome, BaseException):
        assert term_of_second == 2
        assert isinstance(outcome, FencedWriter)
    else:
        assert term_of_second == 1
        appends.append(outcome.append([[b"slow"]]))
    results = await asyncio.gather(*appends, return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == 1
    assert all(isinstance(result, list | FencedWriter) for result in results)
    assert len(await contents(two)) == 1


async def test_a_paused_writer_never_gets_an_acknowledgement_however_long_it_slept(
    bucket: Bucket,
) -> None:
    old_wal, old_connection = bucket.process()
    old = await old_wal.open_writer("p", 1)
    await old.append([[b"1"]])
    old_connection.hold()
    zombie = asyncio.create_task(old.append([[b"zombie"]]))
    await idle()
    for term in range(2, KEPT_FENCES + 4):
        wal, _ = bucket.process()
        writer = await wal.open_writer("p", term)
        (position,) = await writer.append([[b"%d" % term]])
        bucket.clock.advance(2 * FENCE_RETENTION_MS / 1_000)
        await wal.truncate("p", position)
    before = await bucket.keys()
    assert len(before) < KEPT_FENCES + 4, "the oldest fences are gone"
    old_connection.release()
    with pytest.raises(FencedWriter):
        await zombie
    assert b"zombie" not in (await contents(wal)).values()


async def test_an_opener_overtakes_a_writer_that_never_rests(bucket: Bucket) -> None:
    busy, _ = bucket.process(sync(max_flush_size=1))
    writer = await busy.open_writer("p", 1)
    acknowledged: list[int] = []

    async def append_for_ever() -> None:
        while True:
            acknowledged.extend(await writer.append([[b"x"], [b"y"], [b"z"]]))

    appending = [asyncio.create_task(append_for_ever()) for _ in range(4)]
    await idle()
    wal, _ = bucket.process()
    newer = await wal.open_writer("p", 2)
    for task in appending:
        with pytest.raises(FencedWriter):
            await task
    (last,) = await newer.append([[b"last"]])
    found = await contents(wal)
    assert set(acknowledged) <= set(found)
    assert max(found) == last


async def test_a_failed_upload_loses_what_is_behind_it_too(bucket: Bucket) -> None:
    fates = iter(["", "", "late"])
    wal, _ = bucket.process(
        sync(max_flush_size=1),
        lambda name: next(fates, "") if name.startswith("put") else "",
    )
    writer = await wal.open_writer("p", 1)
    appends = [writer.append([[b"%d" % number]]) for number in range(4)]
    outcomes = await asyncio.gather(*appends, return_exceptions=True)
    acknowledged = [outcome for outcome in outcomes if isinstance(outcome, list)]
    assert outcomes[: len(acknowledged)] == acknowledged
    writer = await wal.open_writer("p", 1)
    before = await contents(wal)
    assert {position for positions in acknowledged for position in positions} <= set(before)
    await writer.append([[b"goes on"]])
    while bucket.late.waiting:
        await bucket.late.land()
    assert list(await contents(wal))[: len(before)] == list(before)
    assert len(await contents(wal)) == len(before) + 1


# --- group commit ---------------------------------------------------------------------------------


async def test_appends_that_come_together_share_an_object(bucket: Bucket) -> None:
    wal, _ = bucket.process()
    writer = await wal.open_writer("p", 1)
    await asyncio.gather(*(writer.append([[b"%d" % number]]) for number in range(100)))
    assert wal.counters.fragments == 1
    assert wal.counters.appends == wal.counters.records == 100
    await writer.append([[b"alone"]])
    assert wal.counters.fragments == 2
    assert wal.counters.puts == 3, "the fence and two fragments"


async def test_appends_wait_for_others_as_long_as_the_settings_say(bucket: Bucket) -> None:
    wal, _ = bucket.process(sync(max_interval=200, max_flush_size=10))
    writer = await wal.open_writer("p", 1)
    first = asyncio.create_task(writer.append([[b"1"]]))
    await idle()
    second = asyncio.create_task(writer.append([[b"2"]]))
    await idle()
    assert not first.done()
    bucket.clock.advance(0.2)
    assert (await first)[0] + 1 == (await second)[0]
    assert wal.counters.fragments == 1
    await writer.append([[b"x" * 10]])
    assert wal.counters.fragments == 2
    last = asyncio.create_task(writer.append([[b"3"]]))
    await idle()
    await writer.close()
    assert await last


async def test_a_large_append_is_cut_between_records(bucket: Bucket) -> None:
    wal, _ = bucket.process(sync(max_flush_size=100, max_flush_threads=2))
    writer = await wal.open_writer("p", 1)
    payloads = [bytes([number]) * size for number, size in enumerate([40, 70, 250, 1, 1, 99])]
    positions = await writer.append([[payload] for payload in payloads])
    assert wal.counters.fragments == 5
    assert await contents(wal) == dict(zip(positions, payloads, strict=True))


async def test_bytes_that_wait_are_bounded(bucket: Bucket) -> None:
    wal, connection = bucket.process(sync(max_bytes=100))
    writer = await wal.open_writer("p", 1)
    connection.hold()
    first = asyncio.create_task(writer.append([[b"x" * 80]]))
    await idle()
    with pytest.raises(TooManyRequests):
        await writer.append([[b"y" * 30]])
    connection.release()
    await first
    await writer.append([[b"z" * 300]])
    assert list((await contents(wal)).values()) == [b"x" * 80, b"z" * 300]


# --- segments, merging, damage --------------------------------------------------------------------


async def test_small_fragments_of_ended_segments_are_merged(bucket: Bucket) -> None:
    wal, _ = bucket.process(rolling(blocks=10))
    writer = await wal.open_writer("p", 1)
    expected = {}
    for number in range(35):
        (position,) = await writer.append([[b"%d" % number]])
        expected[position] = b"%d" % number
    await idle(3_000)
    merged = [key for key in await bucket.keys() if "-" in key]
    assert len(merged) == 3
    assert len(await bucket.keys()) == 1 + 3 * 2 + 5, "fence; copies and seals; the last segment"
    reader, _ = bucket.process()
    assert await contents(reader) == expected
    assert reader.counters.gets == 3 * 2 + 5
    middle = sorted(expected)[17]
    assert await contents(reader, middle) == {p: v for p, v in expected.items() if p > middle}
    await wal.close()


async def written(bucket: Bucket, count: int) -> list[int]:
    wal, _ = bucket.process()
    writer = await wal.open_writer("p", 1)
    positions = [(await writer.append([[b"%d" % number * 9]]))[0] for number in range(count)]
    await wal.close()
    return positions


@pytest.mark.parametrize("place", [8, 20, 60, 110, 130, 150])
async def test_a_damaged_fragment_is_named(bucket: Bucket, place: int) -> None:
    await written(bucket, 5)
    key = (await bucket.keys())[3]
    data = bytearray(await bucket.store.get(key))
    data[place] ^= 1
    await bucket.store.put(key, [data])
    wal, _ = bucket.process()
    await wal.open_writer("p", 2)
    with pytest.raises(CorruptData, match=key):
        await contents(wal)


async def test_a_fragment_of_another_cluster_is_refused(bucket: Bucket) -> None:
    await written(bucket, 1)
    other = WoodpeckerWal(
        process_world(9), bucket.store, sync(), "00000000-0000-4000-8000-000000000001"
    )
    with pytest.raises(CorruptData, match="another cluster"):
        await other.open_writer("p", 2)
    with pytest.raises(CorruptData, match="another cluster"):
        await contents(other)


async def test_a_fragment_that_is_missing_is_named_and_not_skipped(bucket: Bucket) -> None:
    positions = await written(bucket, 6)
    keys = await bucket.keys()
    await bucket.store.delete([keys[3]])
    wal, _ = bucket.process()
    with pytest.raises(CorruptData, match=keys[3]):
        await contents(wal, positions[4])
    with pytest.raises(CorruptData, match=keys[3]):
        await wal.open_writer("p", 2)


async def test_a_fragment_missing_from_an_ended_segment_is_named(bucket: Bucket) -> None:
    await written(bucket, 6)
    wal, _ = bucket.process()
    writer = await wal.open_writer("p", 2)
    await writer.append([[b"next segment"]])
    keys = await bucket.keys()
    await bucket.store.delete([keys[3]])
    found: list[bytes] = []

    async def read() -> None:
        async for record in wal.read("p"):
            found.append(bytes(record.payload))  # noqa: PERF401 - what came before the error counts

    with pytest.raises(CorruptData, match=keys[3]):
        await read()
    assert found == [b"0" * 9, b"1" * 9], "what is before it can be read"


async def test_an_exchanged_fragment_does_not_agree_with_the_seal(bucket: Bucket) -> None:
    twin = Bucket()
    for run, payload in ((bucket, b"one"), (twin, b"two")):
        wal, _ = run.process(rolling(blocks=3))
        writer = await wal.open_writer("p", 1)
        for _ in range(4):
            await writer.append([[payload]])
        await wal.close()
        await wal._world.tasks.close()
    key = "wp/p/0000000000000001/0000000000000002"
    await bucket.store.put(key, [await twin.store.get(key)])
    wal, _ = bucket.process()
    with pytest.raises(CorruptData, match="fragment 2 of the log p is not the one"):
        await contents(wal)


async def test_a_truncated_log_keeps_its_mark_and_fences_only(bucket: Bucket) -> None:
    positions = await written(bucket, 6)
    wal, _ = bucket.process()
    writer = await wal.open_writer("p", 2)
    (last,) = await writer.append([[b"7"]])
    await wal.truncate("p", positions[-2])
    assert list((await contents(wal)).values())[-2:] == [b"5" * 9, b"7"]
    await wal.truncate("p", last)
    assert [info.size_bytes for info in await bucket.store.list("")] == [128, 128, 128]
    assert (await writer.append([[b"8"]]))[0] > last


# --- following ------------------------------------------------------------------------------------


async def take(records: AsyncIterator[WalRecord], count: int) -> list[bytes]:
    return [bytes((await anext(records)).payload) for _ in range(count)]


async def test_another_process_is_followed_by_asking_for_the_next_name(bucket: Bucket) -> None:
    (writing, _), (reading, _) = bucket.process(rolling(blocks=4)), bucket.process()
    tail = reading.tail("p")
    expected = []
    for term in (1, 2, 3):
        writer = await writing.open_writer("p", term)
        for number in range(6):
            await writer.append([[b"%d.%d" % (term, number)]])
            expected.append(b"%d.%d" % (term, number))
    assert await take(tail, 18) == expected
    assert reading.counters.lists == 1

    waiting = asyncio.create_task(take(tail, 1))
    for _ in range(100):
        await idle(20)
        bucket.clock.advance(60)
    asked = reading.counters.requests
    await writer.append([[b"late"]])
    for _ in range(40):
        await idle(20)
        bucket.clock.advance(60)
    assert await waiting == [b"late"]
    assert asked < 300
    await reading.close()
    await writing.close()


async def test_what_follows_slowly_finds_what_was_merged_meanwhile(bucket: Bucket) -> None:
    wal, _ = bucket.process(rolling(blocks=5))
    writer = await wal.open_writer("p", 1)
    await writer.append([[b"first"]])
    tail = wal.tail("p")
    assert await take(tail, 1) == [b"first"]
    for number in range(30):
        await writer.append([[b"%d" % number]])
    await idle(3_000)
    assert await take(tail, 30) == [b"%d" % number for number in range(30)]
    await wal.close()


def test_settings_name_a_plain_prefix() -> None:
    for bad in ("", "/wp", "wp/", "a//b", ".wp"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"rootPath": bad}, WoodpeckerSettings)
