"""Aliases: other names of collections."""

from typing import Any

from elanus.access.context import CallContext
from elanus.access.ddl import names
from elanus.access.proxy import Proxy
from elanus.wire.protocol import milvus
from elanus.wire.status import success


def _names(proxy: Proxy, request: Any) -> tuple[str, str]:
    limit = proxy.settings.proxy.max_name_length
    return (
        names.collection_name(request.collection_name, limit),
        names.alias_name(request.alias, limit),
    )


async def create_alias(proxy: Proxy, request: Any, context: CallContext) -> Any:
    collection, alias = _names(proxy, request)
    await proxy.coordinator.create_alias(context.database, collection, alias)
    return success()


async def drop_alias(proxy: Proxy, request: Any, context: CallContext) -> Any:
    alias = names.alias_name(request.alias, proxy.settings.proxy.max_name_length)
    await proxy.coordinator.drop_alias(context.database, alias)
    return success()


async def alter_alias(proxy: Proxy, request: Any, context: CallContext) -> Any:
    collection, alias = _names(proxy, request)
    await proxy.coordinator.alter_alias(context.database, collection, alias)
    return success()


async def describe_alias(proxy: Proxy, request: Any, context: CallContext) -> Any:
    alias = names.alias_name(request.alias, proxy.settings.proxy.max_name_length)
    collection = await proxy.coordinator.describe_alias(context.database, alias)
    return milvus.DescribeAliasResponse(
        status=success(), db_name=context.database, alias=alias, collection=collection
    )


async def list_aliases(proxy: Proxy, request: Any, context: CallContext) -> Any:
    name = request.collection_name.strip()
    aliases = await proxy.coordinator.list_aliases(context.database, name or None)
    return milvus.ListAliasesResponse(
        status=success(), db_name=context.database, collection_name=name, aliases=aliases
    )


HANDLERS = {
    "CreateAlias": create_alias,
    "DropAlias": drop_alias,
    "AlterAlias": alter_alias,
    "DescribeAlias": describe_alias,
    "ListAliases": list_aliases,
}
