"""A server without ports, for tests of workers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.workers.streaming.harness import Server


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = await Server(tmp_path).start()
    yield server
    await server.stop()
