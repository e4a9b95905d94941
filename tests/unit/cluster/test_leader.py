"""Calls find the leader; proxies never remember what they would not be told of."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from elanus.access.meta_cache import MetaCache
from elanus.coordinator.election import LEADER_KEY, LeaderInfo
from elanus.errors import NotServed, Unavailable
from elanus.roles.cluster.leader import AnnouncingCoordinator, LeaderClient, ProxyNotifier
from elanus.roles.cluster.roles import ProxyRole
from elanus.services.cluster.sessions import Membership, Session
from elanus.services.interfaces import CoordinatorService, ProxyService
from elanus.services.messages import QuotaNotice
from elanus.services.rpc.server import RpcServices
from elanus.storage.meta.base import Delete, Put

TTL_S = 9.0


class LocalPeers:
    """The RPC binding without a network: ``services`` by address; others can't be reached."""

    def __init__(self) -> None:
        self.services: dict[str, RpcServices] = {}

    def offer(self, address: str, interface: type, implementation: Any) -> None:
        services = self.services[address] = RpcServices()
        services.add(interface, implementation)

    def at(self, address: str) -> Any:
        async def call(path: str, body: bytes, timeout_s: float) -> bytes:
            if address not in self.services:
                raise NotServed(f"can't connect to {address}")
            return await self.services[address].handle(path, {}, body, timeout_s)

        return SimpleNamespace(call=call, address=address)


class Coordinator:
    """Counts, and fails as told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.error: Callable[[], Exception] | None = None

    def __getattr__(self, name: str) -> Any:
        async def call(*_: Any, **__: Any) -> Any:
            self.calls.append(name)
            if self.error is not None:
                raise self.error()
            return 7 if name.startswith("allocate") else None

        return call


async def lead(meta, node_id: int, address: str) -> None:
    leader = LeaderInfo(node_id=node_id, address=address)
    await meta.transact([Put(LEADER_KEY, msgspec.json.encode(leader))])


@pytest.fixture
def peers() -> LocalPeers:
    return LocalPeers()


@pytest.fixture
async def client(world, meta, peers) -> LeaderClient:
    client = LeaderClient(world, meta, peers)
    await client.start()
    return client


async def test_a_call_waits_for_a_leader(client, meta, peers, clock) -> None:
    call = asyncio.create_task(client.allocate_ids(1))
    await clock.pass_(2.0)
    assert not call.done()
    peers.offer("a:1", CoordinatorService, Coordinator())
    await lead(meta, 1, "a:1")
    await clock.pass_(1.0)
    assert await call == 7


async def test_what_was_refused_or_never_arrived_goes_to_the_next_leader(
    client, meta, peers, clock
) -> None:
    former, following = Coordinator(), Coordinator()
    former.error = lambda: NotServed("not the leader")
    peers.offer("a:1", CoordinatorService, former)
    await lead(meta, 1, "a:1")
    call = asyncio.create_task(client.drop_alias("default", "alias"))
    await clock.pass_(2.0)
    peers.services.clear()
    await clock.pass_(2.0)
    peers.offer("b:1", CoordinatorService, following)
    await lead(meta, 2, "b:1")
    await clock.pass_(1.0)
    await call
    assert following.calls == ["drop_alias"]


async def test_a_change_whose_answer_was_lost_is_not_repeated(client, meta, peers, clock) -> None:
    leader = Coordinator()
    leader.error = lambda: Unavailable("the connection broke")
    peers.offer("a:1", CoordinatorService, leader)
    await lead(meta, 1, "a:1")
    await clock.pass_(0.5)
    with pytest.raises(Unavailable):
        await client.drop_alias("default", "alias")
    assert leader.calls == ["drop_alias"]
    reading = asyncio.create_task(client.load_info(1))
    await clock.pass_(1.0)
    leader.error = None
    await clock.pass_(1.0)
    assert await reading is None


class RememberingProxy:
    """A proxy's memory as its role keeps it, in a cluster of the fixtures."""

    def __init__(self, world, client: LeaderClient, session: Session) -> None:
        self.role = ProxyRole()
        self.role._node = SimpleNamespace(leader=client, session=session)  # type: ignore[assignment]
        self.role._known_to = 0
        self.meta = MetaCache(client, world.tasks)  # type: ignore[arg-type]
        self.meta.may_remember = self.role._may_remember

    @property
    def node_id(self) -> int:
        return self.role._node.session.info.node_id

    async def invalidate(
        self, leader_id: int, collection_ids: tuple[int, ...], node_id: int = 0
    ) -> None:
        await self.role.invalidate(leader_id, collection_ids, node_id)

    async def limit(self, leader_id: int, notice: QuotaNotice) -> None:
        await self.role.limit(leader_id, notice)


async def proxy_of(world, meta, client, peers, address: str) -> RememberingProxy:
    session = Session(world, meta, TTL_S)
    proxy = RememberingProxy(world, client, session)
    peers.offer(address, ProxyService, proxy)
    await session.register("proxy", address)
    return proxy


async def test_a_proxy_remembers_only_what_the_present_leader_would_tell(
    world, meta, client, peers, clock
) -> None:
    await lead(meta, 1, "a:1")
    proxy = await proxy_of(world, meta, client, peers, "p:1")
    await clock.pass_(0.5)
    assert not proxy.meta.may_remember(), "nobody knows it yet"
    membership = Membership(world, meta)
    await membership.start()
    ProxyNotifier(world, 1, membership, peers).start()
    await clock.pass_(0.5)
    assert proxy.meta.may_remember()
    await lead(meta, 2, "b:1")
    await clock.pass_(0.5)
    assert not proxy.meta.may_remember(), "the next leader doesn't know it yet"
    ProxyNotifier(world, 2, membership, peers).start()
    await clock.pass_(0.5)
    assert proxy.meta.may_remember()
    await meta.transact([Delete(LEADER_KEY)])
    await clock.pass_(0.5)
    assert not proxy.meta.may_remember()


async def test_a_paused_proxy_trusts_nothing_that_it_remembers(
    world, meta, client, peers, clock
) -> None:
    await lead(meta, 1, "a:1")
    proxy = await proxy_of(world, meta, client, peers, "p:1")
    await proxy.invalidate(1, (-1,), proxy.node_id)
    await clock.pass_(0.5)
    assert proxy.meta.may_remember()
    clock.jump(TTL_S)
    assert not proxy.meta.may_remember()


async def test_a_proxy_that_registered_again_trusts_nothing_said_to_its_former_self(
    world, meta, client, peers, clock
) -> None:
    await lead(meta, 1, "a:1")
    proxy = await proxy_of(world, meta, client, peers, "p:1")
    former_id = proxy.node_id
    await proxy.invalidate(1, (-1,), former_id)
    await clock.pass_(0.5)
    assert proxy.meta.may_remember()
    proxy.role.session_lost()
    proxy.role._node.session = Session(world, meta, TTL_S)
    await proxy.role._node.session.register("proxy", "p:1")
    assert not proxy.meta.may_remember()
    await proxy.invalidate(1, (-1,), former_id)
    assert not proxy.meta.may_remember()
    await proxy.invalidate(1, (-1,), proxy.node_id)
    assert proxy.meta.may_remember()


async def test_a_change_is_answered_when_every_living_proxy_was_told(
    world, meta, client, peers, clock
) -> None:
    membership = Membership(world, meta)
    await membership.start()
    told: list[str] = []

    class Told:
        def __init__(self, name: str) -> None:
            self.name = name

        async def invalidate(
            self, leader_id: int, collection_ids: tuple[int, ...], node_id: int = 0
        ) -> None:
            told.extend(f"{self.name} {each}" for each in collection_ids if each > 0)

        async def limit(self, leader_id: int, notice: QuotaNotice) -> None:
            raise AssertionError("shares are told by another")

    sessions = []
    for name in ("p:1", "p:2"):
        peers.offer(name, ProxyService, Told(name))
        session = Session(world, meta, TTL_S)
        await session.register("proxy", name)
        sessions.append(session)
    await clock.pass_(0.5)
    notifier = ProxyNotifier(world, 1, membership, peers)
    notifier.start()
    await clock.pass_(0.5)

    class Changing(Coordinator):
        def on_change(self, listener: Callable[[int], None]) -> None:
            self.listener = listener

        async def drop_collection(self, *_: Any) -> None:
            self.listener(5)

    announcing = AnnouncingCoordinator(Changing(), notifier)
    change = asyncio.create_task(announcing.drop_collection("default", "c"))
    await clock.pass_(0.5)
    await change
    assert sorted(told) == ["p:1 5", "p:2 5"]

    del peers.services["p:2"]
    change = asyncio.create_task(announcing.drop_collection("default", "c"))
    await clock.pass_(3.0)
    assert not change.done(), "it may answer from its memory"
    await sessions[1].close()
    await clock.pass_(1.0)
    await change
