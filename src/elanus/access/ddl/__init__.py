"""Handlers of everything but reading and writing rows."""

from elanus.access.ddl import (
    aliases,
    alter,
    analyzers,
    collections,
    databases,
    flushing,
    indexes,
    loading,
    partitions,
    resource_groups,
    segments,
    server,
)

HANDLERS = {
    **server.HANDLERS,
    **databases.HANDLERS,
    **collections.HANDLERS,
    **alter.HANDLERS,
    **partitions.HANDLERS,
    **aliases.HANDLERS,
    **indexes.HANDLERS,
    **loading.HANDLERS,
    **resource_groups.HANDLERS,
    **flushing.HANDLERS,
    **segments.HANDLERS,
    **analyzers.HANDLERS,
}
"""Method name → handler, for :class:`elanus.access.dispatch.Dispatcher`."""
