"""A worker that the leader doesn't hear is replaced, and knows it before it answers anything."""

import asyncio

import msgspec
import pytest
from tests.unit.cluster.conftest import turns
from tests.unit.cluster.test_leader import LocalPeers, lead

from elanus.coordinator.election import LEADER_KEY, FencedMetaStore, LeaderInfo
from elanus.coordinator.silence import BEAT_S
from elanus.errors import Unavailable
from elanus.roles.cluster.leader import LeaderClient
from elanus.roles.cluster.pulse import Pulse
from elanus.roles.cluster.silent_workers import SilentWorkers
from elanus.services.cluster.sessions import Membership, Session
from elanus.services.interfaces import LivenessService
from elanus.storage.meta.base import Compare, Delete, LeaseEnded, Put

TTL_S = 9.0
SILENCE_S = 2.5


class Worker:
    """``is_cut``: its beats don't arrive. ``peers`` are its own."""

    def __init__(self, world, meta, services: LocalPeers, role: str) -> None:
        self.world, self.meta, self.role = world, meta, role
        self.services = services
        self.peers = LocalPeers()
        self.peers.services = dict(services.services)

    async def start(self) -> "Worker":
        self.membership = Membership(self.world, self.meta)
        await self.membership.start()
        self.leader = LeaderClient(self.world, self.meta, self.peers)  # type: ignore[arg-type]
        await self.leader.start()
        self.session = Session(self.world, self.meta, TTL_S)
        await self.session.register(self.role, "127.0.0.1:1")
        self.pulse = Pulse(
            self.world,
            self.meta,
            self.membership,
            self.peers,  # type: ignore[arg-type]
            self.leader,
            self.session,
        )
        self.pulse.start()
        return self

    def cut(self) -> None:
        self.peers.services = {}

    def heal(self) -> None:
        self.peers.services = dict(self.services.services)

    async def may_answer(self) -> bool:
        try:
            await self.pulse.confirm()
        except Unavailable:
            return False
        return True


class Asked:
    """Counts the questions to the metadata store about a session."""

    def __init__(self, meta, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        get = meta.get

        async def counted(key: str):
            if key.startswith("session/"):
                self.times += 1
                await asyncio.sleep(0)
            return await get(key)

        monkeypatch.setattr(meta, "get", counted)


@pytest.fixture
async def services(world, meta) -> LocalPeers:
    """A leader at a:1."""
    services = LocalPeers()
    await lead_at(world, meta, services, "a:1")
    return services


async def lead_at(world, meta, services: LocalPeers, address: str) -> None:
    await lead(meta, 1, address)
    pair = await meta.get(LEADER_KEY)
    membership = Membership(world, meta)
    await membership.start()
    silent = SilentWorkers(
        world,
        FencedMetaStore(meta, Compare(LEADER_KEY, pair.modified_revision), lambda: None),
        membership,
        silence_s=SILENCE_S,
        is_leading=lambda: True,
    )
    services.offer(address, LivenessService, silent)
    silent.start()


async def pair_of(world, meta, services: LocalPeers, role: str = "streaming") -> list[Worker]:
    return [await Worker(world, meta, services, role).start() for _ in range(2)]


async def sessions(meta) -> list[int]:
    pairs = await meta.range("session/")
    return [int(pair.key.rpartition("/")[2]) for pair in pairs]


async def test_in_good_times_nobody_is_asked(world, meta, clock, services, monkeypatch) -> None:
    first, second = await pair_of(world, meta, services)
    await clock.pass_(2 * TTL_S)
    asked = Asked(meta, monkeypatch)
    for _ in range(40):
        assert await first.may_answer()
        assert await second.may_answer()
        await clock.pass_(0.25)
    assert asked.times == 0


@pytest.mark.parametrize("role", ["streaming", "query", "data"])
async def test_a_silent_worker_is_replaced_before_its_lease_could_end(
    world, meta, clock, services, role
) -> None:
    first, second = await pair_of(world, meta, services, role)
    await clock.pass_(TTL_S)
    first.cut()
    await clock.pass_(SILENCE_S + 0.5)
    assert await sessions(meta) == [second.session.info.node_id]
    assert first.session.lost.is_set()
    assert not await first.may_answer()
    assert await second.may_answer()


async def test_a_worker_that_was_paused_answers_nothing_from_the_past(
    world, meta, clock, services
) -> None:
    first, _ = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    await meta.delete(first.session.key)  # while it stood still
    clock.jump(SILENCE_S + 0.25)
    assert first.session.is_valid()
    assert not await first.may_answer()
    assert first.session.lost.is_set()


async def test_a_worker_that_hears_no_leader_goes_on_by_asking_the_store(
    world, meta, clock, services, monkeypatch
) -> None:
    first, _ = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    await meta.transact([Delete(LEADER_KEY)])
    await clock.pass_(2 * TTL_S)
    asked = Asked(meta, monkeypatch)
    assert all(await asyncio.gather(*(first.may_answer() for _ in range(20))))
    assert asked.times <= 2, "those that wait at the same time share the question"
    first.cut()
    await clock.pass_(2 * TTL_S)
    assert await first.may_answer()


async def test_without_leader_and_store_nothing_is_answered(
    world, meta, clock, services, monkeypatch
) -> None:
    first, _ = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    first.cut()

    async def unreachable(key: str):
        raise Unavailable("the metadata store can't be reached")

    await clock.pass_(2.0)
    with monkeypatch.context() as patched:
        patched.setattr(meta, "get", unreachable)
        assert first.session.is_valid()
        assert not await first.may_answer()
    assert await first.may_answer()


async def test_a_new_leader_replaces_nobody_whom_it_has_not_heard(
    world, meta, clock, services
) -> None:
    first, second = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    first.cut()
    await lead_at(world, meta, services, "b:1")
    second.heal()
    await clock.pass_(5 * TTL_S)
    assert len(await sessions(meta)) == 2
    first.heal()
    await clock.pass_(TTL_S)
    first.cut()
    await clock.pass_(SILENCE_S + 0.5)
    assert await sessions(meta) == [second.session.info.node_id]


async def test_a_former_leader_ends_no_session(world, meta, clock) -> None:
    services = LocalPeers()
    await lead_at(world, meta, services, "a:1")
    first, _ = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    leader = LeaderInfo(node_id=9, address="nobody:1")
    await meta.transact([Put(LEADER_KEY, msgspec.json.encode(leader))])
    first.cut()
    # The other one goes on to beat where it is believed to be the leader.
    services.services["nobody:1"] = services.services["a:1"]
    await clock.pass_(SILENCE_S + 0.5)
    assert len(await sessions(meta)) == 2


async def test_a_replaced_worker_does_not_come_back_as_the_same(
    world, meta, clock, services
) -> None:
    first, _ = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    await meta.delete(first.session.key)
    with pytest.raises(LeaseEnded):
        await first.session.announce_stopping()
    assert await meta.get(first.session.key) is None
    assert first.session.lost.is_set()


async def test_a_replaced_process_is_used_again_under_a_new_id(
    world, meta, clock, services
) -> None:
    first, second = await pair_of(world, meta, services)
    await clock.pass_(TTL_S)
    first.cut()
    await clock.pass_(SILENCE_S + 0.5)
    again = await Worker(world, meta, services, "streaming").start()
    await clock.pass_(5 * TTL_S)
    assert await again.may_answer()
    ids = [second.session.info.node_id, again.session.info.node_id]
    assert await sessions(meta) == ids


async def test_beats_come_often_enough(world, meta, clock, services) -> None:
    first, _ = await pair_of(world, meta, services)
    heard = 0

    class Counting:
        async def beat(self, role: str, node_id: int):
            nonlocal heard
            heard += 1
            raise Unavailable("too busy to answer")

    await turns()
    first.peers.offer("a:1", LivenessService, Counting())
    await clock.pass_(10 * BEAT_S)
    assert heard >= 10
