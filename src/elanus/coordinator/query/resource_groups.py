"""What users do with resource groups. Each change is one transaction; then nodes are assigned anew,
and loaded collections follow in the background."""

from collections import Counter
from collections.abc import Callable, Mapping

import msgspec

from elanus.coordinator.catalog import MAX_CHANGES, Catalog, Change
from elanus.coordinator.context import Context
from elanus.coordinator.query.groups import (
    check_config,
    check_droppable,
    transferred,
)
from elanus.coordinator.query.loads import Loads
from elanus.coordinator.records import ResourceGroupRecord
from elanus.errors import (
    InvalidParameter,
    ParameterTooLarge,
    ResourceGroupExists,
    ResourceGroupLimit,
    ResourceGroupNodeNotEnough,
    ResourceGroupNotFound,
)
from elanus.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    ResourceGroupConfig,
    ResourceGroupInfo,
)


class ResourceGroups:
    def __init__(self, context: Context, loads: Loads) -> None:
        self._context = context
        self._catalog: Catalog = context.catalog
        self._loads = loads
        self._nodes = loads.nodes

    async def create_resource_group(self, name: str, config: ResourceGroupConfig) -> None:
        """Raises ResourceGroupExists, ResourceGroupLimit, ResourceGroupIllegalConfig."""
        limit = self._context.settings.quota_and_limits.limits.max_resource_group_num_of_query_node

        def decide() -> Change | None:
            configs = self._nodes.configs()
            if name in configs:
                if configs[name] != config:
                    raise ResourceGroupExists(name)
                return None
            if len(configs) >= limit:
                raise ResourceGroupLimit(name, limit)
            check_config(name, config, configs)
            return Change(put=[ResourceGroupRecord(name=name, config=config)])

        await self._change(decide)

    async def update_resource_groups(self, configs: Mapping[str, ResourceGroupConfig]) -> None:
        """Raises ResourceGroupNotFound, ResourceGroupIllegalConfig, ParameterTooLarge."""
        if len(configs) > MAX_CHANGES:
            raise ParameterTooLarge(
                f"{len(configs)} resource groups can't be changed at once, at most {MAX_CHANGES}"
            )
        await self._change(lambda: self._updated(configs))

    async def transfer_nodes(self, source: str, target: str, count: int) -> None:
        """Raises ResourceGroupNotFound, ResourceGroupNodeNotEnough, InvalidParameter."""
        _check_pair(source, target)
        if count <= 0:
            raise InvalidParameter(
                f"invalid NumNode {count}", expected="NumNode > 0", actual=str(count)
            )
        await self._nodes.refresh()

        def decide() -> Change:
            configs = self._nodes.configs()
            _require(configs, source, target)
            available = len(self._nodes.members(source))
            if available < count:
                raise ResourceGroupNodeNotEnough(source, available, count)
            return self._updated(transferred(configs, source, target, count))

        await self._change(decide)

    async def transfer_replicas(
        self, source: str, target: str, collection_id: int, count: int
    ) -> None:
        """Raises CollectionNotFound, ResourceGroupNotFound, ResourceGroupNodeNotEnough,
        InvalidParameter."""
        await self._nodes.refresh()
        _require(self._nodes.configs(), source, target)
        _check_pair(source, target)
        if count <= 0:
            raise InvalidParameter(
                f"invalid NumReplica {count}", expected="NumReplica > 0", actual=str(count)
            )
        await self._loads.transfer_replicas(source, target, collection_id, count)

    async def drop_resource_group(self, name: str) -> None:
        """Raises InvalidParameter if it may have nodes, or replicas or other groups refer to it."""

        def decide() -> Change | None:
            configs = self._nodes.configs()
            if name not in configs:
                return None
            loads = self._catalog.tables.loads.values()
            loaded = [load.collection_id for load in loads if name in load.copies()]
            if loaded and name != DEFAULT_RESOURCE_GROUP:
                raise InvalidParameter(
                    f"some replicas still loaded in resource group, collections {loaded}",
                    expected="empty resource group",
                    actual=name,
                )
            check_droppable(name, configs)
            return Change(delete=[self._catalog.tables.resource_groups[name]])

        await self._change(decide)

    async def list_resource_groups(self) -> list[str]:
        """By name."""
        return sorted(self._nodes.configs())

    async def describe_resource_group(self, name: str) -> ResourceGroupInfo:
        """Raises ResourceGroupNotFound."""
        await self._nodes.refresh()
        configs = self._nodes.configs()
        _require(configs, name)
        loads = self._catalog.tables.loads
        outgoing: Counter[int] = Counter()
        incoming: Counter[int] = Counter()
        for shard in self._loads.unsettled():
            load = loads.get(shard.collection_id)
            if load is None:
                continue
            groups = [self._nodes.fullness.group_of(node_id) for node_id in shard.node_ids()]
            if name in load.copies():
                outgoing[shard.collection_id] += sum(group != name for group in groups)
            else:
                incoming[shard.collection_id] += sum(group == name for group in groups)
        return ResourceGroupInfo(
            name=name,
            config=configs[name],
            nodes=tuple(self._nodes.members(name)),
            loaded_replicas={
                collection_id: count
                for collection_id, load in sorted(loads.items())
                if (count := load.copies().get(name, 0))
            },
            outgoing_nodes=dict(+outgoing),
            incoming_nodes=dict(+incoming),
        )

    async def _change(self, decide: Callable[[], Change | None]) -> None:
        await self._nodes.refresh()
        await self._catalog.commit(decide)
        self._nodes.regroup()

    def _updated(self, wanted: Mapping[str, ResourceGroupConfig]) -> Change:
        configs = self._nodes.configs()
        _require(configs, *wanted)
        known = self._catalog.tables.resource_groups
        for name, config in wanted.items():
            check_config(name, config, configs)
        return Change(
            put=[
                msgspec.structs.replace(known[name], config=config)
                if name in known
                else ResourceGroupRecord(name=name, config=config)
                for name, config in wanted.items()
            ]
        )


def _require(configs: Mapping[str, ResourceGroupConfig], *names: str) -> None:
    for name in names:
        if name not in configs:
            raise ResourceGroupNotFound(name)


def _check_pair(source: str, target: str) -> None:
    if source == target:
        raise InvalidParameter(
            "source resource group and target resource group should not be the same, "
            f"resource group: {source}"
        )
