"""Which partitions and shards a read touches, and whether they are loaded."""

from collections.abc import Sequence

import numpy as np

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.dml.partitions import refuse_name_with_key
from elanus.access.meta_cache import CollectionMeta
from elanus.access.proxy import Proxy
from elanus.engine.filter.compile import key_values
from elanus.engine.filter.plan import Plan
from elanus.errors import (
    CollectionNotFullyLoaded,
    CollectionNotLoaded,
    PartitionNotLoaded,
    Rejected,
)
from elanus.model.catalog import CollectionInfo
from elanus.model.types import LoadState
from elanus.rows.routing import bucket_of, key_partitions


async def find_meta(proxy: Proxy, context: CallContext, name: str) -> CollectionMeta:
    """The collection of a request, by name or alias, and its indexes. Raises CollectionNotFound,
    DatabaseNotFound, InvalidParameter for a name that can't be."""
    context.collection = names.collection_name(name, proxy.settings.proxy.max_name_length)
    return await proxy.meta.meta(context.database, context.collection)


def named_partitions(collection: CollectionInfo, given: Sequence[str]) -> tuple[int, ...]:
    """Ids of the partitions that a read names, ascending; empty if it names none."""
    if not given:
        return ()
    if collection.schema.partition_key is not None:
        for name in given:
            refuse_name_with_key(name)
        return ()
    ids = set()
    for name in given:
        partition = collection.partition_by_name.get(name.strip())
        if partition is None:
            raise Rejected(f"partition name {name} not found")
        ids.add(partition.partition_id)
    return tuple(sorted(ids))


def pruned_partitions(collection: CollectionInfo, plan: Plan | None) -> tuple[int, ...]:
    """Ids of the partitions that can hold rows that pass ``plan``, by the partition key; empty
    means all."""
    field = collection.schema.partition_key
    if field is None or plan is None or field.name not in plan.fields:
        return ()
    keys = key_values(plan, field.name)
    if keys is None:
        return ()
    partitions = key_partitions(collection.partitions)
    # A filter that no key passes still needs one partition to say so.
    buckets = np.unique(bucket_of(keys, len(partitions))) if len(keys) else [0]
    return tuple(sorted(partitions[bucket].partition_id for bucket in buckets))


def shards_of(collection: CollectionInfo, plan: Plan | None) -> tuple[str, ...]:
    """The vchannels that can hold rows that pass ``plan``: those of its primary keys, or all."""
    vchannels = collection.vchannels
    if len(vchannels) == 1 or plan is None or plan.primary_keys is None:
        return vchannels
    shards = np.unique(bucket_of(plan.primary_keys, len(vchannels)))
    # A filter that no key passes still needs one shard to say so.
    return tuple(vchannels[shard] for shard in shards) or vchannels[:1]


async def loaded_partitions(
    proxy: Proxy, collection: CollectionInfo, wanted: tuple[int, ...], action: str
) -> tuple[int, ...]:
    """The partitions to read of ``wanted`` (empty: all), which must be loaded.

    ``action`` begins the message, for example ``failed to search``. Raises CollectionNotLoaded,
    CollectionNotFullyLoaded or PartitionNotLoaded.
    """
    load = await proxy.meta.load_info(collection.collection_id)
    if load is None or load.state in (LoadState.NOT_EXIST, LoadState.NOT_LOAD):
        raise CollectionNotLoaded(collection.name, action)
    # A coordinator that has just begun isn't sure yet, but the shards may be: they are asked.
    if load.state is LoadState.LOADING and not load.restoring:
        raise CollectionNotFullyLoaded(
            collection.name, load.reason or f"{load.progress} % are loaded"
        )
    if not load.partition_ids or collection.schema.partition_key is not None:
        return wanted
    if not wanted:
        return load.partition_ids
    missing = set(wanted) - set(load.partition_ids)
    for partition in collection.partitions:
        if partition.partition_id in missing:
            raise PartitionNotLoaded(partition.name, action)
    return wanted
