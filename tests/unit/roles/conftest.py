"""The outside world for these tests is real."""

from collections.abc import AsyncIterator

import pytest
from tests.worlds import running_world

from elanus.runtime.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world
    assert world.tasks.failures == []
