"""Logs have one owner each, on the nodes that have the least, and move without two of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.unit.coordinator.support import Rig, StreamingStub, make_world, running

from elanus.coordinator.coordinator import Coordinator
from elanus.errors import Unavailable
from elanus.model.catalog import pchannel_of
from elanus.storage.meta.base import MetaStore


class Owner(StreamingStub):
    """Remembers its terms; every log's history is shared by all owners of a ``Nodes``."""

    def __init__(self, history: dict[str, list[tuple[int, int]]]) -> None:
        super().__init__()
        self.history = history

    async def open_pchannel(self, pchannel: str, term: int) -> None:
        await super().open_pchannel(pchannel, term)
        opened = self.history.setdefault(pchannel, [])
        if (term, self.node_id) not in opened:
            assert all(term > earlier for earlier, _ in opened), "a term with two owners"
            opened.append((term, self.node_id))

    async def close_pchannel(self, pchannel: str, term: int) -> None:
        self.called("close_pchannel")
        self.terms.pop(pchannel, None)


class Nodes:
    """Any number of streaming nodes in the place of the rig's one."""

    def __init__(self, rig: Rig, count: int) -> None:
        self.rig = rig
        self.history: dict[str, list[tuple[int, int]]] = {}
        self.alive: dict[int, Owner] = {}
        self.stopping: set[int] = set()
        for _ in range(count):
            self.add()
        rig.streaming_node = self.streaming_node  # type: ignore[method-assign]
        rig.streaming_nodes = self.streaming_nodes  # type: ignore[method-assign]
        rig.streaming_node_by_id = self.streaming_node_by_id  # type: ignore[method-assign]

    def add(self) -> Owner:
        owner = Owner(self.history)
        owner.coordinator = self.rig.coordinator
        self.alive[owner.node_id] = owner
        return owner

    async def streaming_nodes(self) -> list[int]:
        return [node_id for node_id in sorted(self.alive) if node_id not in self.stopping]

    async def streaming_node_by_id(self, node_id: int) -> Owner:
        if node_id not in self.alive:
            raise Unavailable(f"streaming node {node_id} is gone")
        return self.alive[node_id]

    async def streaming_node(self, vchannel: str) -> Owner:
        pchannel = pchannel_of(vchannel)
        return next(owner for owner in self.alive.values() if pchannel in owner.terms)

    def changed(self) -> None:
        taking = [node_id for node_id in self.alive if node_id not in self.stopping]
        self.rig.coordinator.streaming_nodes_changed(list(self.alive), taking)

    def owned(self) -> dict[int, int]:
        return {node_id: len(owner.terms) for node_id, owner in self.alive.items()}

    def owners_of(self, pchannel: str) -> list[int]:
        return [n for n, owner in self.alive.items() if pchannel in owner.terms]

    def one_owner_each(self) -> bool:
        return all(len(self.owners_of(pchannel)) == 1 for pchannel in self.history)


@asynccontextmanager
async def cluster(meta: MetaStore, count: int) -> AsyncIterator[tuple[Rig, Nodes]]:
    async with running(meta, start=False) as rig:
        nodes = Nodes(rig, count)
        await rig.coordinator.start()
        yield rig, nodes


async def test_logs_go_to_the_nodes_that_have_the_fewest(meta: MetaStore) -> None:
    async with cluster(meta, 3) as (rig, nodes):
        await rig.create("a", shards=6)
        assert list(nodes.owned().values()) == [2, 2, 2]


async def test_the_logs_of_a_lost_node_are_opened_elsewhere_at_the_next_term(
    meta: MetaStore,
) -> None:
    async with cluster(meta, 2) as (rig, nodes):
        await rig.create("a", shards=4)
        lost, *_ = nodes.alive
        before = dict(nodes.alive.pop(lost).terms)
        nodes.changed()
        await rig.until(lambda: sum(nodes.owned().values()) == 4)
        (left,) = nodes.alive.values()
        assert all(left.terms[pchannel] == term + 1 for pchannel, term in before.items())


async def test_a_stopping_node_is_emptied_and_closes_before_the_next_opens(
    meta: MetaStore,
) -> None:
    async with cluster(meta, 2) as (rig, nodes):
        await rig.create("a", shards=4)
        first, *_ = nodes.alive
        nodes.stopping.add(first)
        nodes.changed()
        await rig.until(lambda: nodes.owned()[first] == 0 and sum(nodes.owned().values()) == 4)
        assert nodes.one_owner_each()


async def test_a_log_stays_with_an_owner_that_can_not_be_asked_to_close(meta: MetaStore) -> None:
    async with cluster(meta, 2) as (rig, nodes):
        await rig.create("a", shards=2)
        first, second = nodes.alive
        nodes.alive[first].failures["close_pchannel"] = 3
        nodes.stopping.add(first)
        nodes.changed()
        await rig.until(lambda: nodes.alive[first].calls["close_pchannel"] >= 1)
        assert nodes.one_owner_each()
        await rig.until(lambda: nodes.owned() == {first: 0, second: 2})
        assert nodes.one_owner_each()


async def test_a_new_node_takes_its_share(meta: MetaStore) -> None:
    async with cluster(meta, 1) as (rig, nodes):
        await rig.create("a", shards=4)
        nodes.add()
        nodes.changed()
        await rig.until(lambda: list(nodes.owned().values()) == [2, 2])
        assert nodes.one_owner_each()


async def test_a_new_coordinator_leaves_logs_with_their_living_owners(meta: MetaStore) -> None:
    async with cluster(meta, 2) as (rig, nodes):
        await rig.create("a", shards=4)
        before = {node_id: dict(owner.terms) for node_id, owner in nodes.alive.items()}
        following = await lead_anew(rig, meta, nodes)
        try:
            assert {n: dict(owner.terms) for n, owner in nodes.alive.items()} == before
        finally:
            await following.world.tasks.close()


async def test_a_new_coordinator_replaces_owners_that_died_with_the_former_one(
    meta: MetaStore,
) -> None:
    async with cluster(meta, 2) as (rig, nodes):
        await rig.create("a", shards=4)
        lost, *_ = nodes.alive
        del nodes.alive[lost]
        following = await lead_anew(rig, meta, nodes)
        try:
            assert list(nodes.owned().values()) == [4]
        finally:
            await following.world.tasks.close()


async def lead_anew(rig: Rig, meta: MetaStore, nodes: Nodes) -> Rig:
    """Another coordinator over the same metadata and nodes."""
    world = make_world()
    following: Any = Rig(world, None, rig.streaming, rig.query, rig.objects)  # type: ignore[arg-type]
    following.coordinator = Coordinator(
        world,
        rig.coordinator._context.settings,
        meta=meta,
        objects=rig.objects,
        router=rig,  # type: ignore[arg-type]
    )
    for owner in nodes.alive.values():
        owner.coordinator = following.coordinator
    await following.coordinator.start()
    return following
