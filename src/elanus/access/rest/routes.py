"""The table of routes: what is served, and what is known but not served yet."""

from collections.abc import Awaitable, Callable
from typing import Any

from elanus.access.rest import (
    aliases,
    analyzers,
    collections,
    creation,
    databases,
    entities,
    imports,
    indexes,
    partitions,
    resource_groups,
    search,
)
from elanus.access.rest.call import RestCall

PREFIX = "/v2/vectordb/"

Route = Callable[[RestCall], Awaitable[dict[str, Any]]]
"""Gives the answer without its ``code``: ``data`` and whatever stands beside it."""

ROUTES: dict[str, Route] = {
    **databases.ROUTES,
    **collections.ROUTES,
    **creation.ROUTES,
    **partitions.ROUTES,
    **aliases.ROUTES,
    **indexes.ROUTES,
    **resource_groups.ROUTES,
    **entities.ROUTES,
    **search.ROUTES,
    **analyzers.ROUTES,
    **imports.ROUTES,
}

_UNIMPLEMENTED = {
    "collections": (
        "add_function", "alter_function", "drop_function", "add_function_field",
        "drop_function_field", "fields/drop", "struct_fields/add",
    ),
    "users": (
        "list", "describe", "create", "update_password", "drop", "grant_role", "revoke_role",
    ),
    "roles": (
        "list", "describe", "create", "drop", "alter", "grant_privilege", "revoke_privilege",
        "grant_privilege_v2", "revoke_privilege_v2",
    ),
    "privilege_groups": (
        "create", "drop", "list", "add_privileges_to_group", "remove_privileges_from_group",
    ),
    "jobs/import": ("commit", "abort"),
    "jobs/snapshot": ("create", "list", "describe", "drop", "restore"),
    "jobs/external_collection": ("create", "list", "describe"),
    "segments": ("describe",),
    "quotacenter": ("describe",),
    "file_resources": ("add", "list", "remove"),
}  # fmt: skip

UNIMPLEMENTED = frozenset(
    f"{group}/{name}" for group, names in _UNIMPLEMENTED.items() for name in names
)
"""Routes of Milvus that answer that they are not there yet."""
