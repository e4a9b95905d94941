"""What every part of the coordinator works with, and how the parts tell each other of changes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from elanus.config.settings import Settings
from elanus.coordinator.catalog import Catalog
from elanus.coordinator.tso import Allocator
from elanus.model.catalog import SegmentInfo
from elanus.runtime.world import World
from elanus.services.routing import Router
from elanus.storage.objects.base import ObjectStore

EVERYTHING = -1


@dataclass
class Events:
    """Synchronous listeners; most get a collection id, caches may get EVERYTHING.

    ``metadata``: what users are told of a collection changed (proxies' caches go stale).
    ``segments``: a collection's segments, indexes or checkpoints changed.
    ``damaged``: a query node can't use these index files of a segment, by key.
    """

    metadata: list[Callable[[int], None]] = field(default_factory=list)
    segments: list[Callable[[int], None]] = field(default_factory=list)
    damaged: list[Callable[[SegmentInfo, tuple[str, ...]], None]] = field(default_factory=list)

    def metadata_changed(self, collection_id: int) -> None:
        for listener in list(self.metadata):
            listener(collection_id)

    def segments_changed(self, collection_id: int) -> None:
        for listener in list(self.segments):
            listener(collection_id)

    def index_files_damaged(self, segment: SegmentInfo, keys: tuple[str, ...]) -> None:
        for listener in list(self.damaged):
            listener(segment, keys)


@dataclass(frozen=True)
class Context:
    """Handed to every part. Parts keep no metadata of their own: the catalog has it."""

    world: World
    catalog: Catalog
    timestamps: Allocator
    ids: Allocator
    router: Router
    objects: ObjectStore
    settings: Settings
    events: Events = field(default_factory=Events)
