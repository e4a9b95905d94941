"""After the faults: the server must become well by itself, within bounded time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from elanus.model.types import IndexState, LoadState, SegmentLevel, SegmentState
from elanus.storage.formats.keys import KINDS
from elanus.storage.formats.manifest import read_manifest
from tests.simulation.data import NAME
from tests.simulation.oracle import Violation
from tests.simulation.shared import Shared
from tests.simulation.workload import Client
from tests.simulation.world import GC_INTERVAL_S, MISSING_TOLERANCE_S, SETTINGS, Server

HEALING_S = 200.0
_WAL_FILES = 3


async def heal(server: Server, clients: Sequence[Client], shared: Shared) -> None:
    """Raises Violation if something does not become as it should be."""
    for client in clients:
        await client.settle()
    shared.trace("everything is settled")
    info = await server.own_coordinator.describe_collection("default", NAME)
    await server.own_coordinator.load(info.collection_id, (), 1)
    tickets = await server.own_coordinator.flush(info.collection_id)
    flush_ts = min(ticket.flush_ts for ticket in tickets)
    await _until(lambda: server.own_coordinator.is_flushed(info.collection_id, flush_ts), "flushed")
    await _until(lambda: _is_well(server, info.collection_id), "indexed and loaded")
    await look_again(server, clients, shared)
    await asyncio.sleep(MISSING_TOLERANCE_S + 3 * GC_INTERVAL_S)
    await _until(lambda: _is_clean(server), "clean")
    await look_again(server, clients, shared)
    shared.trace("everything is well")


async def look_again(server: Server, clients: Sequence[Client], shared: Shared) -> None:
    """Everything that was acknowledged is there."""
    for client in clients:
        for shard in range(shared.shards):
            await client.scan(shard)
        await client._count()
        await client._search()


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(HEALING_S):
            while not await condition():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.25)
    except TimeoutError:
        raise Violation(f"not {what} after {HEALING_S} s without faults") from None


async def _is_well(server: Server, collection_id: int) -> bool:
    """Everything in segments is indexed and loaded, and nothing is held twice."""
    loaded = await server.own_coordinator.load_info(collection_id)
    if loaded is None or loaded.state is not LoadState.LOADED:
        return False
    indexes = await server.own_coordinator.list_indexes(collection_id)
    segments = [
        segment
        for segment in await server.own_coordinator.list_segments(collection_id)
        if segment.level is not SegmentLevel.L0
    ]
    for segment in segments:
        states = {part.index_id: part.state for part in segment.indexes}
        if any(states.get(index.index_id) is not IndexState.FINISHED for index in indexes):
            return False
    read = {segment.segment_id: segment.version for segment in segments}
    if server.query.loaded_versions() != read:
        return False
    shards = server.streaming._shards_by_pchannel()
    return not any(shard.growing for _, shard in shards)


async def _is_clean(server: Server) -> bool:
    """No superfluous log files, records or objects; the memory ledger fits what is held."""
    if await server.wal.size_bytes() > SETTINGS.wal.segment_size * _WAL_FILES * 2:
        return False
    tables = server.own_coordinator._catalog.tables
    keys: set[str] = set()
    objects = server.storage.objects
    for by_id in tables.segments.values():
        for segment in by_id.values():
            if segment.state is not SegmentState.FLUSHED:
                return False
            manifest = await read_manifest(objects, segment.manifest_key)
            keys.add(segment.manifest_key)
            keys.update(file.key for file in manifest.files)
            keys.update(part.key for part in segment.indexes if part.key)
    present = {info.key for kind in KINDS for info in await objects.list(f"{kind}/")}
    if keys - present:
        raise Violation(f"objects are missing: {sorted(keys - present)}")
    if present - keys:
        return False
    held = sum(
        sum(growing.size_bytes for growing in shard.growing.values()) + shard.deletes.size_bytes
        for _, shard in server.streaming._shards_by_pchannel()
    )
    accounted = server.world.memory.used_by_category().get("growing", 0)
    if held != accounted:
        raise Violation(f"{held} bytes are growing, the ledger says {accounted}")
    return True
