"""Creating and dropping collections, in steps that a crash may interrupt anywhere.

Create: a record in the state *creating* → the shards are opened → the state *created*. A restart
goes on with what it finds in the state *creating*; asking for the same again does too.

Drop: the state *dropping*, which frees the name and hides the collection → its shards are closed →
its segments become DROPPED → indexes, checkpoints and at last the record go. The segments' records
stay until garbage collection has removed their files. A restart goes on with the state *dropping*.
"""

import asyncio
from collections.abc import Callable

import msgspec

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import Context
from elanus.coordinator.dropping import drop_segments
from elanus.coordinator.records import CollectionRecord, CollectionState, Record
from elanus.coordinator.retry import UNBOUNDED, retry
from elanus.coordinator.root import schemas
from elanus.coordinator.root.names import alias_target, aliases_of, require_database
from elanus.coordinator.root.properties import TIMEZONE, check_collection_properties
from elanus.coordinator.streaming.channels import Channels, vchannel_name
from elanus.errors import CapacityExceeded, CollectionLimit, ElanusError, Rejected
from elanus.model.catalog import CollectionInfo, PartitionInfo
from elanus.model.schema import CollectionSchema
from elanus.model.types import ConsistencyLevel

DEFAULT_TIMEZONE = "UTC"
MAX_GENERAL_CAPACITY = 65_536
"""Most shards × partitions of all collections together."""


class Collections:
    """``on_dropped`` is told of a collection at the moment it disappears."""

    def __init__(
        self, context: Context, channels: Channels, on_dropped: Callable[[int], None]
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        self._channels = channels
        self._on_dropped = on_dropped
        self._creating: dict[int, asyncio.Future[None]] = {}

    async def create_collection(
        self,
        database: str,
        schema: CollectionSchema,
        *,
        shards: int,
        partitions: int,
        consistency_level: ConsistencyLevel,
        properties: dict[str, str],
    ) -> CollectionInfo:
        schemas.check_schema(schema)
        check_collection_properties(schema, properties)
        collection_id = await self._context.ids.allocate()
        names = schemas.partition_names(partitions)
        first_partition_id = await self._context.ids.allocate(len(names))
        created_ts = await self._context.timestamps.allocate()

        def decide() -> Change | None:
            nonlocal collection_id
            zone = require_database(self._catalog, database).properties.get(TIMEZONE)
            filled = {TIMEZONE: zone or DEFAULT_TIMEZONE, **properties}
            timed = schemas.with_default_times(schema, filled[TIMEZONE])
            if alias_target(self._catalog, database, schema.name) is not None:
                raise Rejected(
                    f"collection name [{schema.name}] conflicts with an existing alias, "
                    "please choose a unique name"
                )
            known = self._catalog.tables.names.get((database, schema.name))
            if known is not None:
                existing = self._catalog.tables.collections[known].info
                request = (timed, shards, partitions, consistency_level, filled)
                if not schemas.is_same_request(existing, *request):
                    raise Rejected(
                        "create duplicate collection with different parameters, "
                        f"collection: {schema.name}"
                    )
                collection_id = known
                return None
            self._check_capacity(database, shards * len(names))
            info = CollectionInfo(
                collection_id=collection_id,
                database=database,
                schema=schemas.with_field_ids(timed),
                vchannels=tuple(
                    vchannel_name(pchannel, collection_id, shard)
                    for shard, pchannel in enumerate(self._channels.choose(shards))
                ),
                partitions=tuple(
                    PartitionInfo(
                        partition_id=first_partition_id + n, name=name, created_ts=created_ts
                    )
                    for n, name in enumerate(names)
                ),
                consistency_level=consistency_level,
                created_ts=created_ts,
                updated_ts=created_ts,
                properties=filled,
            )
            return Change(put=[CollectionRecord(info=info, state=CollectionState.CREATING)])

        await self._catalog.commit(decide)
        await self.finish_creating(collection_id)
        return self._catalog.tables.collections[collection_id].info

    async def finish_creating(self, collection_id: int) -> None:
        """Do what is left of creating a collection; callers at the same time share the work.

        Raises Unavailable while a streaming node does not answer; the collection then stays in
        the state *creating*, to be finished by the next call.
        """
        future = self._creating.get(collection_id)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            self._creating[collection_id] = future
            self._context.world.tasks.spawn(
                f"create collection {collection_id}", self._create_into(collection_id, future)
            )
        await asyncio.shield(future)

    async def _create_into(self, collection_id: int, future: asyncio.Future[None]) -> None:
        try:
            await self._finish_creating(collection_id)
        except ElanusError as error:
            future.set_exception(error)
            future.exception()  # callers may all be gone; the record tells what is left to do
        else:
            future.set_result(None)
        finally:
            future.cancel()
            del self._creating[collection_id]

    async def _finish_creating(self, collection_id: int) -> None:
        record = self._catalog.tables.collections.get(collection_id)
        if record is None or record.state is not CollectionState.CREATING:
            return
        self._context.world.failpoints.hit("create_collection.after_record")
        await self._channels.open_shards(record.info)
        self._context.world.failpoints.hit("create_collection.before_commit")

        def decide() -> Change | None:
            now = self._catalog.tables.collections.get(collection_id)
            if now is None or now.state is not CollectionState.CREATING:
                return None
            return Change(put=[msgspec.structs.replace(now, state=CollectionState.CREATED)])

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(collection_id)

    def _check_capacity(self, database: str, added: int) -> None:
        limit = self._context.settings.quota_and_limits.limits.max_collection_num
        if len(self._catalog.tables.names) >= limit:
            raise CollectionLimit(database, limit)
        used = self._catalog.tables.capacity
        if used + added > MAX_GENERAL_CAPACITY:
            raise CapacityExceeded(
                f"failed to create collection because of the general capacity exceeded: general "
                f"capacity exceeded[newGeneralCapacity={added}][generalCapacity={used}]"
            )

    async def drop_collection(self, database: str, name: str) -> None:
        """A missing collection is fine. Answers as soon as the collection is hidden."""
        dropped: list[int] = []

        def decide() -> Change | None:
            require_database(self._catalog, database)
            known = self._catalog.tables.names.get((database, name))
            if known is None:
                if alias_target(self._catalog, database, name) is not None:
                    raise Rejected(f"cannot drop the collection via alias = {name}")
                return None
            aliases = aliases_of(self._catalog, known)
            if aliases:
                raise Rejected(
                    f"unable to drop the collection [{name}] because it has associated aliases "
                    f"[{', '.join(aliases)}], please remove all aliases before dropping the "
                    "collection"
                )
            dropped[:] = [known]
            record = self._catalog.tables.collections[known]
            load = self._catalog.tables.loads.get(known)
            return Change(
                put=[msgspec.structs.replace(record, state=CollectionState.DROPPING)],
                delete=[load] if load is not None else [],
            )

        await self._catalog.commit(decide)
        for collection_id in dropped:
            self._context.world.failpoints.hit("drop_collection.after_record")
            self._on_dropped(collection_id)
            self._context.events.metadata_changed(collection_id)
            self.finish_dropping_in_background(collection_id)

    def finish_dropping_in_background(self, collection_id: int) -> None:
        what = f"drop collection {collection_id}"
        self._context.world.tasks.spawn(
            what,
            retry(
                self._context.world,
                what,
                lambda: self._finish_dropping(collection_id),
                attempts=UNBOUNDED,
            ),
        )

    async def _finish_dropping(self, collection_id: int) -> None:
        record = self._catalog.tables.collections.get(collection_id)
        if record is None or record.state is not CollectionState.DROPPING:
            return
        creating = self._creating.get(collection_id)
        if creating is not None:
            await asyncio.wait([creating])
        await self._channels.close_shards(record.info, attempts=UNBOUNDED)
        self._context.world.failpoints.hit("drop_collection.after_close")
        await drop_segments(self._context, self._catalog.segments(collection_id))
        self._context.world.failpoints.hit("drop_collection.after_segments")
        checkpoints = [self._catalog.checkpoint(vchannel) for vchannel in record.info.vchannels]
        rest: list[Record] = [*self._catalog.indexes(collection_id), *checkpoints]
        await self._catalog.commit(lambda: Change(delete=[*rest, record]))
        self._context.events.segments_changed(collection_id)
