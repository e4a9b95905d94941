"""Bulk imports as users see them: what they ask for, and how far it is."""

from enum import StrEnum

import msgspec

from elanus.model.catalog import SegmentInfo
from elanus.model.types import SegmentState

NUMPY_SUFFIX = ".npy"
FILE_SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".csv", NUMPY_SUFFIX)


class ImportState(StrEnum):
    PENDING = "Pending"
    IMPORTING = "Importing"
    COMPLETED = "Completed"
    FAILED = "Failed"

    @property
    def is_over(self) -> bool:
        return self in (ImportState.COMPLETED, ImportState.FAILED)


class ImportJobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """groups: files that are read together, as paths in the object store. partition_id: of all
    rows; None: by the partition key. timeout_s: 0 means the server's."""

    collection_id: int
    partition_id: int | None
    partition: str = ""
    groups: tuple[tuple[str, ...], ...]
    separator: str = ","
    null_text: str = ""
    timeout_s: int = 0


class ImportGroup(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` as the user wrote them. ``rows``: imported, once the job is over."""

    files: tuple[str, ...]
    size_bytes: int = 0
    rows: int = 0


class ImportJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job and its outcome. ``progress``: per cent. ``rows_read``: so far, while it runs.

    deadline_ms: when it fails if it isn't over; the times are of the wall clock. is_shown: whether
    what was loaded when a job was completed reads its rows.
    """

    job_id: int
    request: ImportJobRequest
    database: str
    collection_name: str
    state: ImportState
    groups: tuple[ImportGroup, ...]
    created_ms: int
    deadline_ms: int
    ended_ms: int = 0
    reason: str = ""
    progress: int = 0
    rows_read: int = 0
    is_shown: bool = False

    @property
    def imported_rows(self) -> int:
        return sum(group.rows for group in self.groups)

    @property
    def size_bytes(self) -> int:
        return sum(group.size_bytes for group in self.groups)


def as_imported(segment: SegmentInfo, job: ImportJob) -> SegmentInfo:
    """The segment as it is now that its import ``job`` is what it is: a completed one makes all of
    its segments flushed at once, however many they are."""
    is_flushed = (
        segment.state is SegmentState.IMPORTING
        and segment.import_job == job.job_id
        and job.state is ImportState.COMPLETED
    )
    return msgspec.structs.replace(segment, state=SegmentState.FLUSHED) if is_flushed else segment
