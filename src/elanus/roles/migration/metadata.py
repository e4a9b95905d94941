"""Copies metadata: every key, with the bounds of timestamps and ids, so that none repeats.

Two kinds of records are translated. A checkpoint gets its position in the target's log. A log's
record gets the term that the copy was written at, so that the first server opens a newer one.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from elanus.coordinator.records import (
    PREFIX,
    PchannelRecord,
    Record,
    decode,
    encode,
    key_of,
)
from elanus.errors import CorruptData
from elanus.model.catalog import ChannelCheckpoint
from elanus.roles.migration.journal import Journal
from elanus.roles.migration.logs import LogPlan
from elanus.roles.migration.progress import Progress
from elanus.storage.meta.base import (
    MAX_OPERATIONS,
    MAX_VALUE_BYTES,
    Delete,
    KeyValue,
    MetaStore,
    Put,
)
from elanus.storage.wal.base import BEFORE_FIRST

CHECKPOINT_PREFIX = PREFIX + "checkpoint/"
PCHANNEL_PREFIX = PREFIX + "pchannel/"
_BATCH_BYTES = MAX_VALUE_BYTES // 2


async def read_copied(meta: MetaStore) -> dict[str, bytes]:
    """The target's metadata by key, without what belongs to its storage."""
    pairs = (await meta.snapshot("")).pairs
    return {pair.key: pair.value for pair in pairs if not pair.key.startswith("storage/")}


def checkpoints_of(pairs: Mapping[str, bytes], plan: LogPlan) -> dict[str, int]:
    """The positions of the shards of ``plan`` in ``pairs``."""
    positions = dict.fromkeys(plan.checkpoints, BEFORE_FIRST)
    for vchannel in plan.checkpoints:
        key = CHECKPOINT_PREFIX + vchannel
        record = decode(key, pairs[key]) if key in pairs else None
        if isinstance(record, ChannelCheckpoint):
            positions[vchannel] = record.position
    return positions


def term_of(pair: KeyValue | None) -> int:
    """The term in a log's record; 0 without one."""
    record = None if pair is None else decode(pair.key, pair.value)
    return record.term if isinstance(record, PchannelRecord) else 0


def translate(
    pairs: Iterable[KeyValue],
    plans: Iterable[LogPlan],
    copied: Mapping[str, bytes],
    terms: Mapping[str, int],
) -> dict[str, bytes]:
    """What the target has to hold. ``copied`` has the checkpoints of its logs already; ``terms``:
    those of its logs."""
    wanted = {pair.key: pair.value for pair in pairs}
    for key in [key for key in wanted if key.startswith(CHECKPOINT_PREFIX)]:
        record = decode(key, wanted[key])
        if isinstance(record, ChannelCheckpoint):
            # Nobody reads the log of a shard that is gone, but its position must mean nothing.
            wanted[key] = encode(msgspec.structs.replace(record, position=BEFORE_FIRST))
    for plan in plans:
        for vchannel in plan.checkpoints:
            key = CHECKPOINT_PREFIX + vchannel
            wanted.pop(key, None)
            if key in copied:
                wanted[key] = copied[key]
    for pchannel, term in terms.items():
        key = PCHANNEL_PREFIX + pchannel
        record = decode(key, wanted[key]) if key in wanted else None
        known = record.term if isinstance(record, PchannelRecord) else 0
        wanted[key] = encode(PchannelRecord(name=pchannel, term=max(term, known)))
    return wanted


async def store_checkpoints(
    journal: Journal, source: Iterable[KeyValue], translated: Mapping[str, int]
) -> None:
    """Store the positions of a log's shards, with the timestamps that ``source`` has."""
    timestamps: dict[str, int] = {}
    for pair in source:
        record = decode(pair.key, pair.value) if pair.key.startswith(CHECKPOINT_PREFIX) else None
        if isinstance(record, ChannelCheckpoint):
            timestamps[record.vchannel] = record.timestamp
    puts: dict[str, bytes] = {}
    gone: list[str] = []
    for vchannel, position in translated.items():
        if vchannel not in timestamps and position == BEFORE_FIRST:
            gone.append(CHECKPOINT_PREFIX + vchannel)
            continue
        timestamp = timestamps.get(vchannel, 0)
        checkpoint = ChannelCheckpoint(vchannel=vchannel, position=position, timestamp=timestamp)
        puts[key_of(checkpoint)] = encode(checkpoint)
    await store(journal, puts, gone)


async def store(
    journal: Journal,
    puts: Mapping[str, bytes],
    deletes: Iterable[str],
    progress: Progress | None = None,
) -> None:
    """In transactions that every backend takes."""
    operations: list[Put | Delete] = [Put(key, value) for key, value in puts.items()]
    operations += map(Delete, deletes)
    for batch in _batches(operations):
        journal.world.failpoints.hit("migrate.before_metadata")
        await journal.change(batch)
        journal.world.failpoints.hit("migrate.after_metadata")
        if progress is not None:
            progress.advance(len(batch))


def _batches(operations: Sequence[Put | Delete]) -> Iterable[list[Put | Delete]]:
    batch: list[Put | Delete] = []
    size_bytes = 0
    for operation in operations:
        added = len(operation.value) if isinstance(operation, Put) else 0
        if batch and (len(batch) == MAX_OPERATIONS or size_bytes + added > _BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(operation)
        size_bytes += added
    if batch:
        yield batch


def require_same_metadata(
    source: Iterable[KeyValue], target: Mapping[str, bytes], plans: Iterable[LogPlan]
) -> None:
    """All keys but positions and terms are equal. Raises CorruptData that names the first one."""
    expected = {pair.key: _comparable(pair.key, pair.value) for pair in source}
    found = {key: _comparable(key, value) for key, value in target.items()}
    # Shards and logs that the source has no record of yet may have got one.
    fresh = {
        key
        for plan in plans
        for key in (
            PCHANNEL_PREFIX + plan.pchannel,
            *(CHECKPOINT_PREFIX + vchannel for vchannel in plan.checkpoints),
        )
    } - expected.keys()
    for key in sorted((expected.keys() | found.keys()) - fresh):
        if key not in found or key not in expected:
            side = "target" if key in expected else "source"
            raise CorruptData(f"metadata key {key} is missing in the {side}")
        if expected[key] != found[key]:
            raise CorruptData(f"metadata key {key} differs between source and target")


def _comparable(key: str, value: bytes) -> Record | bytes | None:
    if not key.startswith((CHECKPOINT_PREFIX, PCHANNEL_PREFIX)):
        return value
    record = decode(key, value)
    if isinstance(record, ChannelCheckpoint):
        return msgspec.structs.replace(record, position=0)
    if isinstance(record, PchannelRecord):
        return msgspec.structs.replace(record, term=0, node_id=0)
    return record
