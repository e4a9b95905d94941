"""The proxy's memory of collections: shared lookups, and no stale answer after a change."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from elanus.access.meta_cache import EVERYTHING, MetaCache
from elanus.errors import CollectionNotFound
from elanus.model.catalog import CollectionInfo, DatabaseInfo, IndexInfo
from elanus.model.schema import CollectionSchema
from elanus.model.types import ConsistencyLevel
from elanus.runtime.tasks import TaskSupervisor
from elanus.services.interfaces import CoordinatorService


def collection(collection_id: int, name: str, updated_ts: int = 1) -> CollectionInfo:
    return CollectionInfo(
        collection_id=collection_id,
        database="default",
        schema=CollectionSchema(name=name, fields=()),
        vchannels=(),
        partitions=(),
        consistency_level=ConsistencyLevel.BOUNDED,
        created_ts=1,
        updated_ts=updated_ts,
    )


class Coordinator:
    """Answers look-ups from a table, when the gate is open."""

    def __init__(self) -> None:
        self.table: dict[str, CollectionInfo] = {}
        self.lookups = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.listener: Callable[[int], None] = lambda _: None

    def on_change(self, listener: Callable[[int], None]) -> None:
        self.listener = listener

    async def describe_collection(self, database: str, name: str) -> CollectionInfo:
        self.lookups += 1
        found = self.table.get(name)
        await self.gate.wait()
        if found is None:
            raise CollectionNotFound(database, name)
        return found

    async def list_indexes(self, collection_id: int) -> list[IndexInfo]:
        return []

    async def describe_database(self, name: str) -> DatabaseInfo:
        return DatabaseInfo(database_id=1, name=name, created_ts=1)


@pytest.fixture
def coordinator() -> Coordinator:
    made = Coordinator()
    made.table["books"] = collection(1, "books")
    return made


@pytest.fixture
async def cache(coordinator: Coordinator) -> AsyncIterator[MetaCache]:
    tasks = TaskSupervisor()
    yield MetaCache(cast(CoordinatorService, coordinator), tasks)
    assert not tasks.failures
    await tasks.close()


async def test_lookups_at_the_same_time_share_one_call(
    cache: MetaCache, coordinator: Coordinator
) -> None:
    coordinator.gate.clear()
    waiting = [asyncio.ensure_future(cache.collection("default", "books")) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    coordinator.gate.set()
    answers: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [a.name for a in answers[1:]] == ["books"] * 9
    assert coordinator.lookups == 1
    await cache.collection("default", "books")
    assert coordinator.lookups == 1


async def test_a_change_is_seen_by_the_next_lookup(
    cache: MetaCache, coordinator: Coordinator
) -> None:
    await cache.collection("default", "books")
    coordinator.table["books"] = collection(1, "books", updated_ts=2)
    coordinator.listener(1)
    assert (await cache.collection("default", "books")).updated_ts == 2


async def test_a_change_of_another_collection_forgets_nothing_but_aliases(
    cache: MetaCache, coordinator: Coordinator
) -> None:
    coordinator.table["favourites"] = collection(1, "books")
    await cache.collection("default", "books")
    await cache.collection("default", "favourites")
    coordinator.table["favourites"] = collection(2, "films")
    coordinator.listener(2)
    assert (await cache.collection("default", "favourites")).collection_id == 2
    assert (await cache.collection("default", "books")).collection_id == 1
    assert coordinator.lookups == 3


async def test_a_lookup_that_a_change_overtakes_is_not_remembered(
    cache: MetaCache, coordinator: Coordinator
) -> None:
    coordinator.gate.clear()
    early = asyncio.ensure_future(cache.collection("default", "books"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert coordinator.lookups == 1
    coordinator.table["books"] = collection(1, "books", updated_ts=2)
    coordinator.listener(EVERYTHING)
    late = asyncio.ensure_future(cache.collection("default", "books"))
    await asyncio.sleep(0)
    coordinator.gate.set()
    assert (await early).updated_ts == 1
    assert (await late).updated_ts == 2
    assert (await cache.collection("default", "books")).updated_ts == 2


async def test_a_missing_collection_is_asked_for_again(
    cache: MetaCache, coordinator: Coordinator
) -> None:
    with pytest.raises(CollectionNotFound):
        await cache.collection("default", "films")
    coordinator.table["films"] = collection(2, "films")
    assert (await cache.collection("default", "films")).collection_id == 2
