"""Sessions end for their owners before they end for others; everybody sees who is there."""

import pytest

from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.services.cluster.sessions import Membership, Session

TTL_S = 9.0


async def registered(world: World, meta, role: str = "query") -> Session:
    session = Session(world, meta, TTL_S)
    await session.register(role, "127.0.0.1:1")
    return session


async def test_a_session_lives_as_long_as_its_node(world, meta, clock) -> None:
    session = await registered(world, meta)
    await clock.pass_(5 * TTL_S)
    assert session.is_valid()
    assert not session.lost.is_set()
    session.require_valid()


async def test_ids_are_never_used_again(world, meta) -> None:
    first = await registered(world, meta)
    await first.close()
    second = await registered(world, meta)
    assert second.info.node_id > first.info.node_id > 0


async def test_a_node_that_is_cut_off_knows_it_before_others_do(world, meta, clock) -> None:
    session = await registered(world, meta)
    membership = Membership(world, meta)
    await membership.start()
    await clock.pass_(TTL_S)
    meta.cut()
    await clock.pass_(TTL_S * 0.6)
    while session.is_valid():
        await clock.pass_(0.25)
    assert await meta.range("session/query/"), "the store still believes in it"
    with pytest.raises(Unavailable):
        session.require_valid()
    await clock.pass_(TTL_S)
    assert not await meta.range("session/query/")
    meta.heal()
    await clock.pass_(5.0)
    assert session.lost.is_set()
    assert membership.nodes("query") == []


async def test_a_short_cut_is_survived(world, meta, clock) -> None:
    session = await registered(world, meta)
    meta.cut()
    await clock.pass_(TTL_S / 2)
    meta.heal()
    await clock.pass_(3 * TTL_S)
    assert session.is_valid()
    assert not session.lost.is_set()


async def test_a_paused_node_is_not_valid_when_it_goes_on(world, meta, clock) -> None:
    session = await registered(world, meta)
    await clock.pass_(TTL_S)
    clock.jump(TTL_S + 1)
    assert not session.is_valid()
    await clock.pass_(TTL_S)
    assert session.lost.is_set()
    assert not session.is_valid()


async def test_an_orderly_end_is_seen_at_once(world, meta, clock) -> None:
    membership = Membership(world, meta)
    changes: list[str] = []
    membership.listeners.append(changes.append)
    await membership.start()
    session = await registered(world, meta, "streaming")
    await clock.pass_(0.25)
    assert [info.stopping for info in membership.nodes("streaming")] == [False]
    await session.announce_stopping()
    await clock.pass_(0.25)
    assert [info.stopping for info in membership.nodes("streaming")] == [True]
    await session.close()
    await clock.pass_(0.25)
    assert membership.nodes("streaming") == []
    assert changes == ["streaming"] * 3


async def test_members_are_known_after_the_watch_broke(world, meta, clock) -> None:
    membership = Membership(world, meta)
    await membership.start()
    gone = await registered(world, meta)
    await clock.pass_(0.25)
    meta.cut()
    await clock.pass_(0.5)
    await gone.close()
    meta.is_cut = False
    there = await registered(world, meta)
    meta.cut()
    assert [info.node_id for info in membership.nodes("query")] == [gone.info.node_id]
    meta.heal()
    await clock.pass_(6.0)
    assert [info.node_id for info in membership.nodes("query")] == [there.info.node_id]


async def test_an_entry_whose_answer_was_lost_is_no_loss(world, meta, clock, monkeypatch) -> None:
    session = await registered(world, meta)
    transact = meta.transact

    async def twice(operations, compares=()):
        await transact(operations, compares)
        return await transact(operations, compares)

    with monkeypatch.context() as patched:
        patched.setattr(meta, "transact", twice)
        await session.announce_stopping()
    assert not session.lost.is_set()
    await session.announce_stopping()
    assert not session.lost.is_set()
