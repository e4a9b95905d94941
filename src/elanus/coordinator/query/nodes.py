"""The query nodes, the resource groups that they are in, and how full they will be.

The router is asked again whenever a shard plans; as long as it says the same nothing is done. A
change of nodes or of groups is assigned anew at once, in memory, and told to the listeners; that
the groups' records remember the nodes follows in the background.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from elanus.coordinator.catalog import MAX_CHANGES, Change, in_batches
from elanus.coordinator.context import Context
from elanus.coordinator.query.fullness import Fullness
from elanus.coordinator.query.groups import DEFAULT_CONFIG, assign
from elanus.coordinator.records import ResourceGroupRecord
from elanus.coordinator.retry import UNBOUNDED, retry
from elanus.model.resource_groups import (
    DEFAULT_RESOURCE_GROUP,
    QueryNodeInfo,
    ResourceGroupConfig,
)

BY_ROWS = "RowCountBasedBalancer"


class QueryNodes:
    """See the module. A listener gets the ids of nodes that left their group."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._tables = context.catalog.tables
        self._seen: Sequence[QueryNodeInfo] | None = None
        self._infos: dict[int, QueryNodeInfo] = {}
        self._members: dict[str, list[int]] | None = None
        self._storing: asyncio.Task[None] | None = None
        self.version = 0
        """Grows with every change of nodes or groups."""

        self.fullness = Fullness(by_rows=context.settings.query_coord.balancer == BY_ROWS)
        self.listeners: list[Callable[[set[int]], None]] = []

    async def refresh(self) -> None:
        """Learn which nodes there are."""
        infos = await self._context.router.query_node_infos()
        if infos is not self._seen and infos != self._seen:
            self._infos = {info.node_id: info for info in infos}
            self._assign()
        self._seen = infos

    def regroup(self) -> None:
        """Groups were made, changed or dropped."""
        self._assign()

    def configs(self) -> dict[str, ResourceGroupConfig]:
        """Of all groups, by name."""
        records = self._tables.resource_groups
        stored = {name: record.config for name, record in sorted(records.items())}
        return {DEFAULT_RESOURCE_GROUP: DEFAULT_CONFIG, **stored}

    def members(self, group: str) -> list[QueryNodeInfo]:
        """The nodes of a group that take segments, by id."""
        return [self._infos[node_id] for node_id in (self._members or {}).get(group, ())]

    @property
    def serving(self) -> dict[int, QueryNodeInfo]:
        """Every node that is alive, those that are stopping included."""
        return self._infos

    @property
    def is_empty(self) -> bool:
        return not any((self._members or {}).values())

    def _assign(self) -> None:
        self.version += 1
        if self._members is None:
            records = self._tables.resource_groups.items()
            self._members = {name: list(record.node_ids) for name, record in records}
        taking = {n: info for n, info in self._infos.items() if not info.is_stopping}
        before = {n: name for name, held in self._members.items() for n in held}
        self._members = assign(self.configs(), self._members, taking)
        now = {n: name for name, held in self._members.items() for n in held}
        self.fullness.set_nodes({name: self.members(name) for name in self._members})
        left = {node_id for node_id, name in before.items() if now.get(node_id) != name}
        if self._unstored() and (self._storing is None or self._storing.done()):
            self._storing = self._context.world.tasks.spawn("store groups", self._store())
        for listener in self.listeners:
            listener(left)

    def _unstored(self) -> list[ResourceGroupRecord]:
        return [
            msgspec.structs.replace(record, node_ids=tuple((self._members or {}).get(name, ())))
            for name, record in sorted(self._tables.resource_groups.items())
            if name != DEFAULT_RESOURCE_GROUP
            and record.node_ids != tuple((self._members or {}).get(name, ()))
        ]

    async def _store(self) -> None:
        while self._unstored():
            for batch in in_batches(self._unstored(), MAX_CHANGES):
                names = {record.name for record in batch}

                def decide(names: set[str] = names) -> Change:
                    return Change(put=[r for r in self._unstored() if r.name in names])

                await retry(
                    self._context.world,
                    "storing the nodes of resource groups",
                    lambda decide=decide: self._context.catalog.commit(decide),  # type: ignore[misc]
                    attempts=UNBOUNDED,
                )
