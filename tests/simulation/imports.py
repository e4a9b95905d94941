"""Bulk imports among the users' operations: all rows or none, once, whatever dies in between.

The rows of an import are older than the moment at which a shard begins to show them. So until its
job is over each read of a shard may find all or none of them, and two reads at one instant may
differ. The first Strong read after a completed job finds all, those after a failed one none.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from elanus.errors import DiskFull, Unavailable
from elanus.model.catalog import DEFAULT_PARTITION, CollectionInfo
from elanus.model.imports import ImportJob, ImportJobRequest, ImportState
from tests.simulation.data import NAME, extra_fields, extra_value, vectors_of
from tests.simulation.oracle import Operation, Violation

if TYPE_CHECKING:
    from tests.simulation.workload import Client

_LOOK_S = 0.1


@dataclass
class Import:
    """One that may have been asked for. ``shards``: those whose rows are still to be looked for;
    ``stamps``: the insert timestamps that were found."""

    op_id: int
    file: str
    shards: list[int]
    stamps: set[int]


async def begin_import(client: "Client") -> None:
    """Rows with keys that are free now, of all shards, in one file."""
    shared = client.shared
    for shard in range(shared.shards):
        if shared.tracks[client.number, shard].pending is not None:
            await client.scan(shard)
    info = await client.described()
    count = client.rng.choice([1, 5, 20])
    chosen = {shard: _free_keys(client, shard)[:count] for shard in range(shared.shards)}
    shards = [shard for shard, keys in chosen.items() if keys]
    op_id = shared.next_op_id()
    shared.written_fields[op_id] = extra_fields(info.schema)
    for shard in shards:
        track = shared.tracks[client.number, shard]
        track.begin(Operation(op_id, (), tuple(chosen[shard]), track.last_ts))
    client.importing = Import(op_id, f"new/{op_id}.json", shards, set())
    shared.importing += 1
    content = _rows(info, [key for keys in chosen.values() for key in keys], op_id)
    await client.server.storage.objects.put(client.importing.file, [json.dumps(content).encode()])
    request = ImportJobRequest(
        collection_id=info.collection_id,
        partition_id=info.partition_by_name[DEFAULT_PARTITION].partition_id,
        groups=((client.importing.file,),),
    )
    try:
        await client.server.coordinator.create_import(request)
    except (Unavailable, DiskFull) as error:
        client.trace(f"import {op_id}: {type(error).__name__}")
    await finish_import(client)


async def finish_import(client: "Client") -> None:
    """Wait for the end of the job, if there is one, and look for its rows."""
    running, shared = client.importing, client.shared
    assert running is not None
    job = await client.patiently("import", lambda: _job(client))
    while job is not None and not job.state.is_over:
        await asyncio.sleep(_LOOK_S)
        job = await client.patiently("import", lambda: _job(client))
    is_there = job is not None and job.state is ImportState.COMPLETED
    for shard in list(running.shards):
        contents = await client.strong_contents(shard)
        shared.check(shard, contents, "a scan after an import")
        track = shared.tracks[client.number, shard]
        rows, timestamps = contents.of_client(client.number)
        running.stamps.update(track.imported(contents.read_ts, rows, timestamps, is_there))
        running.shards.remove(shard)
    if len(running.stamps) > 1:
        raise Violation(f"import {running.op_id} appeared at {sorted(running.stamps)}")
    client.importing = None
    shared.importing -= 1
    shared.breaks += 1
    client.trace(f"import {running.op_id}: {'none' if job is None else job.state.value}")


async def _job(client: "Client") -> ImportJob | None:
    """The job of the client's import; None if there surely is none."""
    coordinator, running = client.server.coordinator, client.importing
    assert running is not None
    # A change that does nothing lets the coordinator find out what it may have stored.
    await coordinator.create_partition("default", NAME, DEFAULT_PARTITION)
    jobs: Sequence[ImportJob] = await coordinator.import_jobs("default", NAME)
    found = [job for job in jobs if job.request.groups == ((running.file,),)]
    if len(found) > 1:
        raise Violation(f"{len(found)} jobs import {running.file}")
    return found[0] if found else None


def _free_keys(client: "Client", shard: int) -> list[int]:
    """In a random order."""
    taken = client.shared.tracks[client.number, shard].now()
    keys = [key for key in client.keys[shard] if client.home(key) == DEFAULT_PARTITION]
    free = [key for key in keys if key not in taken]
    return client.rng.sample(free, len(free))


def _rows(info: CollectionInfo, keys: Sequence[int], op_id: int) -> list[dict[str, Any]]:
    """As ``data.batch`` has them."""
    extra = {name: extra_value(op_id, name) for name in extra_fields(info.schema)}
    vectors = vectors_of(keys, [op_id] * len(keys)).tolist()
    return [
        {"id": key, "value": op_id, "vector": vector, **extra}
        for key, vector in zip(keys, vectors, strict=True)
    ]
