"""Shares of the cluster's rates reach the proxies, and change as proxies come and go."""

from typing import Any

import msgspec
from tests.unit.cluster.test_leader import TTL_S, LocalPeers

from elanus.coordinator.quotas import MemoryReading
from elanus.roles.cluster.quotas import QuotaDistributor
from elanus.services.cluster.sessions import Membership, Session
from elanus.services.interfaces import NodeService, ProxyService
from elanus.services.messages import NodeStatus, QuotaNotice

INTERVAL_S = 3.0


class Told:
    """A proxy that writes down what it hears, or a node that tells its memory."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, QuotaNotice]] = []

    async def limit(self, leader_id: int, notice: QuotaNotice) -> None:
        self.heard.append((leader_id, notice))

    async def invalidate(self, leader_id: int, collection_ids: tuple[int, ...]) -> None:
        raise AssertionError("nothing has changed")

    async def describe(self) -> NodeStatus:
        return NodeStatus("serving", memory_used_bytes=90, memory_limit_bytes=100)


class Coordinator:
    def __init__(self) -> None:
        self.readings: list[Any] = []

    async def quota_notice(self, readings: Any, proxies: int) -> QuotaNotice:
        self.readings.append(list(readings))
        return QuotaNotice(proxies=proxies, write_factors={7: 0.5}, full_databases=frozenset("a"))


async def join(world, meta, peers: LocalPeers, role: str, address: str) -> tuple[Told, Session]:
    told, session = Told(), Session(world, meta, TTL_S)
    peers.offer(address, ProxyService if role == "proxy" else NodeService, told)
    await session.register(role, address)
    return told, session


async def lead(world, meta, peers: LocalPeers, is_leading=lambda: True) -> Coordinator:
    coordinator, membership = Coordinator(), Membership(world, meta)
    await membership.start()
    QuotaDistributor(
        world,
        coordinator,  # type: ignore[arg-type]
        membership,
        peers,  # type: ignore[arg-type]
        leader_id=1,
        is_leading=is_leading,
        interval_s=INTERVAL_S,
    ).start()
    return coordinator


async def test_every_proxy_hears_its_share_at_once_when_one_comes_or_goes(
    world, meta, clock
) -> None:
    peers = LocalPeers()
    first, _ = await join(world, meta, peers, "proxy", "p:1")
    await lead(world, meta, peers)
    await clock.pass_(0.5)
    leader_id, notice = first.heard[-1]
    assert (leader_id, notice.proxies) == (1, 1)
    assert notice.write_factors == {7: 0.5}
    assert notice.full_databases == {"a"}
    second, session = await join(world, meta, peers, "proxy", "p:2")
    await clock.pass_(0.5)
    assert [told.heard[-1][1].proxies for told in (first, second)] == [2, 2]
    await session.close()
    await clock.pass_(0.5)
    assert first.heard[-1][1].proxies == 1
    said = len(first.heard)
    await clock.pass_(2 * INTERVAL_S)
    assert len(first.heard) == said + 2


async def test_nodes_are_asked_for_their_memory(world, meta, clock) -> None:
    peers = LocalPeers()
    await join(world, meta, peers, "proxy", "p:1")
    _, streaming = await join(world, meta, peers, "streaming", "s:1")
    _, query = await join(world, meta, peers, "query", "q:1")
    await join(world, meta, peers, "query", "q:2")
    del peers.services["q:2"]
    coordinator = await lead(world, meta, peers)
    await clock.pass_(INTERVAL_S)
    assert coordinator.readings[-1] == [
        MemoryReading(streaming.info.node_id, True, 90, 100),
        MemoryReading(query.info.node_id, False, 90, 100),
    ]


async def test_who_may_have_lost_the_leadership_says_nothing(world, meta, clock) -> None:
    peers = LocalPeers()
    told, _ = await join(world, meta, peers, "proxy", "p:1")
    await lead(world, meta, peers, is_leading=lambda: False)
    await clock.pass_(2 * INTERVAL_S)
    assert told.heard == []


def test_a_notice_of_another_version_is_understood() -> None:
    assert msgspec.json.decode(b'{"proxies": 3, "later": 1}', type=QuotaNotice).proxies == 3
