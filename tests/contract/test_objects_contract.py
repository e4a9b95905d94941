"""What every object store must do. A new backend joins by another case of ``store``."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elanus.errors import InternalError
from elanus.runtime.clock import SystemClock
from elanus.runtime.world import World
from elanus.storage.disk import LocalDisk
from elanus.storage.objects.base import ObjectExists, ObjectNotFound, ObjectStore
from elanus.storage.objects.cached import CachedObjectStore
from elanus.storage.objects.local import LocalObjectStore
from elanus.storage.objects.memory import MemoryObjectStore
from elanus.storage.objects.remote import RemoteObjectStore
from tests.remote_objects import remote_settings

CACHE_BYTES = 64 << 20
KINDS = [
    "memory",
    "local",
    "minio",
    "seaweedfs",
    "moto",
    "azurite",
    "gcs",
    "cached memory",
    "cached minio",
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server(request: pytest.FixtureRequest, kind: str) -> Any:
    """The real server that the store of this kind needs, if any."""
    name = kind.removeprefix("cached ")
    return None if name in ("memory", "local") else request.getfixturevalue(name)


@pytest.fixture
async def store(kind: str, server: Any, world: World, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    opened: ObjectStore
    match kind.removeprefix("cached "):
        case "memory":
            opened = MemoryObjectStore(world)
        case "local":
            opened = await LocalObjectStore.open(world, LocalDisk(), tmp_path / "objects")
        case _:  # retries take real time
            world = replace(world, clock=SystemClock())
            opened = await RemoteObjectStore.open(world, remote_settings(server))
    if kind.startswith("cached"):
        opened = await CachedObjectStore.open(world, opened, tmp_path / "cache", CACHE_BYTES)
    yield opened
    await opened.close()


async def test_an_object_is_the_concatenation_of_its_parts(store: ObjectStore) -> None:
    await store.put("a/b/c.bin", [b"one", bytearray(b""), memoryview(b"two")])
    assert await store.get("a/b/c.bin") == b"onetwo"
    assert await store.get_range("a/b/c.bin", 2, 3) == b"etw"
    assert await store.get_range("a/b/c.bin", 4, 100) == b"wo"
    assert await store.get_range("a/b/c.bin", 4, 0) == b""


async def test_ranges_come_in_the_order_asked_for(store: ObjectStore) -> None:
    data = bytes(number % 251 for number in range(300_000))
    await store.put("ranges", [data])
    ranges = [(200_000, 10), (0, 1), (5, 0), (10, 20), (199_995, 10), (299_999, 50)]
    expected = [data[start : start + length] for start, length in ranges]
    assert await store.get_ranges("ranges", ranges) == expected
    assert await store.get_ranges("ranges", []) == []
    with pytest.raises(ObjectNotFound):
        await store.get_ranges("nothing", ranges)


async def test_a_create_only_put_that_is_repeated_after_a_lost_answer_is_success(
    store: ObjectStore,
) -> None:
    await store.put("once", [b"same"], create_only=True)
    await store.put("once", [b"sa", b"me"], create_only=True)
    with pytest.raises(ObjectExists):
        await store.put("once", [b"other"], create_only=True)
    assert await store.get("once") == b"same"


async def test_files_that_can_be_mapped_hold_the_object(store: ObjectStore) -> None:
    await store.put("mapped", [b"content"])
    path = await store.fetch("mapped")
    assert (path is not None) == store.maps_files
    if path is not None:
        assert path.read_bytes() == b"content"
        with pytest.raises(ObjectNotFound):
            await store.fetch("nothing/here")


async def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    await store.put("empty", [])
    assert await store.get("empty") == b""
    assert [info.size_bytes for info in await store.list("")] == [0]


async def test_thousands_of_parts_are_one_object(store: ObjectStore) -> None:
    parts = [b"%d" % number for number in range(5_000)]
    await store.put("many", parts)
    assert await store.get("many") == b"".join(parts)


async def test_a_put_replaces_unless_it_may_only_create(store: ObjectStore) -> None:
    await store.put("k", [b"1"])
    await store.put("k", [b"2"])
    with pytest.raises(ObjectExists):
        await store.put("k", [b"3"], create_only=True)
    assert await store.get("k") == b"2"


async def test_one_of_many_creators_wins(store: ObjectStore) -> None:
    async def create(number: int) -> bool:
        try:
            await store.put("race/x", [b"%d" % number], create_only=True)
        except ObjectExists:
            return False
        return True

    won = await asyncio.gather(*(create(number) for number in range(16)))
    assert sum(won) == 1
    assert await store.get("race/x") == b"%d" % won.index(True)


async def test_a_missing_object_is_told(store: ObjectStore) -> None:
    with pytest.raises(ObjectNotFound):
        await store.get("nothing/here")
    with pytest.raises(ObjectNotFound):
        await store.get_range("nothing/here", 0, 1)


async def test_a_list_is_sorted_and_by_prefix_of_the_text(store: ObjectStore) -> None:
    for key in ("p/2", "p/10", "p/1", "pq/1", "o", "p/1x/y"):
        await store.put(key, [key.encode()])
    assert [info.key for info in await store.list("p/1")] == ["p/1", "p/10", "p/1x/y"]
    assert [info.key for info in await store.list("p")] == [
        "p/1",
        "p/10",
        "p/1x/y",
        "p/2",
        "pq/1",
    ]
    assert len(await store.list("")) == 6
    assert await store.list("none/") == []
    assert [info.size_bytes for info in await store.list("p/1x/")] == [6]


async def test_delete_removes_and_forgives_absence(store: ObjectStore) -> None:
    await store.put("d/1", [b""])
    await store.put("d/2", [b""])
    await store.delete(["d/1", "d/none", "e"])
    assert [info.key for info in await store.list("")] == ["d/2"]


async def test_puts_and_deletes_of_neighbours_do_not_meet(store: ObjectStore) -> None:
    async def put_and_delete(number: int) -> None:
        await store.put(f"x/y/{number}", [b"1"], create_only=True)
        await store.delete([f"x/y/{number}"])

    for _ in range(5):
        await asyncio.gather(*(put_and_delete(number) for number in range(20)))
    assert await store.list("") == []


async def test_a_file_is_taken_over(store: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "built.index"
    source.write_bytes(b"index")
    await store.put_file("index_files/1", source)
    assert await store.get("index_files/1") == b"index"


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "a\\b", "a\n"])
async def test_odd_keys_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InternalError, match="key"):
        await store.put(key, [b""])
    with pytest.raises(InternalError, match="key"):
        await store.get(key)


async def test_local_objects_are_files_and_debris_goes(world: World, tmp_path: Path) -> None:
    root = tmp_path / "objects"
    store = await LocalObjectStore.open(world, LocalDisk(), root)
    await store.put("a/b", [b"1"])
    path = store.path_of("a/b")
    assert path.read_bytes() == b"1"
    debris = root / ".tmp" / "7#1"
    debris.write_bytes(b"half")
    assert [info.key for info in await store.list("")] == ["a/b"]
    await LocalObjectStore.open(world, LocalDisk(), root)
    assert not debris.exists()
    assert path.exists()
