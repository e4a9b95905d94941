"""Partition names of a request, resolved by the rules of writes.

A collection with a partition key has partitions that only the server may name.
"""

from elanus.access.ddl import names
from elanus.access.proxy import Proxy
from elanus.errors import PartitionNotFound, Rejected
from elanus.model.catalog import ALL_PARTITIONS, DEFAULT_PARTITION, CollectionInfo


def insert_partition(proxy: Proxy, collection: CollectionInfo, name: str) -> int | None:
    """The id of the partition that rows are written to, or None: by the partition key."""
    if collection.schema.partition_key is not None:
        refuse_name_with_key(name)
        return None
    return named_partition(proxy, collection, name.strip() or DEFAULT_PARTITION)


def delete_partition(proxy: Proxy, collection: CollectionInfo, name: str) -> int:
    """The id of the partition that rows are deleted from, ALL_PARTITIONS if none is named."""
    if collection.schema.partition_key is not None:
        refuse_name_with_key(name)
        return ALL_PARTITIONS
    if not name.strip():
        return ALL_PARTITIONS
    return named_partition(proxy, collection, name, "Failed to get partition id: ")


def named_partition(proxy: Proxy, collection: CollectionInfo, name: str, prefix: str = "") -> int:
    """Raises Rejected for a name that can't be, PartitionNotFound, with ``prefix`` before its
    text."""
    name = names.partition_name(name, proxy.settings.proxy.max_name_length)
    partition = collection.partition_by_name.get(name)
    if partition is None:
        raise PartitionNotFound(name, prefix)
    return partition.partition_id


def refuse_name_with_key(name: str) -> None:
    """Raises Rejected if a partition is named although there is a partition key."""
    if name.strip():
        raise Rejected(
            "not support manually specifying the partition names if partition key mode is used"
        )
