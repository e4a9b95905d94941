"""What coordinator and data nodes say to each other about bulk imports."""

from dataclasses import dataclass

from elanus.model.catalog import CollectionInfo, SegmentInfo


@dataclass(frozen=True, slots=True)
class ImportTask:
    """Coordinator → data node: make segments of users' files, which lie in the object store.

    groups: keys of files that are read together. names: what the user calls them. partition_id: of
    all rows; None: by the partition key. separator, null_text: of CSV files.
    """

    task_id: int
    collection: CollectionInfo
    partition_id: int | None
    groups: tuple[tuple[str, ...], ...]
    names: tuple[tuple[str, ...], ...]
    separator: str
    null_text: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Data node → coordinator. ``segments`` are written, but their rows have no timestamp yet;
    ``rows`` of each group of files."""

    task_id: int
    segments: tuple[SegmentInfo, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StampTask:
    """Coordinator → data node: all rows of these segments were inserted at ``timestamp``."""

    task_id: int
    segments: tuple[SegmentInfo, ...]
    timestamp: int
