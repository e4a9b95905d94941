"""Resource groups of a coordinator with many query nodes: who serves what, whatever happens."""

from collections.abc import AsyncIterator

import msgspec
import pytest
from benchmarks.virtual_cluster import FIRST_COLLECTION_ID, Scale, VirtualCluster

from elanus.coordinator.coordinator import Coordinator
from elanus.errors import (
    MemoryLimitExceeded,
    ResourceGroupLimit,
    ResourceGroupNodeNotEnough,
    ResourceInsufficient,
)
from elanus.model.resource_groups import DEFAULT_RESOURCE_GROUP, ResourceGroupConfig

D = DEFAULT_RESOURCE_GROUP
ONE = FIRST_COLLECTION_ID


def config(requests: int, limits: int) -> ResourceGroupConfig:
    return ResourceGroupConfig(requests=requests, limits=limits)


@pytest.fixture
async def cluster() -> VirtualCluster:
    """Six query nodes; two collections of twelve segments each, loaded."""
    made = VirtualCluster(Scale(6, 1, 2, 2, 24))
    await made.fill()
    return made


@pytest.fixture
async def leader(cluster: VirtualCluster) -> AsyncIterator[Coordinator]:
    coordinator = await cluster.lead()
    await cluster.settle(coordinator)
    yield coordinator
    await cluster.retire(coordinator)


async def holders(cluster: VirtualCluster, collection_id: int) -> set[int]:
    return {
        node_id
        for node_id in await cluster.query_nodes()
        for segment in await (await cluster.query_node(node_id)).list_segments()
        if segment.collection_id == collection_id
    }


async def members(leader: Coordinator, group: str) -> set[int]:
    return {node.node_id for node in (await leader.describe_resource_group(group)).nodes}


async def test_replicas_live_in_their_groups_and_follow_them(
    cluster: VirtualCluster, leader: Coordinator
) -> None:
    await leader.create_resource_group("a", config(2, 2))
    await leader.create_resource_group("b", config(1, 1))
    await leader.load(ONE, (), 2, ("a", "b"))
    await cluster.settle(leader)
    a, b = await members(leader, "a"), await members(leader, "b")
    assert (len(a), len(b)) == (2, 1)
    assert await holders(cluster, ONE) == a | b
    load = await leader.load_info(ONE)
    assert load is not None
    assert all(len(set(nodes) & a) == len(set(nodes) & b) == 1 for nodes in load.placement.values())
    assert (await leader.describe_resource_group("a")).loaded_replicas == {ONE: 1}

    await leader.transfer_replicas("b", D, ONE, 1)
    await cluster.settle(leader)
    assert await holders(cluster, ONE) <= a | await members(leader, D)
    assert not await holders(cluster, ONE) & b

    for node_id in list(await cluster.query_nodes()):
        if node_id in a:
            cluster.lose_query_node(node_id)
            break
    leader.query_nodes_changed()
    await cluster.settle(leader)
    now = await members(leader, "a")
    assert len(now) == 2
    assert await holders(cluster, ONE) <= now | await members(leader, D)
    others = await holders(cluster, ONE + 22)
    assert others <= await members(leader, D)


async def test_the_next_leader_finds_groups_and_their_nodes_as_they_were(
    cluster: VirtualCluster, leader: Coordinator
) -> None:
    await leader.create_resource_group("a", config(3, 4))
    await leader.load(ONE, (), 1, ("a",))
    await cluster.settle(leader)
    before = await members(leader, "a")
    await cluster.retire(leader)
    cluster.calls.clear()
    following = await cluster.lead()
    await cluster.settle(following)
    assert await members(following, "a") == before
    assert (await following.describe_resource_group("a")).config == config(3, 4)
    assert await holders(cluster, ONE) <= before
    assert cluster.calls["release_segments"] == 0
    await cluster.retire(following)


async def test_a_load_needs_nodes_for_all_of_its_replicas(leader: Coordinator) -> None:
    await leader.create_resource_group("a", config(1, 1))
    with pytest.raises(ResourceGroupNodeNotEnough, match=r"\[rg=a\]\[currentNodeNum=1\]"):
        await leader.load(ONE, (), 2, ("a",))
    with pytest.raises(ResourceInsufficient):
        await leader.load(ONE, (), 7)


async def test_a_load_that_does_not_fit_into_memory_is_refused(
    cluster: VirtualCluster, leader: Coordinator
) -> None:
    record = leader._catalog.tables.loads[ONE]
    await leader.release(ONE, ())
    cluster.set_memory(100 << 20)
    with pytest.raises(MemoryLimitExceeded, match="memory limit exceeded") as caught:
        await leader.load(ONE, (), 1)
    assert caught.value.code == 3
    assert ONE not in leader._catalog.tables.loads
    cluster.set_memory(1 << 40)
    await leader.load(ONE, (), 1)
    assert leader._catalog.tables.loads[ONE] == record


async def test_there_is_a_limit_of_groups(cluster: VirtualCluster) -> None:
    limits = msgspec.structs.replace(
        cluster.settings.quota_and_limits.limits, max_resource_group_num_of_query_node=2
    )
    quota = msgspec.structs.replace(cluster.settings.quota_and_limits, limits=limits)
    cluster.settings = msgspec.structs.replace(cluster.settings, quota_and_limits=quota)
    leader = await cluster.lead()
    await leader.create_resource_group("a", config(0, 0))
    with pytest.raises(ResourceGroupLimit):
        await leader.create_resource_group("b", config(0, 0))
    await cluster.retire(leader)
