"""A shard whose sealed segments have copies on several query nodes, which fail, come and go."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.workers.streaming.harness import Server, eventually

from elanus.errors import DeadlineExceeded, Unavailable
from elanus.model.catalog import CollectionInfo
from elanus.services.hedging import MAX_SAVED
from elanus.services.messages import QueryRequest

SEGMENTS = 4


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = await Server(tmp_path, query_nodes=3).start()
    yield server
    await server.stop()


def has_copies(server: Server, replicas: int) -> Callable[[], Any]:
    async def has() -> bool:
        held = Counter(segment_id for ids in server.held().values() for segment_id in ids)
        return sorted(held.values()) == [replicas] * SEGMENTS

    return has


def has_rows(server: Server, things: CollectionInfo, count: int) -> Callable[[], Any]:
    """A view that still names a lost node makes reads fail for a moment, retriable."""

    async def has() -> bool:
        try:
            return len(await server.contents(things)) == count
        except Unavailable:
            return False

    return has


async def filled(server: Server, replicas: int) -> CollectionInfo:
    """Four segments of 10 rows, loaded."""
    things = await server.create(load=False)
    for number in range(SEGMENTS):
        await server.write(things, {10 * number + n: number for n in range(10)})
        await server.flush(things)
    await server.load(things, replicas)
    await eventually(has_copies(server, replicas))
    return things


async def test_each_segment_is_on_as_many_nodes_as_asked_for(server: Server) -> None:
    things = await filled(server, 2)
    load = await server.coordinator.load_info(things.collection_id)
    assert load is not None
    shown = {node: [] for node in server.held()}
    for segment_id, nodes in sorted(load.placement.items()):
        assert len(set(nodes)) == 2
        for node_id in nodes:
            shown[node_id].append(segment_id)
    assert shown == server.held()
    assert sorted(map(len, shown.values())) == [2, 3, 3]
    assert len(await server.contents(things)) == 40


async def test_reads_are_spread_over_the_copies(server: Server) -> None:
    things = await filled(server, 3)
    asked: Counter[int] = Counter()
    for node_id, node in {1: server.query_node, **server.router.more}.items():
        node.query = _counted(node.query, asked, node_id)  # type: ignore[method-assign]
    for _ in range(30):
        assert await server.count(things) == 40
    assert asked == {1: 10, 2: 10, 3: 10}


async def test_a_read_whose_node_fails_goes_on_with_another_copy(server: Server) -> None:
    things = await filled(server, 2)
    for node_id in (1, 2, 3):
        server.router.down = {node_id}
        for _ in range(4):
            assert len(await server.contents(things)) == 40
            found = await server.search(things, 2)
            assert found.rows.column("value").to_pylist() == [2, 2, 2]
    server.router.down = {1, 2, 3}
    with pytest.raises(Unavailable):
        await server.contents(things)


async def test_a_copy_that_was_released_under_a_read_is_made_up_for(server: Server) -> None:
    things = await filled(server, 2)
    await server.query_node.release_segments(tuple(server.query_node.segment_ids()))
    for _ in range(6):
        assert len(await server.contents(things)) == 40


async def test_deletes_reach_every_copy_and_a_copy_that_missed_them_is_not_read(
    server: Server,
) -> None:
    things = await filled(server, 2)
    await server.write(things, deletes=[1, 11, 21, 31])
    for down in ({1}, {2}, {3}):
        server.router.down = down
        assert await server.count(things) == 36
    server.router.down = {2}
    await server.write(things, deletes=[2, 12, 22, 32])
    server.router.down = set()
    assert await server.count(things) == 32
    for _ in range(6):
        assert await server.count(things) == 32

    async def told() -> bool:
        return not server.shard(things).lost_nodes

    await eventually(told)
    for down in ({1}, {2}, {3}):
        server.router.down = down
        assert await server.count(things) == 32


async def test_copies_are_made_up_when_a_node_is_lost(server: Server) -> None:
    things = await filled(server, 2)
    server.router.more.pop(3)
    server.coordinator.query_nodes_changed()
    await eventually(has_copies(server, 2))
    assert {len(ids) for ids in server.held().values()} == {SEGMENTS}
    server.router.more.pop(2)
    server.coordinator.query_nodes_changed()
    await eventually(has_copies(server, 1))
    await eventually(has_rows(server, things, 40))
    server.add_query_node(4)
    server.coordinator.query_nodes_changed()
    await eventually(has_copies(server, 2))
    await eventually(has_rows(server, things, 40))


async def test_a_new_node_gets_its_share_while_reads_go_on(server: Server) -> None:
    del server.router.more[2], server.router.more[3]
    things = await filled(server, 1)
    await server.write(things, deletes=[5])
    server.add_query_node(4)
    server.coordinator.query_nodes_changed()

    async def balanced() -> bool:
        assert await server.count(things) == 39
        return {node_id: len(ids) for node_id, ids in server.held().items()} == {1: 2, 4: 2}

    await eventually(balanced)
    await server.write(things, deletes=[6, 16, 26, 36])
    assert await server.count(things) == 35


async def test_a_stopping_node_is_emptied_while_reads_go_on(server: Server) -> None:
    things = await filled(server, 1)
    server.router.stopping.add(1)
    server.coordinator.query_nodes_changed()

    async def empty() -> bool:
        assert await server.count(things) == 40
        return not server.query_node.segment_ids()

    await eventually(empty)
    await eventually(has_copies(server, 1))
    assert await server.count(things) == 40


async def test_a_node_that_can_not_load_takes_no_copy_from_another(server: Server) -> None:
    del server.router.more[2], server.router.more[3]
    things = await filled(server, 1)
    server.add_query_node(4)
    refused = 0

    async def load_segment(request: Any) -> None:
        nonlocal refused
        refused += 1
        raise Unavailable("no room")

    server.router.more[4].load_segment = load_segment  # type: ignore[method-assign]
    server.coordinator.query_nodes_changed()

    async def tried() -> bool:
        return refused > SEGMENTS

    await eventually(tried)
    assert await server.count(things) == 40
    assert len(server.query_node.segment_ids()) == SEGMENTS


def _counted(call: Any, asked: Counter[int], node_id: int) -> Any:
    async def counted(request: Any) -> Any:
        asked[node_id] += 1
        return await call(request)

    return counted


async def test_a_node_that_is_silent_holds_no_read_of_what_others_have(server: Server) -> None:
    things = await filled(server, 3)
    silent = _silenced(server, 2)
    for value in range(SEGMENTS):
        found = await server.search(things, 10 * value)
        assert len(found.hits.keys) > 0
        assert await server.count(things) == 40
    assert silent.asked
    assert silent.cancelled == silent.asked


async def test_additional_requests_have_a_budget(server: Server) -> None:
    things = await filled(server, 2)
    silent = _silenced(server, 1, 2, 3)
    reads = [asyncio.create_task(server.count(things)) for _ in range(100)]
    async with asyncio.timeout(20):
        while silent.asked < 110:  # noqa: ASYNC110 - the node has no event for it
            await asyncio.sleep(0.01)
    silent.answer()
    assert await asyncio.gather(*reads) == [40] * 100
    most_nodes_of_a_read = 3
    assert silent.asked <= most_nodes_of_a_read * (100 + MAX_SAVED + 20)


async def test_a_silent_node_with_the_only_copy_is_an_error_in_time(server: Server) -> None:
    things = await filled(server, 1)
    _silenced(server, 1, 2, 3)
    with pytest.raises(Unavailable, match=r"query node . failed a read"):
        await server.streaming.query(
            QueryRequest(things.collection_id, things.vchannels[0], 0, deadline_s=0.2)
        )


class _Silent:
    """What was asked of silent nodes, until they answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.cancelled = 0
        self._answers = asyncio.Event()

    def answer(self) -> None:
        self._answers.set()

    async def wait(self, deadline_s: float | None) -> None:
        self.asked += 1
        try:
            async with asyncio.timeout(deadline_s):
                await self._answers.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except TimeoutError:
            raise DeadlineExceeded("no answer in time") from None


def _silenced(server: Server, *node_ids: int) -> _Silent:
    silent = _Silent()

    def silence(method: Any) -> Any:
        async def call(request: Any) -> Any:
            await silent.wait(request.deadline_s)
            return await method(request)

        return call

    for node_id, node in {1: server.query_node, **server.router.more}.items():
        if node_id in node_ids:
            for name in ("search", "query", "fetch"):
                setattr(node, name, silence(getattr(node, name)))
    return silent
