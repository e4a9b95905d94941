"""Searches for which the proxy asks query nodes and delegator at once: what they find is what an
ordinary search finds at the same instant, whatever happens between the calls."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from msgspec.structs import replace
from tests.unit.workers.streaming.harness import Server, eventually, vectors

from elanus.access.dql.direct import (
    CHANGED,
    DIRECT,
    FAILED,
    FIRST_REST,
    LATE,
    OUTDATED,
    DirectSearch,
)
from elanus.errors import CollectionNotLoaded, DeadlineExceeded, NotServed, Unavailable
from elanus.model.catalog import CollectionInfo
from elanus.model.reads import VectorQuery
from elanus.model.types import MetricType
from elanus.services.messages import (
    PrimaryKeys,
    SearchRequest,
    SearchResponse,
    SegmentSearch,
    WriteRequest,
)


class Held:
    """A role whose searches wait at its door, before or after they are done, while it is shut."""

    def __init__(self, target: Any, door: asyncio.Event, *, after: bool) -> None:
        self._target = target
        self._door = door
        self._after = after
        self.reached = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def search(self, request: Any) -> Any:
        if self._after:
            answer = await self._target.search(request)
            self.reached.set()
            await self._door.wait()
            return answer
        self.reached.set()
        await self._door.wait()
        return await self._target.search(request)


class Proxy:
    """Asks the server's roles as a proxy of a cluster does. ``nodes``: what stands in the place of
    query nodes; ``owner``: of the delegator."""

    def __init__(self, server: Server, things: CollectionInfo) -> None:
        self.server = server
        self.things = things
        self.nodes: dict[int, Any] = {}
        self.owner: Any = server.streaming
        self.direct = DirectSearch(server.world, self)  # type: ignore[arg-type]

    async def query_node(self, node_id: int) -> Any:
        node = await self.server.router.query_node(node_id)
        return self.nodes.get(node_id, node)

    def request(self, value: int, **more: Any) -> SearchRequest:
        top_k = more.pop("top_k", 5)
        return SearchRequest(
            collection_id=self.things.collection_id,
            vchannel=self.things.vchannels[0],
            query=VectorQuery("vector", MetricType.L2, vectors([value]), top_k),
            guarantee_ts=more.pop("guarantee_ts", self.things.updated_ts),
            output_fields=more.pop("output_fields", ("value",)),
            **more,
        )

    async def search(self, value: int, **more: Any) -> SearchResponse:
        request = self.request(value, **more)
        return await self.direct.search(self.owner, request, self.things.schema)

    async def learn(self) -> None:
        """Search until a view is known."""

        async def knows() -> bool:
            await self.search(0)
            return self.direct.counts[DIRECT] > 0

        await eventually(knows)
        self.direct.counts.clear()


def same(answer: SearchResponse, other: SearchResponse) -> bool:
    return (
        answer.hits.keys.tolist() == other.hits.keys.tolist()
        and answer.hits.scores.tolist() == other.hits.scores.tolist()
        and answer.hits.timestamps.tolist() == other.hits.timestamps.tolist()
        and answer.rows.equals(other.rows)
    )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = await Server(tmp_path, query_nodes=2).start()
    yield server
    await server.stop()


async def filled(server: Server, replicas: int = 1) -> CollectionInfo:
    """Two sealed segments of 10 rows and 5 growing rows; the value of a row is its key."""
    things = await server.create(load=False)
    for first in (0, 10):
        await server.write(things, {first + n: first + n for n in range(10)})
        await server.flush(things)
    await server.load(things, replicas)
    await server.write(things, {20 + n: 20 + n for n in range(5)})
    return things


@pytest.fixture
async def proxy(server: Server) -> Proxy:
    proxy = Proxy(server, await filled(server))
    await proxy.learn()
    return proxy


@pytest.mark.parametrize("names", [(), ("id",), ("value",), ("id", "vector", "value")])
@pytest.mark.parametrize("value", [3, 15, 19, 24])
async def test_the_answer_is_that_of_the_delegator(
    proxy: Proxy, names: tuple[str, ...], value: int
) -> None:
    answer = await proxy.search(value, output_fields=names)
    assert proxy.direct.counts == {DIRECT: 1}
    ordinary = await proxy.server.streaming.search(proxy.request(value, output_fields=names))
    assert same(answer, ordinary)
    assert answer.read_ts == ordinary.read_ts
    assert answer.rows.schema.names == list(names)


async def test_filters_partitions_and_what_is_growing_are_respected(proxy: Proxy) -> None:
    for more in ({"ignore_growing": True}, {"partition_ids": (-7,)}, {"top_k": 50}):
        answer = await proxy.search(20, **more)
        assert same(answer, await proxy.server.streaming.search(proxy.request(20, **more)))


async def test_all_that_is_acknowledged_is_seen_with_one_call_to_each(proxy: Proxy) -> None:
    for n in range(30, 60):
        await proxy.server.write(proxy.things, {n: n})
        assert (await proxy.search(n)).hits.keys[0] == n
        await proxy.server.write(proxy.things, deletes=[n - 30])
        assert n - 30 not in (await proxy.search(n - 30)).hits.keys
    assert set(proxy.direct.counts) == {DIRECT}


async def test_deletes_of_one_partition_concern_its_segments_only(server: Server) -> None:
    things = await server.create(load=False, partitions=2)
    await server.write(things, {n: n for n in range(20)})
    await server.flush(things)
    await server.load(things)
    proxy = Proxy(server, things)
    await proxy.learn()
    even, odd = (partition.partition_id for partition in things.partitions)
    for key in range(6):
        partition_id = (even, odd)[key % 2]
        await server.streaming.write(
            WriteRequest(
                vchannel=things.vchannels[0],
                collection_id=things.collection_id,
                schema_version=things.schema.version,
                deletes=(PrimaryKeys(pa.array([key]), partition_id),),
            )
        )
        for wanted in ((), (even,), (odd,), (even, odd)):
            answer = await proxy.search(0, partition_ids=wanted, top_k=20)
            ordinary = proxy.request(0, partition_ids=wanted, top_k=20)
            assert same(answer, await server.streaming.search(ordinary))
            assert key not in answer.hits.keys
    assert proxy.direct.counts == {DIRECT: 24}


async def test_a_delete_that_the_delegator_saw_and_the_query_node_did_not(proxy: Proxy) -> None:
    door = asyncio.Event()
    proxy.owner = held = Held(proxy.server.streaming, door, after=False)
    searching = asyncio.create_task(proxy.search(3))
    await held.reached.wait()
    await eventually(lambda: _idle(proxy))
    await proxy.server.write(proxy.things, deletes=[3])
    door.set()
    assert 3 not in (await searching).hits.keys
    assert proxy.direct.counts == {CHANGED: 1}


async def test_a_delete_that_the_query_node_saw_and_the_delegator_did_not(proxy: Proxy) -> None:
    door = asyncio.Event()
    proxy.nodes = {
        node_id: Held(node, door, after=False)
        for node_id, node in {1: proxy.server.query_node, **proxy.server.router.more}.items()
    }
    proxy.owner = held = Held(proxy.server.streaming, asyncio.Event(), after=True)
    searching = asyncio.create_task(proxy.search(3))
    await held.reached.wait()
    await proxy.server.write(proxy.things, {4: 400}, deletes=[4])
    proxy.owner._door.set()
    door.set()
    values = dict(zip(*_columns(await searching), strict=True))
    assert values.get(4) in (None, 400)
    assert proxy.direct.counts == {CHANGED: 1}


async def test_after_a_search_in_vain_some_go_the_ordinary_way(proxy: Proxy) -> None:
    await test_a_delete_that_the_delegator_saw_and_the_query_node_did_not(proxy)
    proxy.owner = proxy.server.streaming
    for _ in range(FIRST_REST):
        await proxy.search(1)
    assert proxy.direct.counts == {CHANGED: 1}
    await proxy.search(1)
    assert proxy.direct.counts == {CHANGED: 1, DIRECT: 1}


async def test_a_view_that_was_switched_is_answered_by_the_delegator_alone(proxy: Proxy) -> None:
    await proxy.server.flush(proxy.things)

    async def has_switched() -> bool:
        return len(proxy.server.shard(proxy.things).view.sealed) == 3

    await eventually(has_switched)
    answer = await proxy.search(22)
    assert proxy.direct.counts == {OUTDATED: 1}
    assert answer.hits.keys.tolist() == [22, 21, 23, 20, 24]
    await proxy.learn()
    assert same(answer, await proxy.search(22))


async def test_a_query_node_that_is_down_is_made_up_for(server: Server) -> None:
    proxy = Proxy(server, await filled(server, replicas=2))
    await proxy.learn()
    server.router.down = {1}
    for _ in range(2):
        assert (await proxy.search(3)).hits.keys[0] == 3
    assert proxy.direct.counts[FAILED] <= 1
    assert (await proxy.search(3)).hits.keys[0] == 3


async def test_a_query_node_that_is_late_is_not_waited_for(server: Server) -> None:
    proxy = Proxy(server, await filled(server, replicas=2))
    await proxy.learn()
    shut = asyncio.Event()
    proxy.nodes = {
        1: Held(server.query_node, shut, after=False),
        2: Held(server.router.more[2], shut, after=False),
    }
    assert (await proxy.search(3)).hits.keys[0] == 3
    assert proxy.direct.counts == {LATE: 1}


async def test_a_view_is_not_asked_for_any_more_when_a_node_has_missed_a_delete(
    proxy: Proxy,
) -> None:
    shard = proxy.server.shard(proxy.things)
    mark = shard.offer.sealed.mark
    proxy.server.router.down = {1, 2}
    await proxy.server.write(proxy.things, deletes=[3])
    proxy.server.router.down = set()
    assert shard.offer is None

    async def is_told() -> bool:
        return not shard.lost_nodes

    await eventually(is_told)
    assert 3 not in (await proxy.search(3)).hits.keys
    assert proxy.direct.counts == {OUTDATED: 1}
    await proxy.learn()
    assert shard.offer.sealed.mark != mark
    assert 3 not in (await proxy.search(3)).hits.keys
    assert proxy.direct.counts == {DIRECT: 1}


async def test_a_copy_that_was_loaded_anew_does_not_bear_the_mark(proxy: Proxy) -> None:
    await proxy.server.write(proxy.things, deletes=[3])
    for node in (proxy.server.query_node, *proxy.server.router.more.values()):
        for loaded in node._segments.values():
            loaded.mark = 0  # as a fresh one
    assert 3 not in (await proxy.search(3)).hits.keys
    assert proxy.direct.counts == {FAILED: 1}


async def test_query_nodes_that_know_no_marks_get_no_searches_by_a_view(server: Server) -> None:
    for node in (server.query_node, *server.router.more.values()):
        node.mark_segments = _unknown  # type: ignore[method-assign]
    proxy = Proxy(server, await filled(server))
    for _ in range(10):
        assert (await proxy.search(3)).hits.keys[0] == 3
        await asyncio.sleep(0)
    assert not proxy.direct.counts


async def test_a_delegator_that_knows_no_views_is_asked_as_ever(proxy: Proxy) -> None:
    class Older:
        async def search(self, request: SearchRequest) -> SearchResponse:
            answer = await proxy.server.streaming.search(replace(request, known_view=None))
            return replace(answer, told=None, view=None)

    proxy.owner = Older()
    for _ in range(3):
        assert (await proxy.search(3)).hits.keys[0] == 3
    assert proxy.direct.counts == {OUTDATED: 1}


async def test_what_expires_or_brings_many_rows_goes_the_ordinary_way(proxy: Proxy) -> None:
    await proxy.search(3, ttl_seconds=3600)
    await proxy.search(3, top_k=2000)
    assert not proxy.direct.counts


async def test_errors_of_the_delegator_are_those_of_the_search(proxy: Proxy) -> None:
    await proxy.server.coordinator.release(proxy.things.collection_id, ())
    with pytest.raises(CollectionNotLoaded):
        await proxy.search(3)


async def _idle(proxy: Proxy) -> bool:
    """Whether the query nodes have answered, so far as they were asked."""
    for _ in range(20):
        await asyncio.sleep(0)
    return True


async def _unknown(segment_ids: tuple[int, ...], mark: int) -> None:
    raise NotServed("mark_segments is not served by this process")


def _columns(answer: SearchResponse) -> tuple[list[int], list[int]]:
    return answer.hits.keys.tolist(), answer.rows.column("value").to_pylist()


async def test_a_query_node_that_takes_all_the_time_is_named(proxy: Proxy) -> None:
    class Silent:
        async def search(self, request: SegmentSearch) -> None:
            assert request.deadline_s is not None
            assert request.deadline_s < 3.0
            raise DeadlineExceeded("no answer in time")

    proxy.nodes = {1: Silent(), 2: Silent()}
    with pytest.raises(Unavailable, match=r"query node \d failed a read: no answer in time"):
        await proxy.search(3, deadline_s=3.0)


async def test_a_view_that_names_a_dropped_partition_shows_none_of_its_rows(server: Server) -> None:
    things = await server.create(load=False, partitions=2)
    await server.write(things, {n: n for n in range(20)})
    await server.flush(things)
    await server.load(things)
    proxy = Proxy(server, things)
    await proxy.learn()
    shard = server.shard(things)
    # As if the drop had come while the view was on its way.
    left = msgspec.structs.replace(shard.collection, partitions=things.partitions[:1])
    shard.set_collection(left, shard.indexes)
    for _ in range(10):
        assert sorted((await proxy.search(3, top_k=20)).hits.keys) == list(range(0, 20, 2))
        await _idle(proxy)  # a new view is being offered
    assert proxy.direct.counts[OUTDATED] == 1
    assert proxy.direct.counts[DIRECT] > 0
    assert await server.count(things) == 10
