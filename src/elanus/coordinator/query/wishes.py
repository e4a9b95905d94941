"""What loading and releasing make of what is loaded: pure functions on records."""

import msgspec

from elanus.coordinator.records import LoadRecord
from elanus.errors import IndexNotFound, InvalidParameter, PartitionNotFound, Rejected
from elanus.model.catalog import CollectionInfo, IndexInfo
from elanus.model.resource_groups import DEFAULT_RESOURCE_GROUP


def check_indexes(collection: CollectionInfo, indexes: tuple[IndexInfo, ...]) -> None:
    """Every vector field has an index. Raises IndexNotFound if there are none at all."""
    indexed = {index.field_name for index in indexes}
    missing = [f.name for f in collection.schema.vector_fields if f.name not in indexed]
    if missing and not indexes:
        raise IndexNotFound(collection=collection.name)
    if missing:
        raise Rejected(
            f"there is no vector index on field: [{' '.join(missing)}], please create index firstly"
        )


def replica_groups(replica_number: int, groups: tuple[str, ...]) -> tuple[str, ...]:
    """The resource group of each replica; nothing if all are in the default group. Raises
    Rejected."""
    if groups and len(groups) not in (1, replica_number):
        raise Rejected(
            f"replica=[{replica_number}] resource group=[{','.join(groups)}], "
            "resource group num can only be 0, 1 or same as replica number"
        )
    chosen = groups * replica_number if len(groups) == 1 else groups
    return () if set(chosen) <= {DEFAULT_RESOURCE_GROUP} else tuple(sorted(chosen))


def with_load(
    known: LoadRecord | None,
    collection: CollectionInfo,
    partition_ids: tuple[int, ...],
    replica_number: int,
    groups: tuple[str, ...] | None,
) -> LoadRecord:
    """The record after a load. Partitions are added to those that are loaded; the collection
    takes in everything. groups: of each replica; None: where they are, else the default group.
    Raises PartitionNotFound, InvalidParameter."""
    existing = {partition.partition_id for partition in collection.partitions}
    for partition_id in partition_ids:
        if partition_id not in existing:
            raise PartitionNotFound(partition_id)
    chosen = tuple(sorted(set(partition_ids)))
    if groups is None and known is not None and known.replica_number == replica_number:
        groups = known.resource_groups
    if known is not None:
        loaded_by_partition = bool(known.partition_ids)
        is_by_partition = bool(loaded_by_partition or chosen)
        if is_by_partition and known.replica_number != replica_number:
            raise InvalidParameter(
                "can't change the replica number for loaded partitions",
                expected=str(known.replica_number),
                actual=str(replica_number),
            )
        if is_by_partition and known.resource_groups != (groups or ()):
            raise InvalidParameter(
                "can't change the resource groups for loaded partitions",
                expected=str(list(known.resource_groups)),
                actual=str(list(groups or ())),
            )
        if not loaded_by_partition:
            chosen = ()
        elif chosen:
            chosen = tuple(sorted({*chosen, *known.partition_ids}))
    return LoadRecord(
        collection_id=collection.collection_id,
        partition_ids=chosen,
        replica_number=replica_number,
        resource_groups=groups or (),
    )


def with_replicas_moved(
    known: LoadRecord, source: str, target: str, replica_number: int
) -> LoadRecord:
    """The record after replicas went from one group to another. Raises InvalidParameter if there
    are fewer."""
    groups = list(known.resource_groups or (DEFAULT_RESOURCE_GROUP,) * known.replica_number)
    there = groups.count(source)
    if there < replica_number:
        raise InvalidParameter(
            f"only found [{there}] replicas of collection [{known.collection_id}] in source "
            f"resource group [{source}]",
            expected="NumReplica not greater than the number of replica in source resource group",
            actual=str(replica_number),
        )
    for _ in range(replica_number):
        groups[groups.index(source)] = target
    chosen = replica_groups(known.replica_number, tuple(groups))
    return msgspec.structs.replace(known, resource_groups=chosen)


def without_partitions(
    known: LoadRecord, collection: CollectionInfo, partition_ids: tuple[int, ...]
) -> LoadRecord | None:
    """The record after a release; None if nothing is left. Empty ``partition_ids`` = all."""
    if not partition_ids:
        return None
    loaded = known.partition_ids or tuple(p.partition_id for p in collection.partitions)
    rest = tuple(sorted(set(loaded) - set(partition_ids)))
    if not rest:
        return None
    if not known.partition_ids and len(rest) == len(loaded):
        return known
    return msgspec.structs.replace(known, partition_ids=rest)
