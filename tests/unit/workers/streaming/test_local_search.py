"""One process: what grows and what is sealed is searched in one job of the query node."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.workers.streaming.harness import Server

from elanus.model.catalog import CollectionInfo
from elanus.services.messages import SearchResponse
from elanus.workers.query import node as query_node


@pytest.fixture
async def things(server: Server) -> CollectionInfo:
    """Even ids are sealed, odd ones grow; their values are the ids."""
    things = await server.create(load=False)
    await server.write(things, {n: n for n in range(0, 20, 2)})
    await server.flush(things)
    await server.load(things)
    await server.write(things, {n: n for n in range(1, 20, 2)})
    return things


def values(response: SearchResponse) -> list[int]:
    found: list[int] = response.rows.column("value").to_pylist()
    assert found == response.hits.keys.tolist()
    return found


async def test_output_fields_come_from_both_parts(server: Server, things: CollectionInfo) -> None:
    assert values(await server.search(things, 7)) == [7, 6, 8]
    assert values(await server.search(things, 0, top_k=40)) == list(range(20))


async def test_a_deleted_row_of_either_part_is_gone(server: Server, things: CollectionInfo) -> None:
    await server.write(things, deletes=[7, 8])
    assert values(await server.search(things, 7)) == [6, 5, 9]


async def test_growing_rows_are_left_out_on_demand(server: Server, things: CollectionInfo) -> None:
    assert values(await server.search(things, 7, ignore_growing=True)) == [6, 8, 4]


async def test_searches_that_wait_share_calls_and_see_their_own_instant(
    server: Server, things: CollectionInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    run = server.world.executor.run

    async def counted(pool: str, function: Callable[..., Any], *args: Any, **more: Any) -> Any:
        calls[pool] += 1
        return await run(pool, function, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(server.world.executor, "run", counted)
    before = [asyncio.ensure_future(server.search(things, 30, 1, ())) for _ in range(20)]
    await asyncio.gather(*before)
    assert calls["search"] < 20
    mixed = []
    for n in range(20, 40):
        mixed.append(asyncio.ensure_future(server.search(things, 100, 1)))
        await server.write(things, {n: n})
        mixed.append(asyncio.ensure_future(server.search(things, 100, 1)))
    seen = [values(answer)[0] for answer in await asyncio.gather(*mixed)]
    assert all(first >= 19 + n for n, first in enumerate(seen[0::2]))
    assert all(after >= 20 + n for n, after in enumerate(seen[1::2]))


async def test_a_search_at_an_earlier_instant_does_not_see_later_rows(
    server: Server, things: CollectionInfo
) -> None:
    then = (await server.search(things, 30, 1)).read_ts
    await server.write(things, {30: 30})
    asked = [server.search(things, 30, 1, read_ts=ts) for ts in (0, then) * 10]
    found = [values(answer)[0] for answer in await asyncio.gather(*asked)]
    assert found == [30, 19] * 10


async def test_a_search_that_is_spread_over_sealed_segments_finds_what_grows_too(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = await server.create(load=False)
    for first in (0, 1):
        await server.write(things, {n: n for n in range(first, 30, 3)})
        await server.flush(things)
    await server.load(things)
    await server.write(things, {n: n for n in range(2, 30, 3)})
    monkeypatch.setattr(query_node, "_PARALLEL_ROWS", 1)
    assert values(await server.search(things, 7)) == [7, 6, 8]
    assert values(await server.search(things, 0, top_k=40)) == list(range(30))
    await server.write(things, deletes=[7, 8])
    assert (await server.search(things, 7, 3, ())).hits.keys.tolist() == [6, 5, 9]
