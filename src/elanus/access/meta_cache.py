"""What the proxy remembers of collections, so that reads and writes need not ask the coordinator.

An entry is dropped when the coordinator tells of a change, before the change is answered: a client
that changed something never meets its own stale entry. Lookups of one name at the same time share
one call, and a lookup that was under way during a change is not remembered. Nothing is remembered
while ``may_remember`` says no: then changes might not be told.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from elanus.access.lru import LruCache
from elanus.engine.filter.column import JsonPath
from elanus.engine.filter.json_cast import STRING_TO_DOUBLE
from elanus.engine.index.scalar.base import path_of
from elanus.model.catalog import CollectionInfo, DatabaseInfo, IndexInfo, LoadInfo
from elanus.model.types import LoadState
from elanus.runtime.tasks import TaskSupervisor
from elanus.services.interfaces import CoordinatorService

MAX_ENTRIES = 10_000
EVERYTHING = -1

_Key = tuple[str, str]


@dataclass(frozen=True)
class CollectionMeta:
    """A collection, its indexes and its database at one moment."""

    info: CollectionInfo
    indexes: tuple[IndexInfo, ...]
    database: DatabaseInfo

    @cached_property
    def plans(self) -> dict[str, Any]:
        """By method, whatever is worked out of this and holds as long."""
        return {}

    @cached_property
    def index_by_field(self) -> dict[str, IndexInfo]:
        return {index.field_name: index for index in self.indexes}

    @cached_property
    def casts(self) -> frozenset[JsonPath]:
        """The JSON paths where strings that are numbers count as numbers in filters."""
        return frozenset(
            (index.field_name, path_of(index.params["json_path"]))
            for index in self.indexes
            if index.params.get("json_cast_function") == STRING_TO_DOUBLE
        )


class MetaCache:
    """Collections by (database, name or alias)."""

    def __init__(self, coordinator: CoordinatorService, tasks: TaskSupervisor) -> None:
        self._coordinator = coordinator
        self._tasks = tasks
        self._entries: LruCache[_Key, CollectionMeta] = LruCache(MAX_ENTRIES)
        self._loads: LruCache[int, LoadInfo] = LruCache(MAX_ENTRIES)
        self._pending: dict[_Key, asyncio.Future[CollectionMeta]] = {}
        self._changes = 0
        self.may_remember: Callable[[], bool] = lambda: True
        coordinator.on_change(self.invalidate)

    async def collection(self, database: str, name: str) -> CollectionInfo:
        """By name or alias. Raises CollectionNotFound, DatabaseNotFound."""
        return (await self.meta(database, name)).info

    async def meta(self, database: str, name: str) -> CollectionMeta:
        """By name or alias, with its indexes. Raises CollectionNotFound, DatabaseNotFound."""
        key = (database, name)
        found = self._entries.get(key)
        if found is not None and self.may_remember():
            return found
        pending = self._pending.get(key)
        if pending is None:
            pending = asyncio.get_running_loop().create_future()
            pending.add_done_callback(_notice)
            self._pending[key] = pending
            self._tasks.spawn("meta lookup", self._look_up(key, pending, self._changes))
        return await asyncio.shield(pending)

    async def load_info(self, collection_id: int) -> LoadInfo | None:
        """What is loaded. Only what is wholly loaded is remembered: all else is about to change."""
        found = self._loads.get(collection_id)
        if found is not None and self.may_remember():
            return found
        changes = self._changes
        info: LoadInfo | None = await self._coordinator.load_info(collection_id)
        is_settled = changes == self._changes and self.may_remember()
        if info is not None and info.state is LoadState.LOADED and is_settled:
            self._loads.put(collection_id, info)
        return info

    def invalidate(self, collection_id: int) -> None:
        """Forget a collection; EVERYTHING (-1) forgets all. Entries under an alias always go:
        an alias may have moved from another collection."""
        self._changes += 1
        self._pending.clear()
        if collection_id == EVERYTHING:
            self._entries.clear()
            self._loads.clear()
            return
        self._loads.discard(collection_id)
        for key, entry in self._entries.items():
            if entry.info.collection_id == collection_id or entry.info.name != key[1]:
                self._entries.discard(key)

    async def _look_up(
        self, key: _Key, pending: "asyncio.Future[CollectionMeta]", changes: int
    ) -> None:
        try:
            info = await self._coordinator.describe_collection(*key)
            indexes = await self._coordinator.list_indexes(info.collection_id)
            database = await self._coordinator.describe_database(info.database)
        except asyncio.CancelledError:
            pending.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whoever waits for the lookup is told
            if not pending.done():
                pending.set_exception(error)
        else:
            meta = CollectionMeta(info, tuple(indexes), database)
            if changes == self._changes and self.may_remember():
                self._entries.put(key, meta)
            if not pending.done():
                pending.set_result(meta)
        finally:
            if self._pending.get(key) is pending:
                del self._pending[key]


def _notice(pending: "asyncio.Future[CollectionMeta]") -> None:
    # A lookup whose callers are all gone has nobody to tell of its error.
    if not pending.cancelled():
        pending.exception()
