"""Finding what a request names, and how far it is loaded."""

from collections.abc import Iterable, Sequence

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.proxy import Proxy
from elanus.errors import PartitionNotFound
from elanus.model.catalog import CollectionInfo, LoadInfo, PartitionInfo
from elanus.model.types import LoadState

NOT_LOADED = -1


async def find_collection(
    proxy: Proxy, context: CallContext, name: str, collection_id: int = 0
) -> CollectionInfo:
    """The collection of a request: by name or alias, or by id if there is no name.

    Raises CollectionNotFound, DatabaseNotFound, InvalidParameter for a name that can't be.
    """
    if not name and collection_id:
        info = await proxy.coordinator.describe_collection_by_id(collection_id)
        context.collection = info.name
        return info
    name = names.collection_name(name, proxy.settings.proxy.max_name_length)
    context.collection = name
    return await proxy.coordinator.describe_collection(context.database, name)


def partition_infos(info: CollectionInfo, partitions: Iterable[str]) -> list[PartitionInfo]:
    """The named partitions. Raises PartitionNotFound."""
    found = []
    for name in partitions:
        partition = info.partition_by_name.get(name.strip())
        if partition is None:
            raise PartitionNotFound(name)
        found.append(partition)
    return found


async def loaded_infos(proxy: Proxy) -> dict[int, LoadInfo]:
    """What is loaded or being loaded, by collection id."""
    return {
        load.collection_id: load
        for load in await proxy.coordinator.loaded()
        if load.state in (LoadState.LOADING, LoadState.LOADED)
    }


def load_progress(load: LoadInfo | None, partition_ids: Sequence[int]) -> int:
    """Percent of the collection (no ids) or of all these partitions; NOT_LOADED (-1) if nobody
    asked for one of them. 100 only when it can be searched."""
    if load is None or load.state not in (LoadState.LOADING, LoadState.LOADED):
        return NOT_LOADED
    if load.partition_ids and not set(partition_ids) <= set(load.partition_ids):
        return NOT_LOADED
    if load.state is LoadState.LOADED:
        return 100
    return min(load.progress, 99)
