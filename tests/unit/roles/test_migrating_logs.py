"""Of a log that is copied, each shard replays what it would have replayed where it was."""

import asyncio
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from tests.worlds import make_world

from elanus.errors import InternalError
from elanus.roles.migration.logs import LogPlan, copy_log, read_content
from elanus.runtime.world import World
from elanus.storage.wal.base import BEFORE_FIRST, Wal
from elanus.storage.wal.memory import MemoryWal

LOG = "by-dev-rootcoord-dml_0"


class Silent:
    def begin(self, phase: str, items: int, size_bytes: int = 0) -> None: ...
    def advance(self, items: int = 1, size_bytes: int = 0) -> None: ...
    def end(self) -> None: ...


async def fill(wal: Wal, payloads: list[bytes]) -> None:
    writer = await wal.open_writer(LOG, 1)
    await writer.append([[payload] for payload in payloads])


async def replayed(wal: Wal, position: int) -> list[bytes]:
    return [bytes(record.payload) async for record in wal.read(LOG, position)]


async def check(payloads: list[bytes], positions: list[int], crashes: list[int]) -> None:
    world, source, target = make_world(cores=1), MemoryWal(), MemoryWal()
    await fill(source, payloads)
    checkpoints = {f"{LOG}_{n}v0": position for n, position in enumerate(positions)}
    after = min(checkpoints.values())
    await source.truncate(LOG, after)
    plan = LogPlan(LOG, 1, after, checkpoints)
    term = 1
    for crash in crashes:
        term += 1
        name = ("migrate.before_append", "migrate.after_append")[crash]
        world.failpoints.arm(name, "error")
        with suppress(InternalError):  # an empty log has nothing to append
            await copy_log(world, source, target, plan, term, Silent())
    translated = await copy_log(world, source, target, plan, term + 1, Silent())
    assert translated.keys() == checkpoints.keys()
    for vchannel, position in checkpoints.items():
        assert await replayed(target, translated[vchannel]) == await replayed(source, position)
    assert await read_content(world, target, LOG, translated) == await read_content(
        world, source, LOG, checkpoints
    )
    world.executor.close()


@given(
    st.lists(st.binary(max_size=8), max_size=600),
    st.lists(st.integers(BEFORE_FIRST, 620), min_size=1, max_size=6),
    st.lists(st.integers(0, 1), max_size=3),
)
def test_checkpoints_keep_their_meaning_whatever_attempts_left(
    payloads: list[bytes], positions: list[int], crashes: list[int]
) -> None:
    positions = [min(position, len(payloads) - 1) for position in positions]
    asyncio.run(check(payloads, positions, crashes))


async def test_contents_that_differ_in_bounds_or_in_a_shards_part_are_not_equal(
    world: World,
) -> None:
    one, other = MemoryWal(), MemoryWal()
    await fill(one, [b"ab", b"c"])
    await fill(other, [b"a", b"bc"])
    everything = {"v": BEFORE_FIRST, "w": 0}
    content = await read_content(world, one, LOG, everything)
    assert (content.records, content.size_bytes, content.replayed) == (2, 3, {"v": 2, "w": 1})
    assert content != await read_content(world, other, LOG, everything)
    assert content != await read_content(world, one, LOG, {"v": BEFORE_FIRST, "w": 1})
