"""At most one leader acts at any time, and there is a next one when it is gone."""

import asyncio

import pytest

from elanus.coordinator.election import FencedMetaStore, win_leadership
from elanus.errors import Unavailable
from elanus.services.cluster.sessions import Session
from elanus.storage.meta.base import Compare, Put

TTL_S = 9.0


async def candidate(world, meta, instance: str = "") -> tuple[Session, asyncio.Task[Compare]]:
    session = Session(world, meta, TTL_S)
    await session.register("coordinator", "127.0.0.1:1")
    return session, asyncio.create_task(win_leadership(world, meta, session, instance))


async def end(*tasks: asyncio.Task) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_of_many_wins_and_the_next_follows(world, meta, clock) -> None:
    candidates = [await candidate(world, meta) for _ in range(5)]
    terms = []
    while candidates:
        await clock.pass_(1.0)
        winners = [each for each in candidates if each[1].done()]
        assert len(winners) == 1
        terms.append(winners[0][1].result().modified_revision)
        candidates.remove(winners[0])
        await winners[0][0].close()
    assert terms == sorted(set(terms))


async def test_a_leader_that_is_cut_off_is_replaced_and_does_no_more(world, meta, clock) -> None:
    first, winning = await candidate(world, meta)
    await clock.pass_(0.25)
    lost: list[bool] = []
    store = FencedMetaStore(meta, winning.result(), lambda: lost.append(True))
    assert (await store.transact([Put("k", b"1")])).succeeded
    _, waiting = await candidate(world, meta)
    await clock.pass_(2 * TTL_S)
    assert not waiting.done()
    # Paused: its renewals stop, everybody else goes on.
    assert first._renewals is not None
    first._renewals.cancel()
    await clock.pass_(TTL_S + 1)
    assert waiting.done()
    assert not first.is_valid()
    with pytest.raises(Unavailable, match="no longer the leader"):
        await store.transact([Put("k", b"2")])
    assert lost == [True]
    assert (await meta.get("k")).value == b"1"


async def test_a_failed_comparison_is_not_taken_for_a_lost_leadership(world, meta, clock) -> None:
    _, winning = await candidate(world, meta)
    await clock.pass_(0.25)
    store = FencedMetaStore(meta, winning.result(), lambda: pytest.fail("it leads"))
    assert not (await store.transact([Put("k", b"1")], [Compare("k", 77)])).succeeded


async def test_a_restarted_process_takes_over_from_itself_at_once(world, meta, clock) -> None:
    former, winning = await candidate(world, meta, "directory-1")
    _, other = await candidate(world, meta, "directory-2")
    await clock.pass_(0.25)
    assert winning.done()
    assert not other.done()
    _, again = await candidate(world, meta, "directory-1")
    await clock.pass_(0.25)
    assert again.done()
    assert again.result().modified_revision > winning.result().modified_revision
    store = FencedMetaStore(meta, winning.result(), former.lost.set)
    with pytest.raises(Unavailable):
        await store.transact([Put("k", b"1")])
    assert former.lost.is_set()
    await end(other)
