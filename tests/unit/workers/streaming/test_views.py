"""What a view that is acknowledged promises to later reads."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.unit.workers.streaming.harness import Server, eventually


async def test_a_view_is_acknowledged_when_reads_are_at_its_version(server: Server) -> None:
    """It may have rows that came by no log, and of those only its version knows the time."""
    things = await server.create()
    pchannel, shard = server.streaming._shard(things.vchannels[0])
    append, may_append = pchannel._writer.append, asyncio.Event()

    async def slow(records: Sequence[Any]) -> list[int]:
        await may_append.wait()
        return await append(records)

    pchannel._writer.append = slow  # type: ignore[method-assign, assignment]
    before = pchannel.safe_time.safe_ts
    write = asyncio.ensure_future(server.write(things, {1: 1}))
    await asyncio.sleep(0.02)
    view = replace(shard.view, version=await server.coordinator.allocate_timestamps())
    told = asyncio.ensure_future(server.streaming.update_view(view))
    await eventually(lambda: asyncio.sleep(0, shard.view is view))
    read = await server.query(things, guarantee_ts=0)
    assert before <= read.read_ts < view.version
    assert not told.done()
    may_append.set()
    await told
    assert (await server.query(things, guarantee_ts=0)).read_ts >= view.version
    await write


async def test_reads_do_not_go_back_when_the_log_is_opened_again(server: Server) -> None:
    things = await server.create()
    pchannel, shard = server.streaming._shard(things.vchannels[0])
    swap, view = server.streaming._replace, shard.view

    async def late(*pchannels: Any) -> None:
        """A view comes while the log is being read again."""
        nonlocal view
        view = replace(view, version=await server.coordinator.allocate_timestamps())
        await server.streaming.update_view(view)
        await swap(*pchannels)

    server.streaming._replace = late  # type: ignore[method-assign]
    await server.streaming.open_pchannel(pchannel.name, pchannel.term + 1)
    assert server.streaming._shard(things.vchannels[0])[0] is not pchannel
    assert (await server.query(things, guarantee_ts=0)).read_ts >= view.version > 0
