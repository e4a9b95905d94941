"""What loading and releasing make of what is loaded: pure functions on records."""

from elanus.coordinator.records import LoadRecord
from elanus.errors import IndexNotFound, InvalidParameter, PartitionNotFound, Rejected
from elanus.model.catalog import CollectionInfo, IndexInfo


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


def with_load(
    known: LoadRecord | None,
    collection: CollectionInfo,
    partition_ids: tuple[int, ...],
    replica_number: int,
) -> LoadRecord:
    """The record after a load. Partitions are added to those that are loaded; the collection
    takes in everything. Raises PartitionNotFound, InvalidParameter."""
    existing = {partition.partition_id for partition in collection.partitions}
    for partition_id in partition_ids:
        if partition_id not in existing:
            raise PartitionNotFound(partition_id)
    chosen = tuple(sorted(set(partition_ids)))
    if known is not None:
        loaded_by_partition = bool(known.partition_ids)
        if known.replica_number != replica_number and (loaded_by_partition or chosen):
            raise InvalidParameter(
                "can't change the replica number for loaded partitions",
                expected=str(known.replica_number),
                actual=str(replica_number),
            )
        if not loaded_by_partition:
            chosen = ()
        elif chosen:
            chosen = tuple(sorted({*chosen, *known.partition_ids}))
    return LoadRecord(
        collection_id=collection.collection_id,
        partition_ids=chosen,
        replica_number=replica_number,
    )


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
    return LoadRecord(
        collection_id=known.collection_id, partition_ids=rest, replica_number=known.replica_number
    )
