"""Copies the write-ahead log: the records that a recovery would read, and nothing else.

A position means something to one backend only. While a log is copied the checkpoints of its shards
are translated: each becomes the position of the last copied record at or before it, or the
position where the copy begins. So every shard replays on the target just the records that it would
have replayed on the source, which :class:`LogContent` counts to prove it.

An attempt appends behind whatever earlier attempts have left, with a writer of a newer term that
fences theirs. The translated checkpoints leave those remains out, and they are truncated.
"""

import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from elanus.roles.migration.progress import Progress
from elanus.runtime.world import World
from elanus.storage.wal.base import BEFORE_FIRST, Wal, WalRecord

CHUNK_RECORDS = 256
CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class LogPlan:
    """One log of the source. ``term``: the newest that may have written. ``after``: the smallest
    checkpoint. ``checkpoints``: positions by vchannel, of every shard on this log."""

    pchannel: str
    term: int
    after: int
    checkpoints: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LogContent:
    """What a recovery would read. ``replayed``: records after each shard's own checkpoint."""

    records: int
    size_bytes: int
    crc32: int
    replayed: Mapping[str, int]
    last_position: int = field(compare=False)


async def read_content(
    world: World, wal: Wal, pchannel: str, checkpoints: Mapping[str, int]
) -> LogContent:
    """Reads the log from the smallest of ``checkpoints`` on."""
    after = min(checkpoints.values(), default=BEFORE_FIRST)
    records, size_bytes, checksum, last = 0, 0, 0, after
    waiting = sorted(checkpoints.items(), key=lambda item: item[1], reverse=True)
    skipped: dict[str, int] = {}
    async for chunk in _in_chunks(wal.read(pchannel, after)):
        for n, record in enumerate(chunk, records):
            while waiting and waiting[-1][1] < record.position:
                skipped[waiting.pop()[0]] = n
        records += len(chunk)
        size_bytes += sum(record.payload.nbytes for record in chunk)
        checksum = await world.executor.run("compute", _checksum, chunk, checksum)
        last = chunk[-1].position
    replayed = {name: records - skipped.get(name, records) for name in checkpoints}
    return LogContent(records, size_bytes, checksum, replayed, last)


async def copy_log(
    world: World, source: Wal, target: Wal, plan: LogPlan, term: int, progress: Progress
) -> dict[str, int]:
    """The shards' checkpoints on the target. ``term`` must be durable before the call.

    Raises FencedWriter if a writer of a newer term has opened the target's log.
    """
    writer = await target.open_writer(plan.pchannel, term)
    try:
        last = BEFORE_FIRST
        async for record in target.read(plan.pchannel):
            last = record.position
        if last != BEFORE_FIRST:
            await target.truncate(plan.pchannel, last)
        waiting = sorted(plan.checkpoints.items(), key=lambda item: item[1], reverse=True)
        translated: dict[str, int] = {}
        async for chunk in _in_chunks(source.read(plan.pchannel, plan.after)):
            world.failpoints.hit("migrate.before_append")
            positions = await writer.append([[record.payload] for record in chunk])
            world.failpoints.hit("migrate.after_append")
            for record, position in zip(chunk, positions, strict=True):
                while waiting and waiting[-1][1] < record.position:
                    translated[waiting.pop()[0]] = last
                last = position
            progress.advance(len(chunk), sum(record.payload.nbytes for record in chunk))
        translated.update((vchannel, last) for vchannel, _ in waiting)
        return translated
    finally:
        await writer.close()


async def _in_chunks(records: AsyncIterator[WalRecord]) -> AsyncIterator[list[WalRecord]]:
    chunk: list[WalRecord] = []
    size_bytes = 0
    async for record in records:
        chunk.append(record)
        size_bytes += record.payload.nbytes
        if len(chunk) >= CHUNK_RECORDS or size_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, size_bytes = [], 0
    if chunk:
        yield chunk


def _checksum(chunk: list[WalRecord], checksum: int) -> int:
    """Sizes are part of it: records must not only have the same bytes but the same bounds."""
    for record in chunk:
        checksum = zlib.crc32(b"%d:" % record.payload.nbytes, checksum)
        checksum = zlib.crc32(record.payload, checksum)
    return checksum
