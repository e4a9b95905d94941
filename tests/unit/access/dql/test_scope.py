"""What counts as loaded for a read."""

from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.access.dql.test_consistency import COLLECTION

from elanus.access.dql.scope import loaded_partitions
from elanus.errors import CollectionNotFullyLoaded, CollectionNotLoaded
from elanus.model.catalog import LoadInfo
from elanus.model.types import LoadState


def proxy_that_hears(info: LoadInfo | None) -> Any:
    async def load_info(collection_id: int) -> LoadInfo | None:
        return info

    return SimpleNamespace(meta=SimpleNamespace(load_info=load_info))


def info(**more: Any) -> LoadInfo:
    given = {"collection_id": 1, "partition_ids": (), "replica_number": 1, "progress": 0}
    return LoadInfo(**{**given, "state": LoadState.LOADING, **more})


async def test_what_is_being_loaded_for_the_first_time_is_refused() -> None:
    proxy = proxy_that_hears(info(reason="segments are being loaded"))
    with pytest.raises(CollectionNotFullyLoaded, match="segments are being loaded"):
        await loaded_partitions(proxy, COLLECTION, (), "failed to search")


async def test_shards_are_asked_while_a_coordinator_that_has_just_begun_makes_sure() -> None:
    proxy = proxy_that_hears(info(restoring=True, partition_ids=(7,)))
    assert await loaded_partitions(proxy, COLLECTION, (), "failed to search") == (7,)


async def test_what_is_not_loaded_is_refused() -> None:
    with pytest.raises(CollectionNotLoaded):
        await loaded_partitions(proxy_that_hears(None), COLLECTION, (), "failed to search")
