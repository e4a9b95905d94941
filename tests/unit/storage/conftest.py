"""The outside world for storage tests: real threads, files and time."""

from collections.abc import AsyncIterator

import pytest
from tests.worlds import running_world

from elanus.runtime.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running_world() as world:
        yield world
