"""Import tasks of a data node: users' files become segments, in two steps.

First the rows are written, as segments that nobody knows (``import_files``). When all tasks of a
job are that far the coordinator chooses the instant at which its rows appear, and
``stamp_segments`` writes that into new manifests, which name the columns of the first step. Either
step may be done twice or break off: what it wrote is debris then.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from elanus.config.settings import Settings
from elanus.errors import DiskFull, ImportFailed, Unavailable
from elanus.model.catalog import SegmentInfo
from elanus.runtime.world import World
from elanus.services.import_messages import ImportResult, ImportTask, StampTask
from elanus.services.interfaces import TimestampOracle
from elanus.services.messages import TaskResult
from elanus.storage.formats.columns import decode_batch, encode_numbers
from elanus.storage.formats.files import write_file
from elanus.storage.formats.keys import SegmentPlace, manifest_key, timestamps_key
from elanus.storage.formats.manifest import read_manifest, write_manifest
from elanus.storage.formats.segment_writer import flushed_segment, write_segment
from elanus.storage.objects.base import Buffer, ObjectNotFound, ObjectStore
from elanus.workers.data.importing.importer import Importer
from elanus.workers.data.importing.request import FileGroup, ImportRequest, SortedPiece

T = TypeVar("T")

_MEGABYTE = 1 << 20


class Imports:
    """See the module. Local copies of files, and rows on their way, are in ``scratch``."""

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        objects: ObjectStore,
        oracle: TimestampOracle,
        importer: Importer,
        scratch: Path,
    ) -> None:
        self._world = world
        self._objects = objects
        self._oracle = oracle
        self._importer = importer
        self._scratch = scratch
        self._json_max_length = settings.common.json_max_length
        self._max_segment_bytes = settings.data_coord.segment.max_size * _MEGABYTE
        self._rows_read: dict[int, int] = {}

    async def import_progress(self, task_id: int) -> int:
        return self._rows_read.get(task_id, 0)

    async def import_files(self, task: ImportTask) -> ImportResult:
        """Raises ImportFailed for what the files have wrong."""
        attempt_id = await self._oracle.allocate_ids()
        directory = self._scratch / f"import-{task.task_id}-{attempt_id}"
        rows = directory / "rows"
        self._rows_read[task.task_id] = 0
        try:
            await self._io(lambda: rows.mkdir(parents=True))
            request = ImportRequest(
                collection=task.collection,
                partition_id=task.partition_id,
                groups=await self._local_groups(task, directory),
                separator=task.separator,
                null_text=task.null_text,
                json_max_length=self._json_max_length,
                max_segment_bytes=self._max_segment_bytes,
                out_dir=str(rows),
            )
            self._world.failpoints.hit("import.before_reading")

            def told(count: int) -> None:
                self._rows_read[task.task_id] = count

            read = await self._importer.run(request, self._oracle.allocate_ids, told)
            self._world.failpoints.hit("import.before_writing")
            segments = [await self._write(task, piece) for piece in read.pieces]
            self._world.failpoints.hit("import.after_writing")
        finally:
            del self._rows_read[task.task_id]
            await self._world.executor.run("io", rmtree, directory, ignore_errors=True)
        return ImportResult(task.task_id, tuple(segments), read.rows)

    async def stamp_segments(self, task: StampTask) -> TaskResult:
        """The segments with ``task.timestamp`` as the insert timestamp of all their rows."""
        stamped = [await self._stamp(segment, task.timestamp) for segment in task.segments]
        return TaskResult(task.task_id, tuple(stamped))

    # --- files ----------------------------------------------------------------------------------

    async def _local_groups(self, task: ImportTask, directory: Path) -> tuple[FileGroup, ...]:
        groups: list[FileGroup] = []
        for keys, names in zip(task.groups, task.names, strict=True):
            paths: list[str] = []
            for key, name in zip(keys, names, strict=True):
                number = sum(len(group.paths) for group in groups) + len(paths)
                paths.append(str(await self._local(key, name, directory / f"{number}.file")))
            groups.append(FileGroup(names=names, paths=tuple(paths)))
        return tuple(groups)

    async def _local(self, key: str, name: str, copy: Path) -> Path:
        """A local file with the object's content, which stays whatever becomes of the object."""
        try:
            path = await self._objects.fetch(key)
            if path is not None and await self._world.executor.run("io", _link, path, copy):
                return copy
            async with self._objects.stream(key) as stream:
                async for chunk in stream.chunks:
                    await self._io(partial(_append, copy, chunk))
        except ObjectNotFound as error:
            raise ImportFailed(f"file {name} does not exist") from error
        return copy

    # --- segments -------------------------------------------------------------------------------

    async def _write(self, task: ImportTask, piece: SortedPiece) -> SegmentInfo:
        rows = await self._io(lambda: _mapped(piece.path))
        place = SegmentPlace(
            collection_id=task.collection.collection_id,
            partition_id=piece.partition_id,
            segment_id=await self._oracle.allocate_ids(),
            attempt_id=await self._oracle.allocate_ids(),
        )
        key, manifest = await write_segment(
            self._world,
            self._objects,
            rows,
            np.zeros(rows.num_rows, np.uint64),
            place=place,
            schema_version=task.collection.schema.version,
        )
        await self._io(Path(piece.path).unlink)
        return flushed_segment(task.collection.vchannels[piece.shard], key, manifest)

    async def _stamp(self, segment: SegmentInfo, timestamp: int) -> SegmentInfo:
        manifest = await read_manifest(self._objects, segment.manifest_key)
        place = SegmentPlace(
            collection_id=segment.collection_id,
            partition_id=segment.partition_id,
            segment_id=segment.segment_id,
            attempt_id=await self._oracle.allocate_ids(),
        )
        stamps = encode_numbers(np.full(segment.row_count, timestamp, "<u8"))
        stamped = msgspec.structs.replace(
            manifest,
            timestamps=await write_file(self._world, self._objects, timestamps_key(place), stamps),
            min_ts=timestamp,
            max_ts=timestamp,
        )
        key = manifest_key(place)
        await write_manifest(self._objects, key, stamped)
        self._world.failpoints.hit("import.after_stamp")
        return flushed_segment(segment.vchannel, key, stamped)

    async def _io(self, function: Callable[[], T]) -> T:
        with _told_of_the_disk(str(self._scratch)):
            return await self._world.executor.run("io", function)


@contextmanager
def _told_of_the_disk(where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(where) from error
        raise Unavailable(f"a file of an import: {error}") from error


def _link(path: Path, name: Path) -> bool:
    """Give the file a second name. False if it is gone, or its device is another or has no
    links."""
    try:
        name.hardlink_to(path)
    except OSError:
        return False
    return True


def _append(path: Path, chunk: Buffer) -> None:
    with path.open("ab") as file:
        file.write(chunk)


def _mapped(path: str) -> pa.RecordBatch:
    with pa.memory_map(path, "r") as file:
        return decode_batch(file.read_buffer(), path)
