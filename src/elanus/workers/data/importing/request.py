"""What an import is asked to do, and what it says on the way. All of it can travel as JSON."""

from typing import TypeAlias

import msgspec

from elanus.model.catalog import CollectionInfo


class FileGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Files that are read together: one or several of a format with whole rows, or the ``.npy``
    files of all fields. ``names`` as the user knows them, ``paths`` of local copies."""

    names: tuple[str, ...]
    paths: tuple[str, ...]


class ImportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """partition_id: of all rows; None: by the partition key. separator, null_text: of CSV files.
    json_max_length, max_segment_bytes: bytes. out_dir: an empty directory for the pieces."""

    collection: CollectionInfo
    partition_id: int | None
    groups: tuple[FileGroup, ...]
    separator: str
    null_text: str
    json_max_length: int
    max_segment_bytes: int
    out_dir: str


class SortedPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A future segment: an Arrow IPC file with one batch of complete rows, sorted by primary
    key. ``shard``: the position of its vchannel in the collection's."""

    shard: int
    partition_id: int
    path: str
    row_count: int


class NeedIds(msgspec.Struct, frozen=True, kw_only=True, tag="ids"):
    """So many ids are wanted before it goes on."""

    count: int


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """Rows that have been read so far."""

    rows: int


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """``rows``: of each group of files."""

    pieces: tuple[SortedPiece, ...]
    rows: tuple[int, ...]


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """``invalid``: the files are at fault; else trying again may help."""

    reason: str
    invalid: bool


Event: TypeAlias = NeedIds | Progress | Finished | Failed
