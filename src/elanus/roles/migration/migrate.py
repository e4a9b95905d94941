"""Moves a cluster's data from one set of storage backends to another.

Steps, and what a crash right after each leaves:

1. Read and judge the source: nothing, the target is untouched.
2. Claim: the target's identity says *migrating*, and the journal begins, in one transaction. From
   here to step 7 the target refuses to serve.
3. The marks of log and objects, which the next attempt expects.
4. Objects, each verified: the next attempt keeps those that are right.
5. Of each log: its term in the journal, the records, the shards' checkpoints, *finished* in the
   journal. A log that isn't finished is copied again, behind the remains.
6. Metadata, in batches: the next attempt stores what differs.
7. Everything is compared and the source has not changed: as before.
8. Complete: identity and end of the journal, in one transaction. A whole cluster.

The target gets the source's cluster id. Running a migration again is always right: it goes on where
it was, and if the source was used in between it copies what is new and deletes what is gone.
"""

import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from elanus.config.settings import Settings
from elanus.errors import CorruptData, Rejected, Unavailable
from elanus.roles.migration.journal import Journal, LogEntry, claim, require_complete
from elanus.roles.migration.logs import LogContent, LogPlan, copy_log, read_content
from elanus.roles.migration.metadata import (
    PCHANNEL_PREFIX,
    checkpoints_of,
    read_copied,
    require_same_metadata,
    store,
    store_checkpoints,
    term_of,
    translate,
)
from elanus.roles.migration.objects import ObjectCopier, require_same_objects
from elanus.roles.migration.progress import Progress, Summary
from elanus.roles.migration.source import Source, copied_objects, open_source
from elanus.roles.storage import (
    Backends,
    directory_of,
    empty_scratch,
    keeps_data_in_directory,
    lock_directory,
    open_backends,
)
from elanus.runtime.world import World
from elanus.storage.disk import Disk
from elanus.storage.wal.base import Wal


@dataclass(frozen=True, slots=True)
class _Target:
    parts: Backends
    wal: Wal


class Migration:
    """``async with Migration(...) as migration``, then ``copy`` or ``verify``, once.

    Entering reads the source; ``source`` tells what there is to copy.
    """

    source: Source

    def __init__(
        self,
        world: World,
        disk: Disk,
        source_settings: Settings,
        target_settings: Settings,
        progress: Progress,
    ) -> None:
        self._world = world
        self._disk = disk
        self._source_settings = source_settings
        self._target_settings = target_settings
        self._progress = progress
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> "Migration":
        _require_different(self._source_settings, self._target_settings)
        try:
            self.source = await open_source(
                self._world, self._disk, self._source_settings, self._opened
            )
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def copy(self) -> Summary:
        """Raises Rejected if the target holds anything else, CorruptData on any difference."""
        started_s = self._world.clock.monotonic_s()
        summary = Summary(self.source.cluster_id)
        _require_names(self.source.logs, self._target_settings)
        parts = await self._open_target(read_only=False)
        journal = await claim(self._world, parts, self.source.cluster_id)
        wal = await parts.wal.open(self.source.cluster_id)
        self._opened.push_async_callback(wal.close)
        target = _Target(parts, wal)
        await self._copy_objects(target, summary)
        for plan in self.source.logs:
            await self._copy_log(target, journal, plan)
        await self._copy_metadata(target, journal)
        await self.source.require_unchanged()
        require_same_objects(self.source.objects, await copied_objects(parts))
        await self._verify_logs(target, summary)
        await self._verify_metadata(target, summary)
        await self.source.require_unchanged()
        await journal.complete()
        summary.duration_s = self._world.clock.monotonic_s() - started_s
        return summary

    async def verify(self) -> Summary:
        """Compare source and target, which no server has been started on. Changes nothing."""
        started_s = self._world.clock.monotonic_s()
        summary = Summary(self.source.cluster_id)
        parts = await self._open_target(read_only=True)
        await require_complete(parts, self.source.cluster_id)
        wal = await parts.wal.open(self.source.cluster_id)
        self._opened.push_async_callback(wal.close)
        target = _Target(parts, wal)
        await self._verify_metadata(target, summary)
        await self._verify_logs(target, summary)
        with tempfile.TemporaryDirectory(prefix="elanus-migrate-") as scratch:
            copier = self._copier(target, Path(scratch), summary)
            existing = await copied_objects(parts)
            self._begin_objects("comparing objects")
            await copier.verify(self.source.objects, existing)
            self._progress.end()
        await self.source.require_unchanged()
        summary.duration_s = self._world.clock.monotonic_s() - started_s
        return summary

    async def _open_target(self, *, read_only: bool) -> Backends:
        settings = self._target_settings
        if keeps_data_in_directory(settings):
            directory = directory_of(settings)
            if (
                read_only
                and await self._world.executor.run("io", self._disk.file_info, directory) is None
            ):
                raise Unavailable(f"there is nothing to compare: {directory} does not exist")
            await lock_directory(self._world, self._disk, settings, self._opened)
        return await open_backends(
            self._world, self._disk, settings, self._opened, read_only=read_only, use_cache=False
        )

    # --- objects --------------------------------------------------------------------------------

    def _copier(self, target: _Target, scratch: Path, summary: Summary) -> ObjectCopier:
        return ObjectCopier(
            self._world,
            self.source.parts.objects,
            target.parts.objects,
            self.source.files,
            scratch,
            summary,
            self._progress,
        )

    def _begin_objects(self, phase: str) -> None:
        size_bytes = sum(info.size_bytes for info in self.source.objects)
        self._progress.begin(phase, len(self.source.objects), size_bytes)

    async def _copy_objects(self, target: _Target, summary: Summary) -> None:
        log_prefix = target.parts.wal.objects_prefix
        for info in self.source.objects:
            if log_prefix and info.key.startswith(log_prefix):
                raise Rejected(
                    f"object {info.key} of the source lies where the target's log is to be: "
                    f"choose another woodpecker.rootPath"
                )
        with tempfile.TemporaryDirectory(prefix="elanus-migrate-") as temporary:
            scratch = Path(temporary)
            if keeps_data_in_directory(self._target_settings):
                scratch = await self._world.executor.run(
                    "io", empty_scratch, self._disk, self._target_settings
                )
            copier = self._copier(target, scratch, summary)
            existing = await copied_objects(target.parts)
            self._begin_objects("copying objects")
            await copier.copy(self.source.objects, existing)
            self._progress.end()

    # --- logs -----------------------------------------------------------------------------------

    async def _copy_log(self, target: _Target, journal: Journal, plan: LogPlan) -> None:
        known = journal.logs.get(plan.pchannel, LogEntry(term=0))
        if known.finished_digest == self.source.digest:
            return
        hit = self._world.failpoints.hit
        content = self.source.contents[plan.pchannel]
        stored = term_of(await target.parts.meta.get(PCHANNEL_PREFIX + plan.pchannel))
        term = max(plan.term, known.term, stored) + 1
        hit("migrate.before_log")
        await journal.put_log(plan.pchannel, LogEntry(term=term))
        hit("migrate.after_log_term")
        self._progress.begin(f"copying log {plan.pchannel}", content.records, content.size_bytes)
        translated = await copy_log(
            self._world, self.source.wal, target.wal, plan, term, self._progress
        )
        self._progress.end()
        await store_checkpoints(journal, self.source.pairs, translated)
        hit("migrate.before_log_finished")
        entry = LogEntry(term=term, finished_digest=self.source.digest)
        await journal.put_log(plan.pchannel, entry)
        hit("migrate.after_log_finished")

    async def _verify_logs(self, target: _Target, summary: Summary) -> None:
        copied = await read_copied(target.parts.meta)
        self._progress.begin("comparing logs", len(self.source.logs))
        for plan in self.source.logs:
            checkpoints = checkpoints_of(copied, plan)
            found = await read_content(self._world, target.wal, plan.pchannel, checkpoints)
            expected = self.source.contents[plan.pchannel]
            if found != expected:
                raise CorruptData(
                    f"log {plan.pchannel} differs: the source has {_described(expected)}, "
                    f"the target {_described(found)}"
                )
            summary.logs += 1
            summary.checksums += 1
            summary.records.add(found.records, found.size_bytes)
            self._progress.advance()
        self._progress.end()

    # --- metadata -------------------------------------------------------------------------------

    async def _copy_metadata(self, target: _Target, journal: Journal) -> None:
        copied = await read_copied(target.parts.meta)
        terms = {pchannel: entry.term for pchannel, entry in journal.logs.items()}
        wanted = translate(self.source.pairs, self.source.logs, copied, terms)
        puts = {key: value for key, value in wanted.items() if copied.get(key) != value}
        gone = sorted(copied.keys() - wanted.keys())
        self._progress.begin("copying metadata", len(puts) + len(gone))
        await store(journal, puts, gone, self._progress)
        self._progress.end()

    async def _verify_metadata(self, target: _Target, summary: Summary) -> None:
        copied = await read_copied(target.parts.meta)
        require_same_metadata(self.source.pairs, copied, self.source.logs)
        summary.keys = len(copied)


def _require_different(source: Settings, target: Settings) -> None:
    """Two sides that share a part would be refused anyway, but less clearly."""
    both_local = keeps_data_in_directory(source) and keeps_data_in_directory(target)
    if both_local and directory_of(source).resolve() == directory_of(target).resolve():
        raise Rejected(
            f"source and target both keep data in {directory_of(source)}: the target needs a "
            f"directory of its own (localStorage.path)"
        )
    if source.metastore.type == target.metastore.type == "etcd" and (
        source.etcd.endpoints == target.etcd.endpoints
        and source.etcd.root_path == target.etcd.root_path
    ):
        raise Rejected(f"source and target both have their metadata in {source.etcd.root_path}")
    if source.common.storage_type == target.common.storage_type == "remote" and (
        source.minio.address == target.minio.address
        and source.minio.port == target.minio.port
        and source.minio.bucket_name == target.minio.bucket_name
        and source.minio.root_path == target.minio.root_path
    ):
        where = f"{source.minio.bucket_name}/{source.minio.root_path}"
        raise Rejected(f"source and target both have their objects in {where}")


def _require_names(logs: list[LogPlan], target: Settings) -> None:
    """Topics of Pulsar have their log's name, and a cluster knows its own by their prefix."""
    prefix = target.msg_channel.chan_name_prefix.cluster
    for plan in logs:
        if target.mq.type == "pulsar" and not plan.pchannel.startswith(f"{prefix}-"):
            found = plan.pchannel.partition("-rootcoord-dml_")[0]
            raise Rejected(
                f"the log {plan.pchannel} keeps its name, but topics of the target begin with "
                f"{prefix}: set msgChannel.chanNamePrefix.cluster={found} for the target"
            )


def _described(content: LogContent) -> str:
    return (
        f"{content.records} records, {content.size_bytes} bytes, checksum {content.crc32:08x}, "
        f"to be replayed by shard: {dict(sorted(content.replayed.items()))}"
    )
