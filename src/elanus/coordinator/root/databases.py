"""Databases: named groups of collections. ``default`` always exists."""

import msgspec

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import EVERYTHING, Context
from elanus.coordinator.root.names import require_database
from elanus.coordinator.root.properties import changed_properties
from elanus.errors import DatabaseLimit, Rejected
from elanus.model.catalog import DEFAULT_DATABASE, DatabaseInfo
from elanus.model.quotas import check_quota_properties

DEFAULT_DATABASE_ID = 1


class Databases:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._catalog = context.catalog

    async def ensure_default(self) -> None:
        """The first start of a store makes the default database."""
        created_ts = await self._context.timestamps.allocate()

        def decide() -> Change | None:
            if DEFAULT_DATABASE in self._catalog.tables.databases:
                return None
            info = DatabaseInfo(
                database_id=DEFAULT_DATABASE_ID, name=DEFAULT_DATABASE, created_ts=created_ts
            )
            return Change(put=[info])

        await self._catalog.commit(decide)

    async def create_database(self, name: str, properties: dict[str, str]) -> None:
        check_quota_properties(properties)
        database_id = await self._context.ids.allocate()
        created_ts = await self._context.timestamps.allocate()
        limit = self._context.settings.root_coord.max_database_num

        def decide() -> Change:
            databases = self._catalog.tables.databases
            if name in databases:
                raise Rejected(f"database already exist: {name}")
            if len(databases) >= limit:
                raise DatabaseLimit(f"exceeded the limit number of database[limit={limit}]")
            info = DatabaseInfo(
                database_id=database_id, name=name, created_ts=created_ts, properties=properties
            )
            return Change(put=[info])

        await self._catalog.commit(decide)

    async def drop_database(self, name: str) -> None:
        """A missing database is fine. Raises Rejected while it has collections."""

        def decide() -> Change | None:
            if name == DEFAULT_DATABASE:
                raise Rejected("can not drop default database")
            info = self._catalog.tables.databases.get(name)
            if info is None:
                return None
            if any(database == name for database, _ in self._catalog.tables.names):
                raise Rejected(
                    f"database:{name} not empty, must drop all collections before drop database"
                )
            return Change(delete=[info])

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(EVERYTHING)

    async def list_databases(self) -> list[DatabaseInfo]:
        """In the order of their creation."""
        return sorted(self._catalog.tables.databases.values(), key=lambda info: info.created_ts)

    async def describe_database(self, name: str) -> DatabaseInfo:
        return require_database(self._catalog, name)

    async def alter_database(
        self, name: str, properties: dict[str, str], delete_keys: list[str]
    ) -> None:
        check_quota_properties(properties)

        def decide() -> Change:
            info = require_database(self._catalog, name)
            changed = changed_properties(info.properties, properties, delete_keys)
            return Change(put=[msgspec.structs.replace(info, properties=changed)])

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(EVERYTHING)
