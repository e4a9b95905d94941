"""A log on objects whose process dies, or loses a request, at every single request of its life.

The life opens, appends side by side, ends segments, merges, truncates. For each request, each fate
(nothing happened; it happened and nobody was told; it happens when others have gone on) and both
outcomes (the process dies; it gets an error and opens again) one life is lived.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
from tests.unit.storage.objects_in_trouble import CLUSTER, Connection, LateEffects, process_world

from elanus.config.storage import (
    LogstoreSettings,
    SegmentCompactionPolicySettings,
    SegmentRollingPolicySettings,
    SegmentSyncPolicySettings,
    WoodpeckerClientSettings,
    WoodpeckerSettings,
)
from elanus.errors import ElanusError
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.wal.base import Wal, WalWriter
from elanus.storage.wal.woodpecker import WoodpeckerWal

SETTINGS = WoodpeckerSettings(
    client=WoodpeckerClientSettings(
        segment_rolling_policy=SegmentRollingPolicySettings(max_blocks=3)
    ),
    logstore=LogstoreSettings(
        segment_sync_policy=SegmentSyncPolicySettings(max_flush_size=8, max_flush_threads=3),
        segment_compaction_policy=SegmentCompactionPolicySettings(max_size=500),
    ),
)
FATES = ["lost", "unanswered", "late"]


@dataclass
class History:
    """What was asked of the log and what it said. Every payload is written once."""

    sent: list[bytes] = field(default_factory=list)
    acknowledged: dict[int, bytes] = field(default_factory=dict)
    truncated: int = -1

    async def append(self, writer: WalWriter, *payloads: bytes) -> None:
        self.sent += payloads
        positions = await writer.append([[payload[:1], payload[1:]] for payload in payloads])
        assert positions == sorted(positions)
        assert min(positions) > max(self.acknowledged, default=-1)
        self.acknowledged.update(zip(positions, payloads, strict=True))

    async def truncate(self, wal: Wal, upto: int) -> None:
        self.truncated = max(self.truncated, upto)
        await wal.truncate("p", upto)

    def needed(self, found: dict[int, bytes]) -> dict[int, bytes]:
        """Without what may be gone."""
        return {position: v for position, v in found.items() if position > self.truncated}

    def check(self, found: dict[int, bytes]) -> None:
        places = [self.sent.index(payload) for payload in found.values()]
        assert places == sorted(set(places)), "doubled, or out of order"
        for position, payload in self.acknowledged.items():
            if position > self.truncated:
                assert found.get(position) == payload, "lost"
        assert len(set(self.sent)) == len(self.sent)


async def contents(wal: Wal, after: int = -1) -> dict[int, bytes]:
    found = [(record.position, bytes(record.payload)) async for record in wal.read("p", after)]
    assert [position for position, _ in found] == sorted({position for position, _ in found})
    return dict(found)


async def idle(turns: int = 500) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


async def live(wal: Wal, history: History) -> None:
    """Opens three times, as after errors: at one term, again at the same, at a newer."""
    for opening, term in enumerate([1, 1, 2]):
        try:
            writer = await wal.open_writer("p", term)
            assert history.check(await contents(wal)) is None
            for group in range(3):
                names = [b"%d.%d.%d" % (opening, group, number) for number in range(4)]
                appends = [
                    history.append(writer, names[0]),
                    history.append(writer, names[1], names[2]),
                    history.append(writer, names[3]),
                ]
                for outcome in await asyncio.gather(*appends, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
                if group == 1 and history.acknowledged:
                    middle = sorted(history.acknowledged)[len(history.acknowledged) // 2]
                    await history.truncate(wal, middle)
            await idle()
            if opening == 1:
                await history.truncate(wal, max(history.acknowledged))
            await writer.close()
        except ElanusError:
            continue


class _Trouble:
    def __init__(self, at: int, fate: str) -> None:
        self.requests = 0
        self._at = at
        self._fate = fate

    def __call__(self, name: str) -> str:
        self.requests += 1
        return self._fate if self.requests == self._at else ""


async def count_requests() -> int:
    store = MemoryObjectStore(process_world(0))
    trouble = _Trouble(-1, "")
    connection = Connection(store, LateEffects(store), trouble)
    history = History()
    wal = WoodpeckerWal(process_world(1), connection, SETTINGS, CLUSTER)
    await live(wal, history)
    await wal.close()
    assert len(history.acknowledged) == len(history.sent) == 36
    return trouble.requests


async def one_life(at: int, fate: str, is_deadly: bool) -> None:
    store = MemoryObjectStore(process_world(0))
    late = LateEffects(store)
    connection = Connection(store, late, _Trouble(at, fate), is_deadly)
    history = History()
    world = process_world(1)
    wal = WoodpeckerWal(world, connection, SETTINGS, CLUSTER)
    life = asyncio.create_task(live(wal, history))
    death = asyncio.create_task(connection.died.wait())
    await asyncio.wait([life, death], return_when=asyncio.FIRST_COMPLETED)
    for task in (life, death):
        task.cancel()
    await asyncio.gather(life, death, return_exceptions=True)
    await world.tasks.close()
    if not life.cancelled():
        life.result()

    # A new process recovers; what was on its way lands after it has gone on.
    wal = WoodpeckerWal(process_world(2), Connection(store, late), SETTINGS, CLUSTER)
    writer = await wal.open_writer("p", 3)
    recovered = await contents(wal)
    history.check(recovered)
    await history.append(writer, b"after recovery")
    while late.waiting:
        await late.land()
    await history.append(writer, b"after all has landed")
    recovered.update({p: v for p, v in history.acknowledged.items() if v.startswith(b"after")})
    assert history.needed(await contents(wal)) == history.needed(recovered)
    await wal.close()
    await look_again(store, late, history, recovered)


async def look_again(
    store: MemoryObjectStore, late: LateEffects, history: History, recovered: dict[int, bytes]
) -> None:
    """Later processes see the same, and clear everything away."""
    for term in (4, 5):
        world = process_world(term)
        wal = WoodpeckerWal(world, Connection(store, late), SETTINGS, CLUSTER)
        writer = await wal.open_writer("p", term)
        assert history.needed(await contents(wal)) == history.needed(recovered)
        await wal.close()
        await world.tasks.close()
    wal = WoodpeckerWal(process_world(6), Connection(store, late), SETTINGS, CLUSTER)
    writer = await wal.open_writer("p", 6)
    last = max(recovered)
    await history.truncate(wal, last)
    assert await contents(wal, last) == {}
    await history.append(writer, b"the last")
    await wal.close()
    left = await store.list("")
    assert all(info.size_bytes == 128 for info in left[:-2]), "more than fences and a mark is left"


@pytest.mark.parametrize("is_deadly", [True, False], ids=["dies", "gets an error"])
@pytest.mark.parametrize("fate", FATES)
async def test_whatever_request_goes_wrong_nothing_acknowledged_is_lost(
    fate: str, is_deadly: bool
) -> None:
    for at in range(1, await count_requests() + 1):
        try:
            await one_life(at, fate, is_deadly)
        except BaseException as error:
            error.add_note(f"request {at}, {fate}")
            raise
