"""A follower ends up with the present state whatever happens to its watch."""

from elanus.services.cluster.following import PrefixFollower
from elanus.storage.meta.base import Delete, Put


async def follow(world, meta) -> tuple[PrefixFollower, list]:
    changes: list = []
    follower = PrefixFollower(world, meta, "p/", lambda key, value: changes.append((key, value)))
    await follower.start()
    return follower, changes


async def test_it_knows_what_was_there_and_what_comes(world, meta, clock) -> None:
    await meta.transact([Put("p/a", b"1"), Put("q/z", b"9")])
    follower, changes = await follow(world, meta)
    assert follower.values == {"a": b"1"}
    await meta.transact([Put("p/b", b"2")])
    await meta.transact([Delete("p/a")])
    await clock.pass_(0.25)
    assert follower.values == {"b": b"2"}
    assert changes == [("a", b"1"), ("b", b"2"), ("a", None)]


async def test_changes_during_a_break_are_told_afterwards(world, meta, clock) -> None:
    await meta.transact([Put("p/a", b"1"), Put("p/b", b"1"), Put("p/c", b"1")])
    follower, changes = await follow(world, meta)
    await clock.pass_(0.25)
    del changes[:]
    meta.cut()
    await meta.transact([Put("p/a", b"2"), Delete("p/b"), Put("p/d", b"1")])
    await clock.pass_(30.0)
    assert follower.values["a"] == b"1", "the last known state stays"
    meta.heal()
    await clock.pass_(6.0)
    assert follower.values == {"a": b"2", "c": b"1", "d": b"1"}
    assert sorted(changes, key=str) == [("a", b"2"), ("b", None), ("d", b"1")]
    await meta.transact([Put("p/c", b"3")])
    await clock.pass_(0.25)
    assert follower.values["c"] == b"3"


async def test_a_compacted_history_is_read_anew(world, meta, clock) -> None:
    follower, _ = await follow(world, meta)
    await clock.pass_(0.25)
    meta.cut()
    await clock.pass_(0.25)
    await meta.transact([Put("p/a", b"1")])
    meta.compacted = True
    meta.heal()
    await clock.pass_(10.0)
    assert not meta.compacted
    await meta.transact([Put("p/b", b"1")])
    await clock.pass_(0.25)
    assert follower.values == {"a": b"1", "b": b"1"}
