"""The death of a real process ends its session at once; who can't be recognised is left alone."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from elanus.errors import Unavailable
from elanus.runtime.world import World
from elanus.services.cluster.neighbours import Neighbours, machine_name, started_ticks
from elanus.services.cluster.sessions import (
    PREFIX,
    Membership,
    ProcessIdentity,
    Session,
    SessionInfo,
    end_former_lives,
)
from elanus.storage.meta.base import Put

TTL_S = 9.0
SEEN_WITHIN_S = 10.0


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.fixture
async def membership(world: World, meta) -> AsyncIterator[Membership]:
    membership = Membership(world, meta)
    await membership.start()
    neighbours = Neighbours(world, meta, membership)
    neighbours.start()
    yield membership
    neighbours.close()


async def register(meta, process: subprocess.Popen[bytes], **changes: object) -> None:
    """The session of another process, as it would put it itself."""
    lease = await meta.grant_lease(TTL_S)
    info = SessionInfo(
        node_id=7,
        role="streaming",
        address="127.0.0.1:1",
        version="1",
        started_ms=0,
        pid=process.pid,
        lease=lease,
        machine=machine_name(),
        started_ticks=started_ticks(process.pid),
    )
    info = msgspec.structs.replace(info, **changes)
    await meta.transact([Put(f"{PREFIX}streaming/7", msgspec.json.encode(info), lease)])


async def until(condition) -> None:
    async with asyncio.timeout(SEEN_WITHIN_S):
        while not condition():  # noqa: ASYNC110 - the kernel's word is awaited
            await asyncio.sleep(0.01)


async def test_the_session_of_a_killed_neighbour_ends(membership, meta, process) -> None:
    await register(meta, process)
    await until(lambda: membership.nodes("streaming"))
    process.kill()
    await until(lambda: not membership.nodes("streaming"))


async def test_it_ends_as_soon_as_the_store_is_there(membership, meta, process, clock) -> None:
    await register(meta, process)
    await until(lambda: membership.nodes("streaming"))

    async def refused(lease: int) -> None:
        raise Unavailable("not now")

    revoke, meta.revoke_lease = meta.revoke_lease, refused
    process.kill()
    process.wait()
    await asyncio.sleep(0.1)
    assert membership.nodes("streaming")
    meta.revoke_lease = revoke
    await clock.pass_(1.0)
    await until(lambda: not membership.nodes("streaming"))


@pytest.mark.parametrize(
    "changes",
    [{"machine": "another"}, {"machine": ""}, {"started_ticks": 1}, {"pid": 0x3FFFFF}],
    ids=["another machine", "unknown machine", "its number was given anew", "never seen alive"],
)
async def test_others_are_left_to_their_lease(membership, meta, process, changes) -> None:
    await register(meta, process, **changes)
    await until(lambda: membership.nodes("streaming"))
    process.kill()
    process.wait()
    await asyncio.sleep(0.2)
    assert membership.nodes("streaming")


async def test_who_restarts_on_a_directory_ends_what_was_there(world, meta) -> None:
    membership = Membership(world, meta)
    await membership.start()
    mine, other = Session(world, meta, TTL_S), Session(world, meta, TTL_S)
    await mine.register("query", "127.0.0.1:1", identity=ProcessIdentity("directory-1"))
    await other.register("query", "127.0.0.1:2", identity=ProcessIdentity("directory-2"))
    await until(lambda: len(membership.nodes("query")) == 2)
    await end_former_lives(meta, membership, "directory-1")
    await until(lambda: len(membership.nodes("query")) == 1)
    assert membership.nodes("query")[0].instance == "directory-2"


async def test_a_copied_directory_on_another_host_ends_nothing(
    world, meta, monkeypatch: pytest.MonkeyPatch
) -> None:
    membership = Membership(world, meta)
    await membership.start()
    session = Session(world, meta, TTL_S)
    await session.register("query", "127.0.0.1:1", identity=ProcessIdentity("directory"))
    await until(lambda: membership.nodes("query"))
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    await end_former_lives(meta, membership, "directory")
    await asyncio.sleep(0.1)
    assert membership.nodes("query")


def test_processes_are_told_apart(process) -> None:
    assert machine_name()
    assert started_ticks(os.getpid()) > 0
    assert started_ticks(process.pid) >= started_ticks(os.getpid())
    assert started_ticks(0x3FFFFF) == 0
