"""The supervisor keeps processes alive until they are unwanted, and says what is wrong."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.worlds import make_world

from elanus.errors import InvalidParameter, Unavailable
from elanus.roles.cluster.peers import Peers
from elanus.roles.cluster.supervisor import Supervisor, send_command
from elanus.services.cluster.sessions import Membership
from elanus.storage.meta.memory import MemoryMetaStore

UNREACHABLE = {
    "metastore.type": "etcd",
    "etcd.endpoints": "127.0.0.1:9",
    "common.storageType": "remote",
    "mq.type": "woodpecker",
}
TIMEOUT_S = 60.0


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    """One whose processes look for a metadata store that isn't there."""
    world = make_world(cores=1)
    meta = MemoryMetaStore(world)
    membership = Membership(world, meta)
    await membership.start()
    supervisor = Supervisor(world, membership, tmp_path, UNREACHABLE, None, Peers())
    yield supervisor
    await supervisor.stop()
    await world.tasks.close()
    await meta.close()
    world.executor.close()


async def until_it_runs(supervisor: Supervisor, other_than: int | None = None) -> int:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            (process,) = await supervisor.status()
            if process["pid"] not in (None, other_than):
                return int(process["pid"])
            await asyncio.sleep(0.02)


async def test_a_process_that_died_is_started_again(supervisor: Supervisor) -> None:
    await supervisor.start({"data": 1})
    pid = await until_it_runs(supervisor)
    os.kill(pid, signal.SIGKILL)
    again = await until_it_runs(supervisor, other_than=pid)
    (process,) = await supervisor.status()
    assert process["failures"] >= 1
    assert process["state"] in ("starting", "down")
    await supervisor.drain("data-1")
    assert await supervisor.status() == []
    with pytest.raises(ProcessLookupError):
        os.kill(again, 0)


async def test_it_answers_commands_and_says_what_is_wrong(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="elanus cluster up"):
        await send_command(tmp_path, {"do": "status"})
    await supervisor.start({})
    assert (await send_command(tmp_path, {"do": "status"}))["processes"] == []
    with pytest.raises(InvalidParameter, match="no process is called query-9"):
        await send_command(tmp_path, {"do": "kill", "name": "query-9"})
    with pytest.raises(InvalidParameter, match="unknown role root"):
        await send_command(tmp_path, {"do": "add", "role": "root"})
    await send_command(tmp_path, {"do": "stop"})
    assert supervisor.stopping.is_set()
