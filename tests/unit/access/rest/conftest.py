from typing import Any

import pytest
from tests.unit.access.rest.harness import Client, Recorder

from elanus.wire.protocol import methods


@pytest.fixture
def recorder(bench: Any) -> Recorder:
    made = Recorder()
    made.client = Client(bench.proxy, {name: made.handler(name) for name in methods()})
    return made
