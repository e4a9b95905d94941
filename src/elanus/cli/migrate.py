"""``elanus migrate``: a shell around ``roles/migration``: progress, summary, exit code."""

import sys
from collections.abc import Coroutine
from typing import Any

import uvloop
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from elanus.config.settings import Settings
from elanus.errors import ElanusError
from elanus.observability.logs import configure_logs
from elanus.roles.migration.migrate import Migration
from elanus.roles.migration.progress import Progress, Summary
from elanus.roles.migration.source import Source
from elanus.roles.process import real_world
from elanus.storage.disk import LocalDisk

UNTOUCHED = "the source is untouched"
_LINES_OF_A_PHASE = 10
_PARTS = ("metadata", "objects", "log")


def migrate(source: Settings, target: Settings, *, dry_run: bool, verify_only: bool) -> int:
    """Returns the exit code: 0 only if everything is there and equal."""
    configure_logs("warning", source.log.format)
    try:
        return uvloop.run(_migrate(source, target, dry_run, verify_only))
    except KeyboardInterrupt:
        hint = "" if dry_run or verify_only else "; run it again to go on"
        print(f"elanus: interrupted{hint}; {UNTOUCHED}", file=sys.stderr)
        return 1


async def _migrate(source: Settings, target: Settings, dry_run: bool, verify_only: bool) -> int:
    console = Console(highlight=False, soft_wrap=True)
    world = real_world(source.memory, lambda name, error: None)
    progress = TerminalProgress(console) if console.is_terminal else LineProgress(console)
    try:
        async with Migration(world, LocalDisk(), source, target, progress) as migration:
            console.print(_plan(migration.source, source, target))
            if dry_run:
                console.print("dry run: nothing was copied, the target was not looked at")
                return 0
            summary = await _run(migration, verify_only)
        console.print(_summary(summary, verify_only))
    except (ElanusError, OSError) as error:
        progress.stop()
        what = "verification" if verify_only else "migration"
        print(f"elanus: {what} failed: {error}; {UNTOUCHED}", file=sys.stderr)
        return 1
    finally:
        await world.tasks.close()
        world.executor.close()
    return 0


def _run(migration: Migration, verify_only: bool) -> Coroutine[Any, Any, Summary]:
    return migration.verify() if verify_only else migration.copy()


def _plan(source: Source, source_settings: Settings, target_settings: Settings) -> str:
    size_bytes = sum(info.size_bytes for info in source.objects)
    records = sum(content.records for content in source.contents.values())
    log_bytes = sum(content.size_bytes for content in source.contents.values())
    amounts = (
        f"{len(source.pairs):,} keys",
        f"{len(source.objects):,} objects, {decimal(size_bytes)}",
        f"{records:,} records of {len(source.logs):,} logs, {decimal(log_bytes)}",
    )
    backends = zip(_backends(source_settings), _backends(target_settings), strict=True)
    lines = [f"cluster {source.cluster_id}"]
    for part, (old, new), amount in zip(_PARTS, backends, amounts, strict=True):
        lines.append(f"  {part:9} {amount}: {old} → {new}")
    return "\n".join(lines)


def _backends(settings: Settings) -> tuple[str, str, str]:
    """Where metadata, objects and log are, for people."""
    path = settings.local_storage.path
    etcd, minio = settings.etcd, settings.minio
    metadata = f"etcd {etcd.endpoints} {etcd.root_path}"
    objects = f"{minio.cloud_provider} {minio.bucket_name}/{minio.root_path}"
    return (
        metadata if settings.metastore.type == "etcd" else f"sqlite {path}",
        objects if settings.common.storage_type == "remote" else f"local {path}",
        settings.mq.type if settings.mq.type != "local" else f"local {path}",
    )


def _summary(summary: Summary, verify_only: bool) -> str:
    done = "verified" if verify_only else "migrated"
    lines = [
        f"{done} cluster {summary.cluster_id} in {summary.duration_s:.1f} s",
        f"  objects   {summary.objects.items:,}, {decimal(summary.objects.size_bytes)}"
        + ("" if verify_only else f" ({summary.copied.items:,} copied in this run)"),
        f"  log       {summary.records.items:,} records of {summary.logs} logs, "
        f"{decimal(summary.records.size_bytes)}",
        f"  metadata  {summary.keys:,} keys",
        f"  checksums {summary.checksums:,} compared, all equal",
    ]
    return "\n".join(lines)


class TerminalProgress(Progress):
    """A bar for each phase."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None
        self._counts = TaskID(0)
        self._with_bytes = False

    def begin(self, phase: str, items: int, size_bytes: int = 0) -> None:
        columns = [TextColumn("{task.description}"), BarColumn()]
        self._with_bytes = size_bytes > 0
        amount = DownloadColumn() if self._with_bytes else MofNCompleteColumn()
        self._bars = Bars(*columns, amount, TimeRemainingColumn(), console=self._console)
        self._counts = self._bars.add_task(phase, total=size_bytes or items)
        self._bars.start()

    def advance(self, items: int = 1, size_bytes: int = 0) -> None:
        if self._bars is not None:
            self._bars.advance(self._counts, size_bytes if self._with_bytes else items)

    def end(self) -> None:
        self.stop()

    def stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class LineProgress(Progress):
    """A line when a phase begins, some while it goes on, one at its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase, self._items, self._done = "", 0, 0
        self._done_bytes = 0

    def begin(self, phase: str, items: int, size_bytes: int = 0) -> None:
        self._phase, self._items, self._done, self._done_bytes = phase, items, 0, 0
        size = f", {decimal(size_bytes)}" if size_bytes else ""
        self._console.print(f"{phase}: {items:,}{size}")

    def advance(self, items: int = 1, size_bytes: int = 0) -> None:
        before = self._done * _LINES_OF_A_PHASE // max(self._items, 1)
        self._done += items
        self._done_bytes += size_bytes
        after = self._done * _LINES_OF_A_PHASE // max(self._items, 1)
        if after > before and self._done < self._items:
            size = f", {decimal(self._done_bytes)}" if self._done_bytes else ""
            self._console.print(f"{self._phase}: {self._done:,} of {self._items:,}{size}")

    def end(self) -> None:
        self._console.print(f"{self._phase}: done")

    def stop(self) -> None:
        pass
