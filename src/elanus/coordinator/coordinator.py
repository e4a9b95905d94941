"""The coordinator: one object that offers ``services.interfaces.CoordinatorService``.

It only puts the parts together and passes requests on. Start: load the metadata → finish what a
crash interrupted (collections being created or dropped, segments of dropped partitions, parts of
dropped indexes) → open the logs of existing shards → restore what was loaded. Everything after
that is driven by requests and by the events of ``context.Events``.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

import structlog

from elanus.config.settings import Settings
from elanus.coordinator.catalog import Catalog
from elanus.coordinator.context import Context
from elanus.coordinator.data.compaction import Compactor
from elanus.coordinator.data.definitions import IndexDefinitions
from elanus.coordinator.data.garbage import GarbageCollector
from elanus.coordinator.data.imports import Imports
from elanus.coordinator.data.index_tasks import IndexTasks
from elanus.coordinator.data.segments import Segments
from elanus.coordinator.dropping import drop_orphans
from elanus.coordinator.query.holdings import Holdings
from elanus.coordinator.query.loads import Loads
from elanus.coordinator.query.resource_groups import ResourceGroups
from elanus.coordinator.quotas import QuotaCentre
from elanus.coordinator.records import ID_KEY, TIMESTAMP_KEY, CollectionState
from elanus.coordinator.retry import UNBOUNDED, retry
from elanus.coordinator.root.aliases import Aliases
from elanus.coordinator.root.alterations import Alterations
from elanus.coordinator.root.collections import Collections
from elanus.coordinator.root.databases import Databases
from elanus.coordinator.root.names import require_database, resolve, resolve_id
from elanus.coordinator.root.partitions import Partitions
from elanus.coordinator.streaming.channels import Channels
from elanus.coordinator.tso import Allocator
from elanus.errors import ElanusError, Unavailable
from elanus.model.catalog import CollectionInfo, SegmentInfo
from elanus.runtime.world import World
from elanus.services.routing import Router
from elanus.storage.meta.base import MetaStore
from elanus.storage.objects.base import ObjectStore

log = structlog.get_logger(__name__)

_BALANCE_PAUSE_S = 1.0


class _Parts:
    """The parts and how they hear of each other."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.channels = Channels(context)
        self.loads = Loads(context, self.channels)
        self.resource_groups = ResourceGroups(context, self.loads)
        self.holdings = Holdings(context, self.loads)
        self.databases = Databases(context)
        self.collections = Collections(context, self.channels, self.loads.stop)
        self.alterations = Alterations(context, self.channels)
        self.partitions = Partitions(context, self.channels)
        self.aliases = Aliases(context)
        self.segments = Segments(context, self.channels)
        self.definitions = IndexDefinitions(context, self.channels)
        self.compactor = Compactor(context)
        self.index_tasks = IndexTasks(context, self.compactor.is_compacting)
        self.imports = Imports(context, self.compactor, self.loads)
        self.quotas = QuotaCentre(context, self.loads)
        self.garbage = GarbageCollector(context, self._is_in_use, self._outputs)
        context.events.segments += [
            self.compactor.consider,
            self.index_tasks.consider,
            self.loads.wake,
        ]
        context.events.damaged.append(self.index_tasks.rebuild)

    def _is_in_use(self, segment: SegmentInfo) -> bool:
        return (
            self.loads.holds(segment)
            or segment.segment_id in self.compactor.busy()
            or any(part[1] == segment.segment_id for part in self.index_tasks.running())
        )

    def _outputs(self) -> frozenset[int]:
        indexing = (segment_id for _, segment_id, _ in self.index_tasks.running())
        return frozenset(self.compactor.busy()).union(indexing, self.imports.outputs())


class Coordinator:
    """Create, ``await start()``, use, ``await close()``.

    ``router`` is not used before ``start``. Background work runs in ``world.tasks``.
    """

    def __init__(
        self,
        world: World,
        settings: Settings,
        *,
        meta: MetaStore,
        objects: ObjectStore,
        router: Router,
    ) -> None:
        self._world = world
        self._catalog = Catalog(meta)
        self._timestamps = Allocator(meta, world.clock, TIMESTAMP_KEY)
        self._ids = Allocator(meta, world.clock, ID_KEY)
        context = Context(
            world=world,
            catalog=self._catalog,
            timestamps=self._timestamps,
            ids=self._ids,
            router=router,
            objects=objects,
            settings=settings,
        )
        self._context = context
        self._balancing: asyncio.Task[None] | None = None
        self._balance_again = False
        self._has_metadata = False
        parts = self._parts = _Parts(context)

        self.allocate_timestamps = self._timestamps.allocate
        self.allocate_ids = self._ids.allocate
        self.create_database = parts.databases.create_database
        self.drop_database = parts.databases.drop_database
        self.list_databases = parts.databases.list_databases
        self.describe_database = parts.databases.describe_database
        self.alter_database = parts.databases.alter_database
        self.create_collection = parts.collections.create_collection
        self.drop_collection = parts.collections.drop_collection
        self.rename_collection = parts.alterations.rename_collection
        self.alter_collection = parts.alterations.alter_collection
        self.alter_field = parts.alterations.alter_field
        self.add_field = parts.alterations.add_field
        self.create_partition = parts.partitions.create_partition
        self.drop_partition = parts.partitions.drop_partition
        self.create_alias = parts.aliases.create_alias
        self.drop_alias = parts.aliases.drop_alias
        self.alter_alias = parts.aliases.alter_alias
        self.describe_alias = parts.aliases.describe_alias
        self.list_aliases = parts.aliases.list_aliases
        self.create_index = parts.definitions.create_index
        self.drop_index = parts.definitions.drop_index
        self.alter_index = parts.definitions.alter_index
        self.list_indexes = parts.definitions.list_indexes
        self.load = parts.loads.load
        self.release = parts.loads.release
        self.load_info = parts.loads.load_info
        self.loaded = parts.loads.loaded
        self.create_resource_group = parts.resource_groups.create_resource_group
        self.update_resource_groups = parts.resource_groups.update_resource_groups
        self.drop_resource_group = parts.resource_groups.drop_resource_group
        self.list_resource_groups = parts.resource_groups.list_resource_groups
        self.describe_resource_group = parts.resource_groups.describe_resource_group
        self.transfer_nodes = parts.resource_groups.transfer_nodes
        self.transfer_replicas = parts.resource_groups.transfer_replicas
        self.recovery = parts.segments.recovery
        self.commit_flush = parts.segments.commit_flush
        self.list_segments = parts.segments.list_segments
        self.flush = parts.segments.flush
        self.is_flushed = parts.segments.is_flushed
        self.compact = parts.compactor.compact
        self.compaction_plans = parts.compactor.plans
        self.create_import = parts.imports.create_import
        self.import_job = parts.imports.import_job
        self.import_jobs = parts.imports.import_jobs
        self.quota_notice = parts.quotas.notice

    async def load_metadata(self) -> None:
        """The first part of the start, after which requests can be answered. Raises Unavailable or
        CorruptData if the metadata can't be read."""
        await self._catalog.load()
        await self._timestamps.start()
        await self._ids.start()
        await self._parts.databases.ensure_default()
        self._has_metadata = True

    async def start(self) -> None:
        """Recover. Returns when every log has been opened or is being retried in the background.

        Raises what ``load_metadata`` raises, if that was not called before.
        """
        if not self._has_metadata:
            await self.load_metadata()
        _, held, _ = await asyncio.gather(
            self._open_logs(),
            self._parts.holdings.all_held(),
            self._parts.loads.nodes.refresh(),
        )
        await self._parts.loads.restore(held)
        for info in self._catalog.collections(CollectionState.CREATING):
            self._world.tasks.spawn(
                f"finish creating {info.name}", self._finish_creating(info.collection_id)
            )
        for info in self._catalog.collections(CollectionState.DROPPING):
            self._parts.collections.finish_dropping_in_background(info.collection_id)
        for info in self._catalog.collections(CollectionState.CREATED):
            await drop_orphans(self._context, info.collection_id)
            self._context.events.segments_changed(info.collection_id)
            await asyncio.sleep(0)  # there may be very many
        self._parts.imports.start()
        self._world.tasks.spawn("garbage collection", self._parts.garbage.run_for_ever())
        self._world.tasks.spawn("holdings", self._parts.holdings.compare_for_ever())

    async def close(self) -> None:
        """Give back the unused timestamps. Ending ``world.tasks`` is the composition's business."""
        try:
            await self._timestamps.close()
            await self._ids.close()
        except Unavailable as error:
            # The next run begins a few seconds ahead of the clock, which harms nobody.
            log.info("unused timestamps not given back", reason=error.message)

    async def _open_logs(self) -> None:
        vchannels = list(filter(None, map(self._first_shard, self._catalog.tables.vchannels)))
        outcomes = await asyncio.gather(
            *map(self._parts.channels.ensure_open, vchannels), return_exceptions=True
        )
        for vchannel, outcome in zip(vchannels, outcomes, strict=True):
            if isinstance(outcome, ElanusError):
                log.error("a log can't be opened yet", vchannel=vchannel, reason=outcome.message)
                self._world.tasks.spawn(f"open the log of {vchannel}", self._open_later(vchannel))
            elif isinstance(outcome, BaseException):
                raise outcome

    def _first_shard(self, pchannel: str) -> str | None:
        """A shard that needs the pchannel to be open."""
        return next((vchannel for vchannel, _ in self._catalog.vchannels_on(pchannel)), None)

    async def _open_later(self, vchannel: str) -> None:
        # All of it is repeated, the new term's commit too: that needs room for metadata.
        await retry(
            self._world,
            f"open the log of {vchannel}",
            lambda: self._parts.channels.ensure_open(vchannel, attempts=1),
            attempts=UNBOUNDED,
        )

    async def _finish_creating(self, collection_id: int) -> None:
        await retry(
            self._world,
            f"create collection {collection_id}",
            lambda: self._parts.collections.finish_creating(collection_id),
            attempts=UNBOUNDED,
        )

    def streaming_nodes_changed(self, alive: Collection[int], taking: Collection[int]) -> None:
        """Streaming nodes came or went. ``taking``: those of ``alive`` that aren't stopping.

        The logs of lost nodes are opened at the next term on others, and their views pushed again.
        The logs of nodes that are stopping move, and so does what others have too much of.
        """
        lost = self._parts.channels.lose_nodes(alive)
        if lost:
            log.warning("owners lost, logs move", pchannels=lost)
            self._parts.loads.logs_moved(lost)
            self._open_in_background(lost)
        if self._balancing is None or self._balancing.done():
            self._balancing = self._world.tasks.spawn("balance logs", self._balance())
        else:
            self._balance_again = True

    def _open_in_background(self, pchannels: Sequence[str]) -> None:
        for pchannel in pchannels:
            vchannel = self._first_shard(pchannel)
            if vchannel is not None:
                self._world.tasks.spawn(f"open {pchannel}", self._open_later(vchannel))

    async def _balance(self) -> None:
        while True:
            self._balance_again = False
            pchannel = self._parts.channels.misplaced(await self._context.router.streaming_nodes())
            if pchannel is not None:
                try:
                    await self._parts.channels.move(pchannel)
                except ElanusError as error:
                    log.warning("log not moved", pchannel=pchannel, reason=error.message)
                    self._open_in_background([pchannel])
                    await self._world.clock.sleep(_BALANCE_PAUSE_S)
                self._parts.loads.logs_moved([pchannel])
            elif not self._balance_again:
                return

    def query_nodes_changed(self) -> None:
        """Query nodes came, went, or are stopping."""
        self._parts.loads.query_nodes_changed()

    def data_nodes_changed(self, count: int) -> None:
        """So many data nodes take tasks now: each may have an index build, a compaction and
        an import."""
        self._parts.index_tasks.run_at_most(max(1, count))
        self._parts.compactor.run_at_most(max(1, count))
        self._parts.imports.run_at_most(max(1, count))

    # --- plain look-ups -------------------------------------------------------------------------

    async def describe_collection(self, database: str, name: str) -> CollectionInfo:
        """By name or alias. Raises CollectionNotFound, DatabaseNotFound."""
        return resolve(self._catalog, database, name)

    async def describe_collection_by_id(self, collection_id: int) -> CollectionInfo:
        return resolve_id(self._catalog, collection_id)

    async def list_collections(self, database: str) -> list[CollectionInfo]:
        """By id, which is the order of creation."""
        require_database(self._catalog, database)
        created = self._catalog.collections(CollectionState.CREATED)
        return [info for info in created if info.database == database]

    def on_change(self, listener: Callable[[int], None]) -> None:
        self._context.events.metadata.append(listener)

    async def collect_garbage(self) -> int:
        """Now, without the grace time for dropped segments."""
        return await self._parts.garbage.collect(grace_s=0)
