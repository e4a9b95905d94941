"""Aliases: other names for collections, moved from one to another in one step."""

from elanus.coordinator.catalog import Change
from elanus.coordinator.context import EVERYTHING, Context
from elanus.coordinator.records import AliasRecord
from elanus.coordinator.root.names import aliases_of, by_name, require_database
from elanus.errors import (
    AliasConflict,
    AliasExists,
    AliasNotFound,
    CollectionNotFound,
    InputError,
)
from elanus.model.catalog import CollectionInfo


class _NoSuchCollection(CollectionNotFound):
    """The text that ListAliases has."""

    def __init__(self, collection: str) -> None:
        InputError.__init__(self, f"collection not found[collection={collection}]")


class Aliases:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._catalog = context.catalog

    async def create_alias(self, database: str, collection: str, alias: str) -> None:
        """The same again succeeds. Raises AliasExists, AliasConflict, CollectionNotFound."""

        def decide() -> Change | None:
            target = self._target(database, collection)
            if by_name(self._catalog, database, alias) is not None:
                raise AliasConflict(f"{alias} is the name of a collection", database, alias)
            known = self._catalog.tables.aliases.get((database, alias))
            if known is not None and known.collection_id != target.collection_id:
                other = self._catalog.collection(known.collection_id)
                name = other.name if other is not None else str(known.collection_id)
                raise AliasExists(
                    f"{alias} is alias to another collection: {name}", database, alias
                )
            return _point(database, alias, target)

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(EVERYTHING)

    async def drop_alias(self, database: str, alias: str) -> None:
        """A missing alias is fine."""

        def decide() -> Change | None:
            require_database(self._catalog, database)
            known = self._catalog.tables.aliases.get((database, alias))
            return None if known is None else Change(delete=[known])

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(EVERYTHING)

    async def alter_alias(self, database: str, collection: str, alias: str) -> None:
        """Raises AliasNotFound, CollectionNotFound."""

        def decide() -> Change:
            target = self._target(database, collection)
            if by_name(self._catalog, database, alias) is not None:
                raise AliasConflict(f"{alias} is the name of a collection", database, alias)
            if (database, alias) not in self._catalog.tables.aliases:
                raise AliasNotFound(database, alias)
            return _point(database, alias, target)

        await self._catalog.commit(decide)
        self._context.events.metadata_changed(EVERYTHING)

    async def describe_alias(self, database: str, alias: str) -> str:
        """The collection's name. Raises AliasNotFound."""
        require_database(self._catalog, database)
        known = self._catalog.tables.aliases.get((database, alias))
        info = None if known is None else self._catalog.collection(known.collection_id)
        if info is None:
            raise AliasNotFound(database, alias)
        return info.name

    async def list_aliases(self, database: str, collection: str | None) -> list[str]:
        """All of the database's without a collection. Alphabetical."""
        require_database(self._catalog, database)
        if not collection:
            return sorted(alias for name, alias in self._catalog.tables.aliases if name == database)
        info = by_name(self._catalog, database, collection)
        if info is None:
            raise _NoSuchCollection(collection)
        return aliases_of(self._catalog, info.collection_id)

    def _target(self, database: str, collection: str) -> CollectionInfo:
        info = by_name(self._catalog, database, collection)
        if info is None:
            raise CollectionNotFound(database, collection)
        return info


def _point(database: str, alias: str, target: CollectionInfo) -> Change:
    record = AliasRecord(database=database, alias=alias, collection_id=target.collection_id)
    return Change(put=[record])
