"""Which instant a read gets for each consistency level."""

from typing import Any

import msgspec
import pytest

from elanus.access.dql.consistency import ReadInstant, Wish, resolve
from elanus.config.settings import CommonSettings
from elanus.errors import Rejected
from elanus.model.catalog import CollectionInfo
from elanus.model.schema import CollectionSchema
from elanus.model.timestamp import compose
from elanus.model.types import ConsistencyLevel

NOW_MS = 1_000_000
NOW = compose(NOW_MS, 1)
BOUNDED = compose(NOW_MS - 5_000)
WRITTEN = compose(NOW_MS - 100)
STRONG, SESSION, BOUNDED_LEVEL, EVENTUALLY, CUSTOMIZED = range(5)

COLLECTION = CollectionInfo(
    collection_id=1,
    database="default",
    schema=CollectionSchema(name="c", fields=()),
    vchannels=("a_1v0",),
    partitions=(),
    consistency_level=ConsistencyLevel.BOUNDED,
    created_ts=1,
    updated_ts=3,
)


class Now:
    """Clock and oracle that stand still."""

    def now_ms(self) -> int:
        return NOW_MS

    async def allocate_timestamps(self, count: int = 1) -> int:
        return NOW


async def read(wish: Wish, collection: CollectionInfo = COLLECTION, **options: Any) -> ReadInstant:
    now: Any = Now()
    return await resolve(wish, collection, now, now, CommonSettings(), **options)


@pytest.mark.parametrize(
    ("level", "given", "guarantee"),
    [
        (STRONG, 0, COLLECTION.updated_ts),
        (SESSION, WRITTEN, WRITTEN),
        (BOUNDED_LEVEL, 2, BOUNDED),
        (EVENTUALLY, 1, COLLECTION.updated_ts),
        (CUSTOMIZED, WRITTEN, WRITTEN),
    ],
)
async def test_levels(level: int, given: int, guarantee: int) -> None:
    expected = ReadInstant(guarantee, is_strong=level == STRONG)
    assert await read(Wish(level, given, False)) == expected


@pytest.mark.parametrize(
    ("given", "guarantee"), [(1, COLLECTION.updated_ts), (2, BOUNDED), (WRITTEN, WRITTEN)]
)
async def test_old_clients_say_it_with_the_timestamp(given: int, guarantee: int) -> None:
    assert await read(Wish(STRONG, given, False)) == ReadInstant(guarantee)


@pytest.mark.parametrize(
    ("level", "guarantee"),
    [
        (ConsistencyLevel.BOUNDED, BOUNDED),
        (ConsistencyLevel.STRONG, COLLECTION.updated_ts),
        (ConsistencyLevel.SESSION, COLLECTION.updated_ts),
    ],
)
async def test_the_default_is_the_collections(level: ConsistencyLevel, guarantee: int) -> None:
    collection = msgspec.structs.replace(COLLECTION, consistency_level=level)
    expected = ReadInstant(guarantee, is_strong=level is ConsistencyLevel.STRONG)
    assert await read(Wish(EVENTUALLY, 1, True), collection) == expected


async def test_no_read_goes_behind_the_last_change_of_the_schema() -> None:
    collection = msgspec.structs.replace(COLLECTION, updated_ts=WRITTEN)
    for level in (BOUNDED_LEVEL, EVENTUALLY):
        assert await read(Wish(level, 1, False), collection) == ReadInstant(WRITTEN)


async def test_strong_reads_of_several_shards_share_an_instant() -> None:
    collection = msgspec.structs.replace(COLLECTION, vchannels=("a_1v0", "b_1v1"))
    assert await read(Wish(STRONG, 0, False), collection) == ReadInstant(NOW, NOW, True)


async def test_iterators_stay_at_the_instant_of_their_first_page() -> None:
    assert await read(Wish(STRONG, 0, True), is_iterator=True) == ReadInstant(NOW, NOW, True)
    assert await read(Wish(STRONG, 77, True), is_iterator=True) == ReadInstant(77, 77)


async def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(Rejected, match="invalid consistency level: 9"):
        await read(Wish(9, 0, False))
