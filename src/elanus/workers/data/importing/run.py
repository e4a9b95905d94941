"""One import from beginning to end, as a generator: it says what happens and is told what it needs.

So that it can be driven over a pipe or in a thread, without a way back to the event loop.
"""

from collections.abc import Generator, Iterator
from pathlib import Path, PurePosixPath

from elanus.errors import ImportFailed
from elanus.rows.routing import route
from elanus.workers.data.importing.column_files import read_csv, read_numpy, read_parquet
from elanus.workers.data.importing.convert import Converter
from elanus.workers.data.importing.json_files import read_json
from elanus.workers.data.importing.pieces import Piece
from elanus.workers.data.importing.request import (
    Event,
    FileGroup,
    Finished,
    ImportRequest,
    NeedIds,
    Progress,
)
from elanus.workers.data.importing.spill import Spill

_NUMPY, _CSV, _PARQUET = ".npy", ".csv", ".parquet"


def run_import(request: ImportRequest) -> Generator[Event, int, None]:
    """Yields Progress and NeedIds, which wants the first of so many ids to be sent; last Finished.

    Raises ImportFailed for what the files have wrong, OSError if the disk fails.
    """
    converter = Converter(request)
    collection = request.collection
    spill = Spill(collection.schema, Path(request.out_dir), request.max_segment_bytes)
    counts: list[int] = []
    for group in request.groups:
        rows_before = sum(counts)
        count = 0
        for name, piece in _pieces(group, request):
            first_key = 0
            if converter.needs_keys(piece):
                first_key = yield NeedIds(count=len(piece))
            rows = converter.rows(piece, name, first_key)
            for shard, parts in route(collection, rows, request.partition_id):
                for partition_id, part in parts:
                    spill.add(shard, partition_id, part)
            count += len(piece)
            yield Progress(rows=rows_before + count)
        counts.append(count)
    yield Finished(pieces=spill.finish(), rows=tuple(counts))


def _pieces(group: FileGroup, request: ImportRequest) -> Iterator[tuple[str, Piece]]:
    """(name of the file, piece of it)"""
    paths = dict(zip(group.names, map(Path, group.paths), strict=True))
    if any(PurePosixPath(name).suffix.lower() == _NUMPY for name in group.names):
        name = ", ".join(group.names)
        by_field = {PurePosixPath(each).stem: path for each, path in paths.items()}
        if len(by_field) < len(paths):
            raise ImportFailed(f"files {name}: two of them are of the same field")
        yield from _named(name, read_numpy(by_field))
        return
    for name, path in paths.items():
        match PurePosixPath(name).suffix.lower():
            case ".parquet":
                yield from _named(name, read_parquet(path))
            case ".csv":
                yield from _named(name, read_csv(path, request.separator))
            case _:
                yield from _named(name, read_json(path))


def _named(name: str, pieces: Iterator[Piece]) -> Iterator[tuple[str, Piece]]:
    try:
        for piece in pieces:
            yield name, piece
    except ImportFailed as error:
        raise ImportFailed(f"file {name}: {error.message}") from error
