"""The manifest of one version of a segment: its files, and what pruning and counting need.

JSON. The last member, ``crc32``, is the checksum of the text before it, so that a damaged
manifest is noticed like any other file.
"""

import zlib

import msgspec

from elanus.errors import CorruptData
from elanus.storage.objects.base import ObjectNotFound, ObjectStore

FORMAT_VERSION = 1
_CHECKSUM_MEMBER = b',"crc32":'

Statistic = bool | int | float | str | None


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An object by its key. ``row_count`` rows; ``crc32`` covers the whole object."""

    key: str
    size_bytes: int
    crc32: int


class ColumnFile(FileEntry, frozen=True, kw_only=True):
    """The file of one field: ``arrow`` (an Arrow IPC file) or ``npy`` (vectors, (rows, width)).

    minimum, maximum: of the values that are not null and not NaN; None if there are none or they
    are not known.
    """

    field_name: str
    encoding: str
    null_count: int = 0
    minimum: Statistic = None
    maximum: Statistic = None


class DeltaFile(FileEntry, frozen=True, kw_only=True):
    """A file of deletes with their timestamps, all ≤ ``max_ts``."""

    row_count: int
    max_ts: int


class SegmentManifest(msgspec.Struct, frozen=True, kw_only=True):
    """``deltas``: deletes that are already assigned to this segment. A segment of deletes only
    (L0) has no rows and no columns."""

    format_version: int = FORMAT_VERSION
    collection_id: int
    partition_id: int
    segment_id: int
    schema_version: int = 0
    row_count: int = 0
    min_ts: int = 0
    max_ts: int = 0
    timestamps: FileEntry | None = None
    columns: tuple[ColumnFile, ...] = ()
    deltas: tuple[DeltaFile, ...] = ()

    def column(self, field_name: str) -> ColumnFile | None:
        """None if the segment was written before the field was added."""
        return next((c for c in self.columns if c.field_name == field_name), None)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        first = () if self.timestamps is None else (self.timestamps,)
        return (*first, *self.columns, *self.deltas)

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


def encode_manifest(manifest: SegmentManifest) -> bytes:
    text = msgspec.json.encode(manifest)[:-1]
    return text + _CHECKSUM_MEMBER + b"%d}" % zlib.crc32(text)


def decode_manifest(data: bytes, key: str) -> SegmentManifest:
    """Raises CorruptData with ``key`` if it is damaged or of an unknown format version."""
    text, _, checksum = data.rpartition(_CHECKSUM_MEMBER)
    if checksum != b"%d}" % zlib.crc32(text):
        raise CorruptData(f"manifest {key} is damaged")
    try:
        manifest = msgspec.json.decode(data, type=SegmentManifest)
    except msgspec.DecodeError as error:
        raise CorruptData(f"manifest {key} can't be read: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise CorruptData(
            f"manifest {key} has format version {manifest.format_version}, "
            f"this program reads version {FORMAT_VERSION}"
        )
    return manifest


async def write_manifest(objects: ObjectStore, key: str, manifest: SegmentManifest) -> None:
    await objects.put(key, [encode_manifest(manifest)], create_only=True)


async def read_manifest(objects: ObjectStore, key: str) -> SegmentManifest:
    try:
        data = await objects.get(key)
    except ObjectNotFound as error:
        raise CorruptData(f"manifest {key} is missing") from error
    return decode_manifest(data, key)
