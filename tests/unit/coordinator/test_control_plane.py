"""What the coordinator does in a large cluster, counted: what changes costs, what is there doesn't.

10,000 segments of 200 collections on 100 query nodes, without data. Times are in the benchmark.
"""

import gc
from collections import Counter

import pytest
from benchmarks.virtual_cluster import Scale, VirtualCluster

from elanus.coordinator.coordinator import Coordinator
from elanus.coordinator.query import shard as shard_module

SCALE = Scale(query_nodes=100, streaming_nodes=8, pchannels=32, collections=200, segments=10_000)
SHARE = SCALE.segments // SCALE.query_nodes


@pytest.fixture
async def cluster() -> VirtualCluster:
    made = VirtualCluster(SCALE)
    await made.fill()
    return made


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each shard's place is decided."""
    counted: Counter[str] = Counter()
    place = shard_module.place

    def counting(wanted, current, fullness):
        counted[wanted.vchannel] += 1
        return place(wanted, current, fullness)

    monkeypatch.setattr(shard_module, "place", counting)
    return counted


async def test_work_follows_what_changes(cluster: VirtualCluster, plans: Counter[str]) -> None:
    leader = await cluster.lead()
    await cluster.settle(leader)
    assert cluster.calls["load_segment"] <= SCALE.segments * 1.01
    assert cluster.calls["update_view"] <= SCALE.collections * 1.1
    assert max(cluster.held()) <= 1.2 * SHARE

    await step_nothing_changed(cluster, leader, plans)
    await step_a_query_node_is_lost(cluster, leader, plans)
    await step_a_query_node_is_added(cluster, leader, plans)
    await step_a_streaming_node_is_lost(cluster, leader, plans)
    await cluster.retire(leader)
    await step_another_leader(cluster)


def begin(cluster: VirtualCluster, plans: Counter[str]) -> None:
    cluster.calls.clear()
    plans.clear()


def work(cluster: VirtualCluster) -> dict[str, int]:
    """Calls that change something."""
    return {name: n for name, n in cluster.calls.items() if name != "list_segments"}


async def step_nothing_changed(
    cluster: VirtualCluster, leader: Coordinator, plans: Counter[str]
) -> None:
    begin(cluster, plans)
    for collection_id in leader._catalog.tables.loads:
        leader._parts.loads.wake(collection_id)
    await cluster.settle(leader)
    assert work(cluster) == {}
    assert plans.total() == 0


async def step_a_query_node_is_lost(
    cluster: VirtualCluster, leader: Coordinator, plans: Counter[str]
) -> None:
    begin(cluster, plans)
    lost = cluster.lose_query_node()
    concerned = {segment.vchannel for segment in lost.held.values()}
    leader.query_nodes_changed()
    await cluster.settle(leader)
    assert cluster.calls["load_segment"] == len(lost.held)
    assert cluster.calls["update_view"] <= 2 * len(concerned)
    assert "release_segments" not in work(cluster)
    assert sum(cluster.held()) == SCALE.segments


async def step_a_query_node_is_added(
    cluster: VirtualCluster, leader: Coordinator, plans: Counter[str]
) -> None:
    begin(cluster, plans)
    cluster.add_query_node()
    leader.query_nodes_changed()
    await cluster.settle(leader)
    new = cluster.held()[-1]
    assert 0.85 * SHARE <= new <= 1.05 * SHARE
    assert new <= cluster.calls["load_segment"] <= 1.1 * new, "only to the new node"
    assert sum(cluster.held()) == SCALE.segments
    # Four segments of a shard move at a time: it is done long before all shards were asked.
    assert plans.total() <= new


async def step_a_streaming_node_is_lost(
    cluster: VirtualCluster, leader: Coordinator, plans: Counter[str]
) -> None:
    begin(cluster, plans)
    lost = cluster.lose_streaming_node()
    alive = await cluster.streaming_nodes()
    leader.streaming_nodes_changed(alive, alive)
    await cluster.settle(leader)
    assert work(cluster) == {
        "open_pchannel": SCALE.pchannels // SCALE.streaming_nodes,
        "update_view": len(lost.views),
        "load_segment": sum(len(view.sealed) for view in lost.views.values()),
    }
    assert set(plans) == set(lost.views)


async def step_another_leader(cluster: VirtualCluster) -> None:
    cluster.calls.clear()
    following = await cluster.lead()
    await cluster.settle(following)
    assert work(cluster) == {
        "open_pchannel": SCALE.pchannels,
        "update_view": SCALE.collections,
        "load_segment": SCALE.segments,
    }
    await cluster.retire(following)


async def test_segments_are_kept_by_few_bytes_of_garbage_collected_memory(
    cluster: VirtualCluster,
) -> None:
    """A pause of the garbage collector grows with the objects that it knows."""
    coordinator = cluster.coordinator()
    gc.collect()
    before = len(gc.get_objects())
    await coordinator.load_metadata()
    gc.collect()
    assert len(gc.get_objects()) - before < SCALE.segments / 5
    await cluster.retire(coordinator)
