from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.coordinator.support import make_world

from elanus.storage.meta.base import MetaStore
from elanus.storage.meta.memory import MemoryMetaStore
from elanus.storage.meta.sqlite import SqliteMetaStore


@pytest.fixture(params=["memory", "sqlite"])
async def meta(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetaStore]:
    world = make_world()
    store: MetaStore
    if request.param == "memory":
        store = MemoryMetaStore(world)
    else:
        store = await SqliteMetaStore.open(world, tmp_path / "meta.db")
    yield store
    await store.close()
    await world.tasks.close()
