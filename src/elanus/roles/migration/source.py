"""What a migration copies: everything is read and judged before the target is touched.

The source is never changed: its metadata is opened for reading, its log has no writer, and nothing
is put. A local source is locked, so that no server can run on it. Remote parts have no lock:
leases in the metadata tell of a live process, and :meth:`Source.require_unchanged` notices at the
end whether anything was written meanwhile.
"""

import hashlib
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from elanus.config.settings import Settings
from elanus.coordinator.records import PREFIX, CollectionRecord, PchannelRecord, Record, decode
from elanus.errors import CorruptData, Rejected, Unavailable
from elanus.model.catalog import ChannelCheckpoint, SegmentInfo, pchannel_of
from elanus.model.types import SegmentState
from elanus.roles.migration.logs import LogContent, LogPlan, read_content
from elanus.roles.migration.parallel import for_each
from elanus.roles.storage import (
    Backends,
    directory_of,
    keeps_data_in_directory,
    lock_directory,
    open_backends,
)
from elanus.runtime.world import World
from elanus.storage.disk import Disk
from elanus.storage.formats.manifest import FileEntry, read_manifest
from elanus.storage.identity import MARK_NAME, read_identity
from elanus.storage.meta.base import KeyValue, MetaStore
from elanus.storage.objects.base import ObjectInfo
from elanus.storage.wal.base import BEFORE_FIRST, Wal

STORAGE_PREFIX = "storage/"
"""Metadata keys of the storage itself, which are not copied."""


@dataclass(frozen=True, slots=True)
class Source:
    """``pairs``: the metadata to copy. ``files``: what manifests and index records say of objects,
    by key. ``contents``: what each log of ``logs`` holds. ``digest``: of the metadata."""

    cluster_id: str
    parts: Backends
    wal: Wal
    pairs: list[KeyValue]
    digest: str
    objects: list[ObjectInfo]
    files: dict[str, FileEntry]
    logs: list[LogPlan]
    contents: dict[str, LogContent]

    async def require_unchanged(self) -> None:
        """Raises Rejected if the source was written to since it was read."""
        if _digest(await _pairs_of(self.parts.meta)) != self.digest:
            raise Rejected(
                "the source's metadata has changed during the migration: a server is running on "
                "it; stop it and run the migration again"
            )
        for plan in self.logs:
            last = self.contents[plan.pchannel].last_position
            async for _ in self.wal.read(plan.pchannel, last):
                raise Rejected(
                    f"the source's log {plan.pchannel} has grown during the migration: a server "
                    f"is running on it; stop it and run the migration again"
                )


async def open_source(
    world: World, disk: Disk, settings: Settings, opened: AsyncExitStack
) -> Source:
    """Raises CorruptData if something is damaged or missing, Unavailable if it is in use."""
    directory = directory_of(settings)
    if keeps_data_in_directory(settings):
        # A lock can't be had without making the directory, which would look like a source.
        if await world.executor.run("io", disk.file_info, directory) is None:
            raise Unavailable(f"there is nothing to copy: {directory} does not exist")
        await lock_directory(world, disk, settings, opened)
    parts = await open_backends(world, disk, settings, opened, read_only=True, use_cache=False)
    cluster_id = await read_identity(parts.meta_mark, parts.wal.mark, parts.objects_mark)
    wal = await parts.wal.open(cluster_id)
    opened.push_async_callback(wal.close)
    pairs = await _pairs_of(parts.meta)
    if settings.metastore.type != "sqlite":
        _require_no_leases(pairs)
    pairs = [pair for pair in pairs if not pair.lease]
    records = [_decode(pair) for pair in pairs if pair.key.startswith(PREFIX)]
    objects = await copied_objects(parts)
    segments = [record for record in records if isinstance(record, SegmentInfo)]
    files = await _named_files(parts, segments, {info.key: info for info in objects})
    logs = plan_logs(records)
    contents = {
        plan.pchannel: await read_content(world, wal, plan.pchannel, plan.checkpoints)
        for plan in logs
    }
    digest = _digest(pairs)
    return Source(cluster_id, parts, wal, pairs, digest, objects, files, logs, contents)


async def copied_objects(parts: Backends) -> list[ObjectInfo]:
    """All objects but the cluster's mark and a log that is kept beside them."""
    log_prefix = parts.wal.objects_prefix
    return [
        info
        for info in await parts.objects.list("")
        if info.key != MARK_NAME and not (log_prefix and info.key.startswith(log_prefix))
    ]


def plan_logs(records: Iterable[object]) -> list[LogPlan]:
    """The logs that have shards, by name."""
    stored = {r.vchannel: r.position for r in records if isinstance(r, ChannelCheckpoint)}
    terms = {r.name: r.term for r in records if isinstance(r, PchannelRecord)}
    shards: dict[str, dict[str, int]] = {}
    for record in records:
        if isinstance(record, CollectionRecord):
            for vchannel in record.info.vchannels:
                position = stored.get(vchannel, BEFORE_FIRST)
                shards.setdefault(pchannel_of(vchannel), {})[vchannel] = position
    return [
        LogPlan(name, terms.get(name, 0), min(checkpoints.values()), checkpoints)
        for name, checkpoints in sorted(shards.items())
    ]


async def _pairs_of(meta: MetaStore) -> list[KeyValue]:
    pairs = (await meta.snapshot("")).pairs
    return [pair for pair in pairs if not pair.key.startswith(STORAGE_PREFIX)]


def _decode(pair: KeyValue) -> Record | None:
    try:
        return decode(pair.key, pair.value)
    except msgspec.DecodeError as error:
        raise CorruptData(f"metadata key {pair.key} of the source is damaged: {error}") from error


def _digest(pairs: Iterable[KeyValue]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        if not pair.lease:
            digest.update(f"{len(pair.key)}:{pair.key}{len(pair.value)}:".encode())
            digest.update(pair.value)
    return digest.hexdigest()


def _require_no_leases(pairs: Iterable[KeyValue]) -> None:
    for pair in pairs:
        if pair.lease:
            raise Rejected(
                f"the source is being served: a live process holds the metadata key {pair.key}; "
                f"stop all servers of this cluster"
            )


async def _named_files(
    parts: Backends, segments: list[SegmentInfo], objects: dict[str, ObjectInfo]
) -> dict[str, FileEntry]:
    """What live segments say of their objects. Raises CorruptData if one of them is missing."""
    files: dict[str, FileEntry] = {}
    owners: dict[str, int] = {}

    async def read(segment: SegmentInfo) -> None:
        entries = [
            FileEntry(key=index.key, size_bytes=index.size_bytes, crc32=index.checksum)
            for index in segment.indexes
            if index.key
        ]
        if segment.manifest_key:
            manifest = await read_manifest(parts.objects, segment.manifest_key)
            entries += manifest.files
        for entry in entries:
            files[entry.key] = entry
            owners[entry.key] = segment.segment_id

    live = [segment for segment in segments if segment.state is not SegmentState.DROPPED]
    await for_each(live, read)
    for key in sorted(files):
        if key not in objects:
            raise CorruptData(
                f"the source is damaged: object {key}, which segment {owners[key]} needs, is "
                f"missing from {parts.objects_mark.name}"
            )
    return files
