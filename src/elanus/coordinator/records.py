"""The coordinator's records: what each metadata key holds, and how keys are spelled.

Every key lies under ``coordinator/``; every value is msgspec JSON::

    coordinator/timestamp, coordinator/id                 upper bounds of the two allocators
    coordinator/database/<name>                           DatabaseInfo
    coordinator/collection/<collection id>                CollectionRecord
    coordinator/alias/<database>/<alias>                  AliasRecord
    coordinator/index/<collection id>/<index id>          IndexInfo
    coordinator/segment/<collection id>/<segment id>      SegmentInfo
    coordinator/checkpoint/<vchannel>                     ChannelCheckpoint
    coordinator/load/<collection id>                      LoadRecord
    coordinator/pchannel/<pchannel>                       PchannelRecord
    coordinator/resource-group/<name>                     ResourceGroupRecord
    coordinator/import/<job id>                           ImportJob
"""

from collections import Counter
from enum import StrEnum
from typing import TypeAlias

import msgspec

from elanus.model.catalog import (
    ChannelCheckpoint,
    CollectionInfo,
    DatabaseInfo,
    IndexInfo,
    SegmentInfo,
)
from elanus.model.imports import ImportJob
from elanus.model.resource_groups import DEFAULT_RESOURCE_GROUP, ResourceGroupConfig

PREFIX = "coordinator/"
TIMESTAMP_KEY = PREFIX + "timestamp"
ID_KEY = PREFIX + "id"


class CollectionState(StrEnum):
    CREATING = "creating"
    CREATED = "created"
    DROPPING = "dropping"


class CollectionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A collection is visible to users in the state ``created`` only."""

    info: CollectionInfo
    state: CollectionState

    @classmethod
    def changed(cls, info: CollectionInfo) -> "CollectionRecord":
        """Of a created collection that was changed, or its indexes were: its next revision."""
        later = msgspec.structs.replace(info, revision=info.revision + 1)
        return cls(info=later, state=CollectionState.CREATED)


class AliasRecord(msgspec.Struct, frozen=True, kw_only=True):
    database: str
    alias: str
    collection_id: int


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a user wants to be loaded. Empty ``partition_ids`` means the whole collection;
    ``resource_groups`` has the group of each replica, none means all in the default group."""

    collection_id: int
    partition_ids: tuple[int, ...] = ()
    replica_number: int = 1
    resource_groups: tuple[str, ...] = ()

    def copies(self) -> dict[str, int]:
        """Number of replicas by resource group."""
        if not self.resource_groups:
            return {DEFAULT_RESOURCE_GROUP: self.replica_number}
        return dict(Counter(self.resource_groups))


class PchannelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``term`` is the newest that may have been given to a streaming node, ``node_id`` the node
    that it was given to."""

    name: str
    term: int
    node_id: int = 0


class ResourceGroupRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``node_ids``: nodes that the group had last, so that a new leader leaves them there; not
    kept for the default group, which has the others."""

    name: str
    config: ResourceGroupConfig
    node_ids: tuple[int, ...] = ()


Record: TypeAlias = (
    DatabaseInfo
    | CollectionRecord
    | AliasRecord
    | IndexInfo
    | SegmentInfo
    | ChannelCheckpoint
    | LoadRecord
    | PchannelRecord
    | ResourceGroupRecord
    | ImportJob
)

_KINDS: dict[str, type[Record]] = {
    "database": DatabaseInfo,
    "collection": CollectionRecord,
    "alias": AliasRecord,
    "index": IndexInfo,
    "segment": SegmentInfo,
    "checkpoint": ChannelCheckpoint,
    "load": LoadRecord,
    "pchannel": PchannelRecord,
    "resource-group": ResourceGroupRecord,
    "import": ImportJob,
}


def key_of(record: Record) -> str:
    """The key that holds ``record``."""
    match record:
        case DatabaseInfo():
            tail = f"database/{record.name}"
        case CollectionRecord():
            tail = f"collection/{record.info.collection_id}"
        case AliasRecord():
            tail = f"alias/{record.database}/{record.alias}"
        case IndexInfo():
            tail = f"index/{record.collection_id}/{record.index_id}"
        case SegmentInfo():
            tail = f"segment/{record.collection_id}/{record.segment_id}"
        case ChannelCheckpoint():
            tail = f"checkpoint/{record.vchannel}"
        case LoadRecord():
            tail = f"load/{record.collection_id}"
        case PchannelRecord():
            tail = f"pchannel/{record.name}"
        case ResourceGroupRecord():
            tail = f"resource-group/{record.name}"
        case ImportJob():
            tail = f"import/{record.job_id}"
    return PREFIX + tail


def encode(record: Record) -> bytes:
    return msgspec.json.encode(record)


def decode(key: str, value: bytes) -> Record | None:
    """None for a key that is not a record (the allocators' bounds)."""
    kind = _KINDS.get(key.removeprefix(PREFIX).split("/", 1)[0])
    return None if kind is None else msgspec.json.decode(value, type=kind)
