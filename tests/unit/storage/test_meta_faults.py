"""SQLite metadata without room, and damaged."""

from pathlib import Path

import pytest

from elanus.errors import CorruptData, DiskFull, InternalError, Unavailable
from elanus.runtime.world import World
from elanus.storage.meta.base import Compare, Delete, Put, RevisionCompacted
from elanus.storage.meta.sqlite import SqliteMetaStore


async def test_without_room_writes_are_refused_and_reads_go_on(
    world: World, tmp_path: Path
) -> None:
    store = await SqliteMetaStore.open(world, tmp_path / "meta.db")
    await store.put("a", b"1")
    # SQLite's own limit takes the same way through it as a full device.
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    revision = await store.revision()
    for _ in range(3):
        with pytest.raises(DiskFull):
            await store.transact([Put("a", b"2"), Put("b", b"x" * 100_000)])
        pair = await store.get("a")
        assert pair is not None
        assert pair.value == b"1"
        assert await store.revision() == revision
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert await store.put("b", b"x" * 100_000) == revision + 1
    await store.close()


async def test_a_failure_before_the_commit_leaves_nothing(world: World, tmp_path: Path) -> None:
    store = await SqliteMetaStore.open(world, tmp_path / "meta.db")
    revision = await store.put("a", b"1")
    world.failpoints.arm("meta.transact.before_commit", "error")
    with pytest.raises(InternalError):
        await store.transact([Delete("a")])
    assert (await store.transact([Put("a", b"2")], [Compare("a", revision)])).succeeded
    assert await store.revision() == revision + 1
    await store.close()


async def test_a_second_process_is_refused(world: World, tmp_path: Path) -> None:
    store = await SqliteMetaStore.open(world, tmp_path / "meta.db")
    with pytest.raises(Unavailable, match="in use by another process"):
        await SqliteMetaStore.open(world, tmp_path / "meta.db")
    await store.put("a", b"1")
    await store.close()
    with pytest.raises(Unavailable, match="closed"):
        await store.get("a")


async def test_a_damaged_file_is_reported_by_name(world: World, tmp_path: Path) -> None:
    path = tmp_path / "meta.db"
    path.write_bytes(b"this is no database" * 1_000)
    with pytest.raises(CorruptData, match=r"meta\.db"):
        await SqliteMetaStore.open(world, path)


async def test_a_watch_that_falls_behind_what_is_kept_is_told(world: World, tmp_path: Path) -> None:
    store = await SqliteMetaStore.open(world, tmp_path / "meta.db")
    store._events._max_events = 10
    events = store.watch("", 1)
    await store.put("a", b"")
    assert (await anext(events)).revision == 1
    for number in range(20):
        await store.put(str(number), b"")
    with pytest.raises(RevisionCompacted):
        await anext(events)
    newest = await store.revision()
    assert (await anext(store.watch("", newest - 9))).revision == newest - 9
    with pytest.raises(RevisionCompacted):
        await anext(store.watch("", newest - 10))
    await store.close()
