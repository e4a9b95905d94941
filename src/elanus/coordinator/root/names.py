"""From users' names to records: databases, collections and their aliases."""

from elanus.coordinator.catalog import Catalog
from elanus.coordinator.records import CollectionState
from elanus.errors import CollectionNotFound, DatabaseNotFound
from elanus.model.catalog import CollectionInfo, DatabaseInfo


def require_database(catalog: Catalog, name: str) -> DatabaseInfo:
    """Raises DatabaseNotFound."""
    database = catalog.tables.databases.get(name)
    if database is None:
        raise DatabaseNotFound(name)
    return database


def by_name(catalog: Catalog, database: str, name: str) -> CollectionInfo | None:
    """The visible collection with exactly this name. Raises DatabaseNotFound."""
    require_database(catalog, database)
    collection_id = catalog.tables.names.get((database, name))
    return None if collection_id is None else catalog.collection(collection_id)


def alias_target(catalog: Catalog, database: str, alias: str) -> CollectionInfo | None:
    """The visible collection that an alias stands for."""
    record = catalog.tables.aliases.get((database, alias))
    return None if record is None else catalog.collection(record.collection_id)


def resolve(catalog: Catalog, database: str, name: str) -> CollectionInfo:
    """The collection with this name or alias. Raises DatabaseNotFound, CollectionNotFound."""
    found = by_name(catalog, database, name) or alias_target(catalog, database, name)
    if found is None:
        raise CollectionNotFound(database, name)
    return found


def resolve_id(catalog: Catalog, collection_id: int) -> CollectionInfo:
    """Raises CollectionNotFound."""
    found = catalog.collection(collection_id)
    if found is None:
        raise CollectionNotFound("", collection_id)
    return found


def require_known(catalog: Catalog, collection_id: int) -> CollectionInfo:
    """As :func:`resolve_id`, for other roles: a collection that is being created counts too."""
    record = catalog.tables.collections.get(collection_id)
    if record is None or record.state is CollectionState.DROPPING:
        raise CollectionNotFound("", collection_id)
    return record.info


def aliases_of(catalog: Catalog, collection_id: int) -> list[str]:
    """A collection's aliases in alphabetical order."""
    return sorted(
        record.alias
        for record in catalog.tables.aliases.values()
        if record.collection_id == collection_id
    )
