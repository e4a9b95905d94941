"""Where each object lies: ``<kind>/<collection>/<partition>/<segment>/<attempt>/<name>``.

Every attempt to write a segment, a delta file or an index has an id of its own, so that attempts
never write to the same key. What an unsuccessful attempt leaves is named by no metadata.
"""

from dataclasses import dataclass

MANIFEST_NAME = "manifest.json"
TIMESTAMPS_NAME = "timestamps.npy"
DELTAS_NAME = "deltas.arrow"


@dataclass(frozen=True, slots=True)
class SegmentPlace:
    """One attempt to write (something of) a segment. ``partition_id`` is -1 for the deletes of a
    whole shard."""

    collection_id: int
    partition_id: int
    segment_id: int
    attempt_id: int

    @property
    def path(self) -> str:
        return f"{self.collection_id}/{self.partition_id}/{self.segment_id}/{self.attempt_id}"


def manifest_key(place: SegmentPlace) -> str:
    return f"insert_log/{place.path}/{MANIFEST_NAME}"


def timestamps_key(place: SegmentPlace) -> str:
    return f"insert_log/{place.path}/{TIMESTAMPS_NAME}"


def column_key(place: SegmentPlace, column: int, extension: str) -> str:
    """``column`` is the field's place in the schema: names of fields aren't safe as file names."""
    return f"insert_log/{place.path}/{column}.{extension}"


def delta_manifest_key(place: SegmentPlace) -> str:
    return f"delta_log/{place.path}/{MANIFEST_NAME}"


def delta_key(place: SegmentPlace) -> str:
    return f"delta_log/{place.path}/{DELTAS_NAME}"


def index_key(place: SegmentPlace, index_id: int, name: str = "index.faiss") -> str:
    return f"index_files/{place.path}/{index_id}/{name}"


def segment_prefixes(collection_id: int, partition_id: int, segment_id: int) -> tuple[str, ...]:
    """Everything of a segment starts with one of these."""
    path = f"{collection_id}/{partition_id}/{segment_id}/"
    return tuple(f"{kind}/{path}" for kind in KINDS)


KINDS = ("insert_log", "delta_log", "stats_log", "index_files")


def place_of(key: str) -> SegmentPlace | None:
    """The place that a key belongs to; None for objects that belong to no segment."""
    kind, *rest = key.split("/")
    if kind not in KINDS or len(rest) < 5:
        return None
    try:
        collection_id, partition_id, segment_id, attempt_id = (int(part) for part in rest[:4])
    except ValueError:
        return None
    return SegmentPlace(collection_id, partition_id, segment_id, attempt_id)
