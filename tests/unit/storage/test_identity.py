"""A start with storage that doesn't belong together is refused."""

import shutil
from pathlib import Path

import pytest

from elanus.errors import CorruptData, InternalError
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.identity import (
    DirectoryMark,
    Identity,
    IdentityMark,
    MetaMark,
    ObjectsMark,
)
from elanus.storage.identity import ensure_identity as ensure
from elanus.storage.meta.base import Put
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.objects.memory import MemoryObjectStore


class Storage:
    """Metadata, WAL directory and objects; each can be lost or exchanged."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.meta = MemoryMetaStore(world)
        self.objects = MemoryObjectStore(world)
        self.wal = directory

    def marks(self) -> tuple[IdentityMark, IdentityMark, IdentityMark]:
        return (
            MetaMark(self.meta),
            DirectoryMark(self.world, LocalDisk(), self.wal),
            ObjectsMark(self.objects),
        )

    async def start(self) -> str:
        return await ensure(self.world, *self.marks())


@pytest.fixture
def storage(world: World, tmp_path: Path) -> Storage:
    return Storage(world, tmp_path / "wal")


async def test_the_first_start_names_the_cluster_and_later_ones_find_the_name(
    storage: Storage,
) -> None:
    cluster = await storage.start()
    await storage.meta.put("collection/1", b"")
    assert await storage.start() == cluster


@pytest.mark.parametrize("wal_first", [True, False])
async def test_a_log_on_the_same_object_store_has_a_mark_of_its_own(
    world: World, wal_first: bool
) -> None:
    meta, objects = MemoryMetaStore(world), MemoryObjectStore(world)
    wal = ObjectsMark(objects, "wp", prefix="wp/")
    data = ObjectsMark(objects, beside=["wp/"])
    others = [wal, data] if wal_first else [data, wal]
    cluster = await ensure(world, MetaMark(meta), *others)
    assert [info.key for info in await objects.list("")] == ["cluster.json", "wp/cluster.json"]
    assert not await wal.holds_data()
    assert not await data.holds_data()
    await objects.put("wp/p/0000000000000000/0000000000000000", [b"fence"])
    assert await wal.holds_data()
    assert not await data.holds_data()
    await objects.put("wpx/1", [b"not the log's"])
    assert await data.holds_data()
    assert await ensure(world, MetaMark(meta), *others) == cluster
    await objects.delete(["wp/cluster.json"])
    with pytest.raises(CorruptData, match="wp is empty or has lost its mark"):
        await ensure(world, MetaMark(meta), *others)


async def test_a_log_whose_metadata_is_lost_refuses_the_start(world: World) -> None:
    objects = MemoryObjectStore(world)
    await objects.put("wp/p/0000000000000000/0000000000000000", [b"fence"])
    marks = ObjectsMark(objects, "wp", prefix="wp/"), ObjectsMark(objects, beside=["wp/"])
    with pytest.raises(CorruptData, match="object storage wp holds data"):
        await ensure(world, MetaMark(MemoryMetaStore(world)), *marks)


async def test_a_first_start_that_died_anywhere_is_finished(storage: Storage) -> None:
    for survivors in range(1, 4):
        crashed = Storage(storage.world, storage.wal.with_name(f"wal-{survivors}"))
        writes = 0

        async def die_later(mark: IdentityMark, survivors: int = survivors) -> None:
            write = mark.write

            async def write_or_die(identity: object) -> None:
                nonlocal writes
                if writes == survivors:
                    raise ConnectionAbortedError
                writes += 1
                await write(identity)  # type: ignore[arg-type]

            mark.write = write_or_die  # type: ignore[method-assign]

        marks = crashed.marks()
        for mark in marks:
            await die_later(mark)
        with pytest.raises(ConnectionAbortedError):
            await ensure(crashed.world, *marks)
        cluster = await crashed.start()
        assert await crashed.start() == cluster


@pytest.mark.parametrize("lost", ["meta", "wal", "objects"])
async def test_a_lost_part_is_named_and_nothing_starts_afresh(storage: Storage, lost: str) -> None:
    await storage.start()
    name = {"meta": "metadata has no cluster id", "wal": "WAL", "objects": "object storage"}[lost]
    if lost == "meta":
        storage.meta = MemoryMetaStore(storage.world)
    elif lost == "wal":
        shutil.rmtree(storage.wal)
    else:
        storage.objects = MemoryObjectStore(storage.world)
    for _ in range(2):
        with pytest.raises(CorruptData, match=name):
            await storage.start()


async def test_an_exchanged_part_is_refused(storage: Storage) -> None:
    await storage.start()
    other = Storage(storage.world, storage.wal.with_name("other"))
    await other.start()
    storage.objects = other.objects
    with pytest.raises(CorruptData, match="object storage belongs to cluster"):
        await storage.start()


async def test_unmarked_data_is_not_taken_over(storage: Storage) -> None:
    await storage.objects.put("insert_log/1", [b"someone's"])
    with pytest.raises(CorruptData, match="object storage holds data"):
        await storage.start()


async def test_an_unknown_format_version_is_refused(storage: Storage) -> None:
    await storage.start()
    pair = await storage.meta.get("storage/identity")
    assert pair is not None
    newer = pair.value.replace(b'"format_version":1', b'"format_version":9')
    await storage.meta.transact([Put("storage/identity", newer)])
    with pytest.raises(CorruptData, match="format version 9"):
        await storage.start()


async def test_of_processes_that_start_together_one_creates_the_id(storage: Storage) -> None:
    first, second = MetaMark(storage.meta), MetaMark(storage.meta)
    assert await first.read() is None
    assert await second.read() is None
    await first.write(Identity(cluster_id="a", complete=False))
    with pytest.raises(InternalError, match="another process"):
        await second.write(Identity(cluster_id="b", complete=False))
    known = await second.read()
    assert known is not None
    assert known.cluster_id == "a"
