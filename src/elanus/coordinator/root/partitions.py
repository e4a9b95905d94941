"""Partitions: named parts of a collection that users make, load and drop."""

from collections.abc import Callable

import msgspec

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.dropping import drop_orphans
from elanus.coordinator.records import CollectionRecord
from elanus.coordinator.root.names import resolve
from elanus.coordinator.streaming.channels import Channels
from elanus.errors import Rejected
from elanus.model.catalog import DEFAULT_PARTITION, CollectionInfo, PartitionInfo


class Partitions:
    def __init__(self, context: Context, channels: Channels) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels

    async def create_partition(self, database: str, name: str, partition: str) -> None:
        """An existing partition is fine."""
        partition_id = await self._context.ids.allocate()
        created_ts = await self._context.timestamps.allocate()
        limit = self._context.settings.root_coord.max_partition_num

        def decide() -> Change | None:
            info = resolve(self._catalog, database, name)
            if info.schema.partition_key is not None:
                raise Rejected("disable create partition if partition key mode is used")
            if partition in info.partition_by_name:
                return None
            if len(info.partitions) >= limit:
                raise Rejected(
                    f"partition number ({len(info.partitions)}) exceeds max configuration "
                    f"({limit}), collection: {info.name}"
                )
            added = PartitionInfo(partition_id=partition_id, name=partition, created_ts=created_ts)
            return _with_partitions(info, (*info.partitions, added))

        await self._change(database, name, decide)

    async def drop_partition(self, database: str, name: str, partition: str) -> None:
        """A missing partition is fine. Its rows are gone for every later read; its segments are
        dropped once the shards know."""

        def decide() -> Change | None:
            info = resolve(self._catalog, database, name)
            if info.schema.partition_key is not None:
                raise Rejected("disable drop partition if partition key mode is used")
            if partition == DEFAULT_PARTITION:
                raise Rejected("default partition cannot be deleted")
            found = info.partition_by_name.get(partition)
            if found is None:
                return None
            load = self._catalog.tables.loads.get(info.collection_id)
            if load is not None and (
                not load.partition_ids or found.partition_id in load.partition_ids
            ):
                raise Rejected(
                    "partition cannot be dropped, partition is loaded, please release it first"
                )
            return _with_partitions(info, tuple(p for p in info.partitions if p is not found))

        await self._change(database, name, decide)

    async def _change(self, database: str, name: str, decide: Callable[[], Change | None]) -> None:
        await self._catalog.commit(decide)
        collection_id = resolve(self._catalog, database, name).collection_id
        await self._channels.announce(collection_id)
        await drop_orphans(self._context, collection_id)
        self._context.events.metadata_changed(collection_id)
        self._context.events.segments_changed(collection_id)


def _with_partitions(info: CollectionInfo, partitions: tuple[PartitionInfo, ...]) -> Change:
    changed = msgspec.structs.replace(info, partitions=partitions)
    return Change(put=[CollectionRecord.changed(changed)])
